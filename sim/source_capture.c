/* Source `capture`: Q, K, V recorded from a model, in a safetensors file.
 *
 * Tensors layer.N.k, layer.N.v [tokens, kv_heads, d] and layer.N.q [queries, q_heads, d], rotary applied, in F16,
 * BF16, F32 or F64; query_positions [queries] integers, ascending; token_ids optional; metadata `blocks` (JSON
 * array of name, kind, start, end) and optionally `scale`. */
#include <string.h>
#include "source_capture.h"

struct capture_config {
	char path[IKV_OPT_STRING_BYTES], layers[IKV_OPT_STRING_BYTES];
};

static const struct ikv_option options[] = {
    {"path", IKV_OPT_STRING, offsetof(struct capture_config, path), "", 0, 0, NULL, "safetensors file to read"},
    {"layers", IKV_OPT_STRING, offsetof(struct capture_config, layers), "", 0, 0, NULL,
     "layer numbers to use, as 3,5,7; empty: all that are recorded"},
    IKV_OPTION_END};

extern const struct source_ops source_capture;

static struct capture *self(struct source *s)
{
	return (struct capture *)s;
}

static void capture_close(struct source *s)
{
	struct capture *c = self(s);
	for (uint32_t i = 0; c->layers && i < c->geometry.layers; i++) {
		ikv_free(c->layers[i].k);
		ikv_free(c->layers[i].v);
		ikv_free(c->layers[i].q);
		keys_free(&c->layers[i].keys);
	}
	for (uint32_t i = 0; i < c->block_count; i++)
		ikv_free(c->blocks[i].name);
	ikv_free(c->layers);
	ikv_free(c->positions);
	ikv_free(c->blocks);
	ikv_free(c->lengths);
	ikv_free(c->weights);
	ikv_free(c->mass);
	ikv_free(c);
}

static int capture_open(struct source **out, const void *config, struct source_setup *setup, struct ikv_err *err)
{
	const struct capture_config *cfg = config;
	struct safetensors *f;
	struct source_setup mine = *setup;
	if (!*cfg->path)
		return ikv_err_set(err, IKV_BAD_INPUT, "path: the capture source needs the path of its file");
	struct capture *c = ikv_alloc(1, sizeof *c, err);
	if (!c)
		return -1;
	c->ops = &source_capture;
	c->geometry = setup->geometry;
	c->sequences = setup->sequences ? setup->sequences : 1;
	strcpy(c->path, cfg->path);
	if (safetensors_open(&f, cfg->path, err)) {
		capture_close((struct source *)c);
		return -1;
	}
	int rc = source_capture_load(c, f, cfg->layers, &mine, err);
	safetensors_close(f);
	if (rc) {
		capture_close((struct source *)c);
		return -1;
	}
	mine.geometry = c->geometry;
	*setup = mine;
	*out = (struct source *)c;
	return 0;
}

/* One event for tokens [at, end) that lie in `b` (NULL: in no block). */
static int push_piece(struct session *s, const struct capture_block *b, uint32_t at, uint32_t end, bool decode,
		      struct ikv_err *err)
{
	struct session_event *e = session_push(s, decode ? SESSION_DECODE : SESSION_APPEND, err);
	if (!e)
		return -1;
	e->kind = b ? b->kind : IKV_KIND_OTHER;
	e->unowned = !b && !decode;
	e->tokens = end - at;
	e->confidence = 1;
	if (!b)
		return 0;
	/* A block cut into pieces keeps its name with the piece's first token: names stay unique. */
	size_t n = strlen(b->name);
	e->name = ikv_alloc(n + 16, 1, err);
	if (!e->name)
		return -1;
	memcpy(e->name, b->name, n);
	if (at == b->start)
		return 0;
	char digits[12];
	int d = 0;
	for (uint32_t v = at; d == 0 || v; v /= 10)
		digits[d++] = (char)('0' + v % 10);
	e->name[n++] = '@';
	while (d)
		e->name[n++] = digits[--d];
	return 0;
}

static int capture_sessions(struct source *src, struct session_list *out, struct ikv_err *err)
{
	struct capture *c = self(src);
	struct session *s = session_add(out, "capture", err);
	uint32_t query = 0, block = 0;
	if (!s)
		return -1;
	strcpy(out->facts.format, "capture");
	strcpy(out->facts.tokens_by, "trace");
	for (uint32_t at = 0; query < c->queries;) {
		while (block < c->block_count && c->blocks[block].end <= at)
			block++;
		const struct capture_block *b = block < c->block_count ? &c->blocks[block] : NULL;
		bool inside = b && b->start <= at, decode = c->positions[query] == at;
		uint32_t end = inside ? b->end : b ? b->start : c->tokens;
		if (decode) { /* as many consecutive recorded queries as there are */
			uint32_t n = at;
			while (n < end && query < c->queries && c->positions[query] == n) {
				query++;
				n++;
			}
			end = n;
		} else if (c->positions[query] < end) {
			end = c->positions[query];
		}
		if (push_piece(s, inside ? b : NULL, at, end, decode, err))
			return -1;
		at = end;
	}
	return 0;
}

static int capture_begin(struct source *src, uint32_t seq, const struct session *session, uint32_t index,
			 struct ikv_err *err)
{
	struct capture *c = self(src);
	(void)session;
	(void)index;
	if (seq >= c->sequences)
		return ikv_err_set(err, IKV_FAILED, "capture: sequence %u of %u", seq, c->sequences);
	c->lengths[seq] = 0;
	return 0;
}

static int capture_extend(struct source *src, uint32_t seq, const struct ikv_layout *layout, uint32_t first,
			  struct ikv_err *err)
{
	struct capture *c = self(src);
	if (layout->total_tokens > c->tokens || first != c->lengths[seq])
		return ikv_err_set(err, IKV_FAILED, "%s: tokens %u to %u follow %u of %u recorded ones", c->path,
				   first, layout->total_tokens, c->lengths[seq], c->tokens);
	c->lengths[seq] = layout->total_tokens;
	return 0;
}

static int capture_truncate(struct source *src, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	struct capture *c = self(src);
	if (tokens > c->lengths[seq])
		return ikv_err_set(err, IKV_FAILED, "%s: truncated to %u of %u tokens", c->path, tokens,
				   c->lengths[seq]);
	c->lengths[seq] = tokens;
	return 0;
}

static int capture_kv(struct source *src, uint32_t seq, uint32_t layer, uint32_t first, uint32_t count, uint16_t *k,
		      uint16_t *v, struct ikv_err *err)
{
	struct capture *c = self(src);
	const struct ikv_geometry *g = &c->geometry;
	if (first > c->lengths[seq] || count > c->lengths[seq] - first)
		return ikv_err_set(err, IKV_FAILED, "%s: rows %u + %u of %u", c->path, first, count, c->lengths[seq]);
	size_t rk = (size_t)g->kv_heads * g->d_qk, rv = (size_t)g->kv_heads * g->d_v;
	memcpy(k, c->layers[layer].k + first * rk, count * rk * sizeof *k);
	memcpy(v, c->layers[layer].v + first * rv, count * rv * sizeof *v);
	return 0;
}

static int capture_advance(struct source *src, uint32_t seq, uint64_t step, struct ikv_err *err)
{
	(void)src;
	(void)seq;
	(void)step;
	(void)err;
	return 0; /* the queries are recorded by position */
}

static const float *recorded_query(struct capture *c, uint32_t seq, uint32_t layer, struct ikv_err *err)
{
	uint32_t lo = 0, hi = c->queries, at = c->lengths[seq] - 1;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (c->positions[mid] < at)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == c->queries || c->positions[lo] != at) {
		ikv_err_set(err, IKV_BAD_INPUT, "%s: no query is recorded at token %u", c->path, at);
		return NULL;
	}
	return c->layers[layer].q + (size_t)lo * c->geometry.q_heads * c->geometry.d_qk;
}

static int capture_query(struct source *src, uint32_t seq, uint32_t layer, float *q, struct ikv_err *err)
{
	struct capture *c = self(src);
	const float *from = recorded_query(c, seq, layer, err);
	if (!from)
		return -1;
	memcpy(q, from, (size_t)c->geometry.q_heads * c->geometry.d_qk * sizeof *q);
	return 0;
}

static int capture_consume(struct source *src, uint32_t seq, uint32_t layer, const float *out, struct ikv_err *err)
{
	(void)src;
	(void)seq;
	(void)layer;
	(void)out;
	(void)err;
	return 0;
}

/* Add the mean softmax weights of heads [first, first + count), to c->mass. */
static int add_mass(struct capture *c, uint32_t seq, uint32_t layer, uint32_t first, uint32_t count,
		    struct ikv_err *err)
{
	const struct ikv_geometry *g = &c->geometry;
	const float *q = recorded_query(c, seq, layer, err);
	if (!q)
		return -1;
	for (uint32_t h = first; h < first + count; h++) {
		keys_weights(&c->layers[layer].keys, h / (g->q_heads / g->kv_heads), q + (size_t)h * g->d_qk,
			     g->scale, c->lengths[seq], c->weights);
		for (uint32_t t = 0; t < c->lengths[seq]; t++)
			c->mass[t] += c->weights[t] / count;
	}
	return 0;
}

/* Mean mass per token of each block over all layers and heads, the largest being 1. */
static int capture_scores(struct source *src, uint32_t seq, const struct ikv_layout *layout, double *scores,
			  struct ikv_err *err)
{
	struct capture *c = self(src);
	double top = 0;
	memset(c->mass, 0, c->tokens * sizeof *c->mass);
	for (uint32_t l = 0; l < c->geometry.layers; l++)
		if (add_mass(c, seq, l, 0, c->geometry.q_heads, err))
			return -1;
	for (uint32_t b = 0; b < layout->count; b++) {
		double m = 0;
		uint32_t end = layout->blocks[b].end < c->lengths[seq] ? layout->blocks[b].end : c->lengths[seq];
		for (uint32_t t = layout->blocks[b].start; t < end; t++)
			m += c->mass[t];
		scores[b] = m / (layout->blocks[b].end - layout->blocks[b].start);
		top = scores[b] > top ? scores[b] : top;
	}
	for (uint32_t b = 0; top > 0 && b < layout->count; b++)
		scores[b] /= top;
	return 0;
}

static int capture_mass(struct source *src, uint32_t seq, uint32_t layer, uint32_t q_first, uint32_t q_count,
			uint32_t page_tokens, float *mass, struct ikv_err *err)
{
	struct capture *c = self(src);
	memset(c->mass, 0, c->tokens * sizeof *c->mass);
	if (add_mass(c, seq, layer, q_first, q_count, err))
		return -1;
	for (uint32_t t = 0; t < c->lengths[seq]; t += page_tokens) {
		double m = 0;
		for (uint32_t i = t; i < c->lengths[seq] && i < t + page_tokens; i++)
			m += c->mass[i];
		mass[t / page_tokens] = (float)m;
	}
	return 0;
}

static void capture_end(struct source *src, uint32_t seq)
{
	self(src)->lengths[seq] = 0;
}

const struct source_ops source_capture = {
    .name = "capture",
    .summary = "Q, K and V recorded from a model, from a safetensors file",
    .options = options,
    .config_bytes = sizeof(struct capture_config),
    .open = capture_open,
    .close = capture_close,
    .sessions = capture_sessions,
    .begin = capture_begin,
    .extend = capture_extend,
    .truncate = capture_truncate,
    .kv = capture_kv,
    .advance = capture_advance,
    .query = capture_query,
    .consume = capture_consume,
    .model_scores = capture_scores,
    .model_mass = capture_mass,
    .end = capture_end,
};
