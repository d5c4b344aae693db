/* Attention over a KIVI cache: scores of all tokens, softmax, weighted sums, for the query heads of one KV head at a
 * time, by the micro-kernels that read pages. K and V leave their windows at different tokens, so the two passes
 * divide the tokens each in its own way. Nothing is rounded (`fine`): one thread, one query. */
#include <math.h>
#include "attn/kivi_store.h"
#include "intentkv/alloc.h"

enum { HEADS_MAX = 16 }; /* query heads worked on at once */

struct work {
	uint32_t heads; /* that share the KV head */
	size_t q_stride, acc_stride, forms_stride, s_stride;
	float *q, *acc, *s; /* [heads][q_stride], [heads][acc_stride], [heads][s_stride]: a float a token */
	float *block;       /* [heads][MICRO_BLOCK] */
	float *scratch;
	uint8_t *forms;
};

/* Cut one array into what a call needs; every part begins at a multiple of 64 bytes. */
static int prepare(struct ikv_kivi *s, uint32_t tokens, struct work *w, struct ikv_err *err)
{
	uint32_t dim = s->g.d_qk > s->g.d_v ? s->g.d_qk : s->g.d_v;
	w->heads = s->g.q_heads / s->g.kv_heads;
	w->q_stride = ((size_t)s->g.d_qk + MICRO_PAD - 1) / MICRO_PAD * MICRO_PAD;
	w->acc_stride = ((size_t)s->g.d_v + MICRO_PAD - 1) / MICRO_PAD * MICRO_PAD;
	w->forms_stride = s->micro->forms_bytes ? s->micro->forms_bytes(s->g.d_qk) : 0;
	w->s_stride = ((size_t)tokens + 2 * MICRO_BLOCK) / MICRO_BLOCK * MICRO_BLOCK;
	size_t scratch = (micro_scratch(dim, w->heads) + 15) / 16 * 16;
	size_t a_head = w->q_stride + w->acc_stride + w->s_stride + MICRO_BLOCK + w->forms_stride / sizeof(float);
	size_t need = w->heads * a_head + scratch;
	if (need > s->work_cap) {
		if (ikv_grow(&s->work, 0, need, sizeof *s->work, err))
			return -1;
		s->work_cap = need;
	}
	w->q = s->work;
	w->acc = w->q + w->heads * w->q_stride;
	w->s = w->acc + w->heads * w->acc_stride;
	w->block = w->s + w->heads * w->s_stride;
	w->forms = (uint8_t *)(w->block + w->heads * MICRO_BLOCK);
	w->scratch = (float *)(w->forms + w->heads * w->forms_stride);
	return 0;
}

/* Up to four tiles from the i-th on: of pages, or of rows in FP16, of which there are `rows`. */
static uint32_t tiles_from(const struct ikv_kivi *s, const struct kivi_head *h, uint32_t i, uint32_t tokens,
			   struct tile *tiles)
{
	uint32_t n = 0;
	for (; n < MICRO_TILES && (i + n) * TILE_TOKENS < tokens; n++) {
		tiles[n] = (struct tile){.rows = TILE_TOKENS};
		tile_at(&s->shape, h->tiles + (i + n) / 2 * kivi_page_bytes(s), (i + n) % 2, &tiles[n]);
	}
	return n;
}

static uint32_t rows_from(const uint16_t *k, uint32_t d_qk, const uint16_t *v, uint32_t d_v, uint32_t first,
			  uint32_t rows, struct tile *tiles)
{
	uint32_t n = 0;
	for (; n < MICRO_TILES && first + n * TILE_TOKENS < rows; n++) {
		uint32_t t = first + n * TILE_TOKENS;
		tiles[n] = (struct tile){
		    .k = (const uint8_t *)(k ? k + (size_t)t * d_qk : NULL),
		    .v = (const uint8_t *)(v ? v + (size_t)t * d_v : NULL),
		    .rows = rows - t < TILE_TOKENS ? rows - t : TILE_TOKENS,
		};
	}
	return n;
}

/* Scores of tokens [at, at + rows) of a block of tiles into each head's row. */
static void score(const struct ikv_kivi *s, const struct work *w, const struct tile_shape *shape,
		  const struct tile *tiles, uint32_t n, uint32_t at, uint32_t rows)
{
	struct micro_query q = {w->q, w->q_stride, w->forms_stride ? w->forms : NULL, w->forms_stride, true};
	s->micro->format[shape->format].qk(shape, tiles, n, &q, w->heads, w->block, w->scratch);
	for (uint32_t i = 0; i < w->heads; i++)
		memcpy(w->s + i * w->s_stride + at, w->block + i * MICRO_BLOCK, rows * sizeof *w->s);
}

/* Weights of tokens [at, at + rows) times the rows of V; the block's other weights are 0. */
static void weigh(const struct ikv_kivi *s, const struct work *w, const struct tile_shape *shape,
		  const struct tile *tiles, uint32_t n, uint32_t at, uint32_t rows)
{
	memset(w->block, 0, w->heads * MICRO_BLOCK * sizeof *w->block);
	for (uint32_t i = 0; i < w->heads; i++)
		memcpy(w->block + i * MICRO_BLOCK, w->s + i * w->s_stride + at, rows * sizeof *w->s);
	s->micro->format[shape->format].pv(shape, tiles, n, w->block, true, w->heads, w->acc, w->acc_stride,
					   w->scratch);
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static void attend_head(const struct ikv_kivi *s, const struct kivi_head *h, uint32_t tokens, const struct work *w,
			double *lse)
{
	struct tile tiles[MICRO_TILES];
	uint32_t k_done = h->encoded[0], v_done = h->encoded[1];
	for (uint32_t t = 0; t < k_done; t += MICRO_BLOCK) {
		uint32_t n = tiles_from(s, h, t / TILE_TOKENS, k_done, tiles);
		score(s, w, &s->shape, tiles, n, t, least(k_done - t, MICRO_BLOCK));
	}
	for (uint32_t t = 0; t < h->k_open; t += MICRO_BLOCK) {
		uint32_t n = rows_from(h->k_rows, s->g.d_qk, NULL, 0, t, h->k_open, tiles);
		score(s, w, &s->rows_shape, tiles, n, k_done + t, least(h->k_open - t, MICRO_BLOCK));
	}
	for (uint32_t i = 0; i < w->heads; i++) {
		float *x = w->s + i * w->s_stride;
		for (uint32_t t = tokens; t % TILE_TOKENS; t++)
			x[t] = -INFINITY;
		uint32_t padded = (tokens + TILE_TOKENS - 1) / TILE_TOKENS * TILE_TOKENS;
		float top = -INFINITY, part;
		if (padded)
			s->micro->peak(x, 1, padded, &top);
		double sum = 0; /* of blocks: a sum of many floats in one float would round */
		for (uint32_t t = 0; t < padded; t += MICRO_BLOCK) {
			s->micro->exp_sum(x + t, 1, least(padded - t, MICRO_BLOCK), &top, &part);
			sum += part;
		}
		lse[2 * i] = top;
		lse[2 * i + 1] = sum;
	}
	for (uint32_t t = 0; t < v_done; t += MICRO_BLOCK) {
		uint32_t n = tiles_from(s, h, t / TILE_TOKENS, v_done, tiles);
		weigh(s, w, &s->shape, tiles, n, t, least(v_done - t, MICRO_BLOCK));
	}
	for (uint32_t t = 0; t < h->v_open; t += MICRO_BLOCK) {
		const uint16_t *v = h->v_rows + (size_t)h->v_first * s->g.d_v;
		uint32_t n = rows_from(NULL, 0, v, s->g.d_v, t, h->v_open, tiles);
		for (uint32_t i = 0; i < n; i++) /* prefetches go by K */
			tiles[i].k = tiles[i].v;
		weigh(s, w, &s->rows_shape, tiles, n, v_done + t, least(h->v_open - t, MICRO_BLOCK));
	}
}

static int take_queries(const struct ikv_kivi *s, const struct work *w, uint32_t first, const float *q,
			struct ikv_err *err)
{
	memset(w->q, 0, w->heads * w->q_stride * sizeof *w->q);
	memset(w->acc, 0, w->heads * w->acc_stride * sizeof *w->acc);
	for (uint32_t i = 0; i < w->heads; i++) {
		float *to = w->q + i * w->q_stride;
		for (uint32_t c = 0; c < s->g.d_qk; c++) {
			to[c] = q[(size_t)i * s->g.d_qk + c] * s->g.scale;
			if (!isfinite(to[c]))
				return ikv_err_set(err, IKV_BAD_INPUT, "query of head %u, channel %u is not finite",
						   first + i, c);
		}
		if (s->micro->prepare)
			s->micro->prepare(to, s->g.d_qk, FORMAT_BIT(s->format), w->forms + i * w->forms_stride);
	}
	return 0;
}

int ikv_kivi_attend(struct ikv_kivi *s, uint32_t layer, uint32_t q_first, uint32_t q_count, const float *q,
		    float *out, float *lse, struct ikv_err *err)
{
	struct work w;
	uint32_t group = s->g.q_heads / s->g.kv_heads;
	if (kivi_check(s, layer, err) || prepare(s, s->tokens[layer], &w, err))
		return -1;
	if (q_first > s->g.q_heads || q_count > s->g.q_heads - q_first)
		return ikv_err_set(err, IKV_FAILED, "kivi: query heads %u+%u: there are %u", q_first, q_count,
				   s->g.q_heads);
	for (uint32_t i = 0, n; i < q_count; i += n) {
		double sums[2 * HEADS_MAX];
		n = least(q_count - i, group - (q_first + i) % group);
		n = least(n, HEADS_MAX);
		w.heads = n;
		if (take_queries(s, &w, q_first + i, q + (size_t)i * s->g.d_qk, err))
			return -1;
		attend_head(s, kivi_head(s, layer, (q_first + i) / group), s->tokens[layer], &w, sums);
		for (uint32_t j = 0; j < n; j++) {
			double sum = s->tokens[layer] ? sums[2 * j + 1] : 0;
			for (uint32_t c = 0; c < s->g.d_v; c++)
				out[(size_t)(i + j) * s->g.d_v + c] =
				    sum > 0 ? (float)(w.acc[j * w.acc_stride + c] / sum) : 0;
			if (lse)
				lse[i + j] = sum > 0 ? (float)(sums[2 * j] + log(sum)) : -INFINITY;
		}
	}
	return 0;
}
