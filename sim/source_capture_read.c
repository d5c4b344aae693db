/* Reading a recorded file into the capture source; the file is untrusted. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "source_capture.h"

#define BLOCKS_BYTES_MAX (1u << 20) /* of the metadata value: bounds what its parser may allocate */
#define BLOCKS_MAX       20000u
#define TOKENS_MAX       (1u << 24)

static int bad(const struct capture *c, struct ikv_err *err, const char *what, const char *why)
{
	return ikv_err_set(err, IKV_BAD_INPUT, "%s: %s: %s", c->path, what, why);
}

/* "layer.N.k" of a plain N below 10^6. */
static bool layer_of(const char *name, uint32_t *out)
{
	if (strncmp(name, "layer.", 6))
		return false;
	char *end;
	if (name[6] < '0' || name[6] > '9' || (name[6] == '0' && name[7] != '.'))
		return false;
	unsigned long n = strtoul(name + 6, &end, 10);
	*out = (uint32_t)n;
	return n < 1000000 && !strcmp(end, ".k");
}

static int choose_layers(struct capture *c, struct safetensors *f, const char *text, struct source_setup *setup,
			 struct ikv_err *err)
{
	uint32_t n = 0, number;
	for (const char *at = text; *at;) {
		char *end;
		unsigned long v = strtoul(at, &end, 10);
		if (*at < '0' || *at > '9' || v >= 1000000 || (*end && *end != ',') || (*end && !end[1]))
			return ikv_err_set(err, IKV_BAD_INPUT,
					   "layers: got \"%.100s\", expected layer numbers such as 3,5,7", text);
		if (n == SOURCE_LAYERS_MAX || (n && v <= setup->layer_numbers[n - 1]))
			return ikv_err_set(err, IKV_BAD_INPUT,
					   "layers: got \"%.100s\", expected at most %d ascending numbers", text,
					   SOURCE_LAYERS_MAX);
		setup->layer_numbers[n++] = (uint32_t)v;
		at = *end ? end + 1 : end;
	}
	for (uint32_t i = 0; !*text && i < safetensors_count(f); i++) {
		if (!layer_of(safetensors_at(f, i)->name, &number))
			continue;
		if (n == SOURCE_LAYERS_MAX)
			return bad(c, err, "layers",
				   "more are recorded than a run can hold; choose some by `layers`");
		uint32_t at = n++;
		for (; at && setup->layer_numbers[at - 1] > number; at--)
			setup->layer_numbers[at] = setup->layer_numbers[at - 1];
		setup->layer_numbers[at] = number;
	}
	if (!n)
		return bad(c, err, "layers", "no layer.N.k tensors are recorded");
	setup->layer_count = c->geometry.layers = n;
	return 0;
}

static const struct safetensors_tensor *rows_of(struct capture *c, struct safetensors *f, uint32_t number, char which,
						struct ikv_err *err)
{
	char name[32] = "layer.";
	size_t at = 6;
	char digits[12];
	int n = 0;
	for (uint32_t v = number; n == 0 || v; v /= 10)
		digits[n++] = (char)('0' + v % 10);
	while (n)
		name[at++] = digits[--n];
	name[at++] = '.';
	name[at] = which;
	const struct safetensors_tensor *t = safetensors_find(f, name);
	if (!t) {
		bad(c, err, name, "no such tensor");
		return NULL;
	}
	if (t->rank != 3 || !t->values || t->shape[0] > TOKENS_MAX || t->shape[1] > 1024 || t->shape[2] > 4096) {
		bad(c, err, name, "expected shape [rows, heads, d] with at most 2^24 rows, 1024 heads, d 4096");
		return NULL;
	}
	return t;
}

static int check_shapes(struct capture *c, const struct safetensors_tensor *k, const struct safetensors_tensor *v,
			const struct safetensors_tensor *q, bool first, struct ikv_err *err)
{
	struct ikv_geometry *g = &c->geometry;
	if (first) {
		c->tokens = (uint32_t)k->shape[0];
		g->kv_heads = (uint32_t)k->shape[1];
		g->d_qk = (uint32_t)k->shape[2];
		g->d_v = (uint32_t)v->shape[2];
		g->q_heads = (uint32_t)q->shape[1];
		g->v_aliases_k = false;
		if (g->q_heads % g->kv_heads)
			return bad(c, err, q->name, "the query heads are not a multiple of the KV heads");
	}
	if (k->shape[0] != c->tokens || k->shape[1] != g->kv_heads || k->shape[2] != g->d_qk)
		return bad(c, err, k->name, "its shape differs from the first layer's");
	if (v->shape[0] != c->tokens || v->shape[1] != g->kv_heads || v->shape[2] != g->d_v)
		return bad(c, err, v->name, "its shape does not go with k");
	if (q->shape[0] != c->queries || q->shape[1] != g->q_heads || q->shape[2] != g->d_qk)
		return bad(c, err, q->name, "its shape does not go with k and query_positions");
	return 0;
}

static int read_layer(struct capture *c, struct safetensors *f, uint32_t index, uint32_t number, struct ikv_err *err)
{
	struct capture_layer *l = &c->layers[index];
	const struct safetensors_tensor *k = rows_of(c, f, number, 'k', err), *v, *q;
	if (!k || !(v = rows_of(c, f, number, 'v', err)) || !(q = rows_of(c, f, number, 'q', err)) ||
	    check_shapes(c, k, v, q, index == 0, err))
		return -1;
	l->number = number;
	l->k = ikv_alloc(k->values, sizeof *l->k, err);
	l->v = ikv_alloc(v->values, sizeof *l->v, err);
	l->q = ikv_alloc(q->values, sizeof *l->q, err);
	if (!l->k || !l->v || !l->q || safetensors_read_fp16(f, k, 0, k->values, l->k, err) ||
	    safetensors_read_fp16(f, v, 0, v->values, l->v, err) ||
	    safetensors_read_float(f, q, 0, q->values, l->q, err))
		return -1;
	for (uint64_t i = 0; i < q->values; i++)
		if (!(l->q[i] > -1e30f && l->q[i] < 1e30f))
			return bad(c, err, q->name, "a value that is not finite");
	for (uint64_t i = 0; i < k->values; i++)
		if ((l->k[i] & 0x7c00) == 0x7c00)
			return bad(c, err, k->name, "a value that is not finite in FP16");
	for (uint64_t i = 0; i < v->values; i++)
		if ((l->v[i] & 0x7c00) == 0x7c00)
			return bad(c, err, v->name, "a value that is not finite in FP16");
	l->keys.kv_heads = c->geometry.kv_heads;
	l->keys.d = c->geometry.d_qk;
	return keys_append(&l->keys, l->k, c->tokens, err);
}

static int read_positions(struct capture *c, struct safetensors *f, struct ikv_err *err)
{
	const struct safetensors_tensor *t = safetensors_find(f, "query_positions");
	if (!t || t->rank != 1 || !t->values || t->values > TOKENS_MAX)
		return bad(c, err, "query_positions", "expected a tensor of one dimension that is not empty");
	c->queries = (uint32_t)t->values;
	int64_t *values = ikv_alloc(c->queries, sizeof *values, err), last = -1;
	c->positions = ikv_alloc(c->queries, sizeof *c->positions, err);
	int rc = values && c->positions ? safetensors_read_int(f, t, 0, c->queries, values, err) : -1;
	for (uint32_t i = 0; !rc && i < c->queries; last = values[i++]) {
		if (values[i] <= last || values[i] >= TOKENS_MAX)
			rc = bad(c, err, "query_positions", "expected ascending positions");
		else
			c->positions[i] = (uint32_t)values[i];
	}
	ikv_free(values);
	return rc;
}

static bool small_index(const json_t *v, uint32_t *out)
{
	json_int_t n = json_integer_value(v);
	*out = (uint32_t)n;
	return json_is_integer(v) && n >= 0 && n <= TOKENS_MAX;
}

static int read_block(struct capture *c, const json_t *item, struct ikv_err *err)
{
	struct capture_block *b = &c->blocks[c->block_count];
	const char *name = json_string_value(json_object_get(item, "name"));
	const char *kind = json_string_value(json_object_get(item, "kind"));
	const char *const *kinds = ikv_kind_names();
	uint32_t at = c->block_count ? b[-1].end : 0, k = 0;
	if (!name || !*name || strlen(name) > 200 || !kind)
		return bad(c, err, "blocks", "expected objects with name and kind");
	if (!small_index(json_object_get(item, "start"), &b->start) ||
	    !small_index(json_object_get(item, "end"), &b->end) || b->start < at || b->end <= b->start ||
	    b->end > c->tokens)
		return bad(c, err, name, "expected start and end of a range of tokens, ascending, without overlap");
	while (kinds[k] && strcmp(kinds[k], kind))
		k++;
	if (!kinds[k])
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: block %.200s: unknown kind \"%.40s\"", c->path, name,
				   kind);
	b->kind = (enum ikv_kind)k;
	b->name = ikv_alloc(strlen(name) + 1, 1, err);
	if (!b->name)
		return -1;
	strcpy(b->name, name);
	c->block_count++;
	return 0;
}

/* Nesting of JSON text, so that its parser is not driven into depth. */
static bool too_deep(const char *text)
{
	int depth = 0;
	for (; *text; text++) {
		depth += (*text == '[' || *text == '{') - (*text == ']' || *text == '}');
		if (depth > 64)
			return true;
	}
	return false;
}

static int read_blocks(struct capture *c, struct safetensors *f, struct ikv_err *err)
{
	const char *text = safetensors_metadata(f, "blocks");
	json_error_t where;
	if (!text)
		return 0; /* no blocks: the whole context belongs to none */
	if (strlen(text) > BLOCKS_BYTES_MAX || too_deep(text))
		return bad(c, err, "blocks", "more than 1 MB, or nested too deep");
	json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &where);
	if (!root)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: blocks, line %d: %s", c->path, where.line, where.text);
	size_t n = json_array_size(root);
	int rc = json_is_array(root) && n <= BLOCKS_MAX ? 0 : bad(c, err, "blocks", "expected an array of blocks");
	if (!rc && !(c->blocks = ikv_alloc(n, sizeof *c->blocks, err)))
		rc = -1;
	for (size_t i = 0; !rc && i < n; i++)
		rc = read_block(c, json_array_get(root, i), err);
	json_decref(root);
	return rc;
}

static int read_scale(struct capture *c, struct safetensors *f, struct ikv_err *err)
{
	const char *text = safetensors_metadata(f, "scale");
	char *end;
	c->geometry.scale = (float)(1 / __builtin_sqrt((double)c->geometry.d_qk));
	if (!text)
		return 0;
	double v = strtod(text, &end);
	if (end == text || *end || !(v > 0 && v < 1e6))
		return bad(c, err, "scale", "expected a positive number");
	c->geometry.scale = (float)v;
	return 0;
}

int source_capture_load(struct capture *c, struct safetensors *f, const char *layers, struct source_setup *setup,
			struct ikv_err *err)
{
	if (read_positions(c, f, err) || choose_layers(c, f, layers, setup, err))
		return -1;
	c->layers = ikv_alloc(c->geometry.layers, sizeof *c->layers, err);
	if (!c->layers)
		return -1;
	for (uint32_t i = 0; i < c->geometry.layers; i++)
		if (read_layer(c, f, i, setup->layer_numbers[i], err))
			return -1;
	if (c->positions[c->queries - 1] >= c->tokens)
		return bad(c, err, "query_positions", "a position beyond the recorded tokens");
	if (read_blocks(c, f, err) || read_scale(c, f, err))
		return -1;
	c->weights = ikv_alloc(c->tokens, sizeof *c->weights, err);
	c->mass = ikv_alloc(c->tokens, sizeof *c->mass, err);
	c->lengths = ikv_alloc(c->sequences, sizeof *c->lengths, err);
	return c->weights && c->mass && c->lengths ? 0 : -1;
}
