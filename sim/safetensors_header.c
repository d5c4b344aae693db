/* Header of a safetensors file: one JSON object whose form is fixed, parsed in one pass without a tree, so that
 * memory stays proportional to the header and depth cannot grow. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "safetensors_header.h"

struct parser {
	struct safetensors_header *h;
	const char *start, *at, *end;
	const char *file;
	struct ikv_err *err;
};

static const struct {
	const char *name;
	uint32_t bytes;
} types[SAFETENSORS_TYPE_COUNT] = {
    [SAFETENSORS_BOOL] = {"BOOL", 1}, [SAFETENSORS_U8] = {"U8", 1},   [SAFETENSORS_I8] = {"I8", 1},
    [SAFETENSORS_U16] = {"U16", 2},   [SAFETENSORS_I16] = {"I16", 2}, [SAFETENSORS_F16] = {"F16", 2},
    [SAFETENSORS_BF16] = {"BF16", 2}, [SAFETENSORS_U32] = {"U32", 4}, [SAFETENSORS_I32] = {"I32", 4},
    [SAFETENSORS_F32] = {"F32", 4},   [SAFETENSORS_U64] = {"U64", 8}, [SAFETENSORS_I64] = {"I64", 8},
    [SAFETENSORS_F64] = {"F64", 8},
};

const char *safetensors_type_name(enum safetensors_type t)
{
	return types[t].name;
}

uint32_t safetensors_type_bytes(enum safetensors_type t)
{
	return types[t].bytes;
}

static int fail(struct parser *p, const char *what)
{
	return ikv_err_set(p->err, IKV_BAD_INPUT, "%s: safetensors header, byte %zu: %s", p->file,
			   (size_t)(p->at - p->start), what);
}

static void space(struct parser *p)
{
	while (p->at < p->end && (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r'))
		p->at++;
}

static bool eat(struct parser *p, char c)
{
	space(p);
	if (p->at == p->end || *p->at != c)
		return false;
	p->at++;
	return true;
}

static int need(struct parser *p, char c)
{
	char what[] = "expected \"?\"";
	what[10] = c;
	return eat(p, c) ? 0 : fail(p, what);
}

static int hex4(struct parser *p, uint32_t *out)
{
	*out = 0;
	if (p->end - p->at < 4)
		return fail(p, "cut-off \\u escape");
	for (int i = 0; i < 4; i++) {
		char c = *p->at++;
		uint32_t v = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
			     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
			     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
						    : 16;
		if (v == 16)
			return fail(p, "bad \\u escape");
		*out = *out << 4 | v;
	}
	return 0;
}

/* A code point as UTF-8; a \u escape of 6 bytes (12 for a pair) never needs more room than it took. */
static int put_escape(struct parser *p, char **to)
{
	uint32_t c, low;
	if (hex4(p, &c))
		return -1;
	if (c >= 0xd800 && c < 0xdc00) {
		if (p->end - p->at < 6 || p->at[0] != '\\' || p->at[1] != 'u')
			return fail(p, "half a surrogate pair");
		p->at += 2;
		if (hex4(p, &low))
			return -1;
		if (low < 0xdc00 || low > 0xdfff)
			return fail(p, "half a surrogate pair");
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	} else if (c >= 0xdc00 && c < 0xe000) {
		return fail(p, "half a surrogate pair");
	}
	if (c == 0)
		return fail(p, "a NUL character in a string");
	char *o = *to;
	if (c < 0x80) {
		*o++ = (char)c;
	} else if (c < 0x800) {
		*o++ = (char)(0xc0 | c >> 6);
		*o++ = (char)(0x80 | (c & 63));
	} else if (c < 0x10000) {
		*o++ = (char)(0xe0 | c >> 12);
		*o++ = (char)(0x80 | (c >> 6 & 63));
		*o++ = (char)(0x80 | (c & 63));
	} else {
		*o++ = (char)(0xf0 | c >> 18);
		*o++ = (char)(0x80 | (c >> 12 & 63));
		*o++ = (char)(0x80 | (c >> 6 & 63));
		*o++ = (char)(0x80 | (c & 63));
	}
	*to = o;
	return 0;
}

/* A string into the string space; *out is its offset there. Its text is never longer than its JSON form, so
 * the space, as large as the header, cannot run out. */
static int string(struct parser *p, size_t *out)
{
	static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
	if (need(p, '"'))
		return -1;
	char *to = p->h->strings + p->h->strings_used;
	*out = p->h->strings_used;
	for (;;) {
		if (p->at == p->end)
			return fail(p, "a string without an end");
		char c = *p->at++;
		if (c == '"')
			break;
		if ((unsigned char)c < 0x20)
			return fail(p, "a control character in a string");
		if (c != '\\') {
			*to++ = c;
			continue;
		}
		if (p->at == p->end)
			return fail(p, "a string without an end");
		c = *p->at++;
		const char *esc = c ? strchr(from, c) : NULL;
		if (esc)
			*to++ = into[esc - from];
		else if (c != 'u')
			return fail(p, "an unknown escape");
		else if (put_escape(p, &to))
			return -1;
	}
	*to++ = 0;
	p->h->strings_used = (size_t)(to - p->h->strings);
	return 0;
}

static int number(struct parser *p, uint64_t *out)
{
	space(p);
	const char *first = p->at;
	uint64_t v = 0;
	for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
		if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p->at - '0'), &v))
			return fail(p, "a number beyond 64 bits");
	if (p->at == first || (p->at - first > 1 && *first == '0'))
		return fail(p, "expected a whole number of 0 or more");
	*out = v;
	return 0;
}

static int shape(struct parser *p, struct safetensors_tensor *t)
{
	t->rank = 0;
	t->values = 1;
	if (need(p, '['))
		return -1;
	if (eat(p, ']'))
		return 0;
	do {
		if (t->rank == SAFETENSORS_RANK_MAX)
			return fail(p, "more than 8 dimensions");
		if (number(p, &t->shape[t->rank]))
			return -1;
		if (__builtin_mul_overflow(t->values, t->shape[t->rank], &t->values))
			return fail(p, "the shape's product overflows");
		t->rank++;
	} while (eat(p, ','));
	return need(p, ']');
}

static int dtype(struct parser *p, struct safetensors_tensor *t)
{
	size_t used = p->h->strings_used, s;
	if (string(p, &s))
		return -1;
	const char *name = p->h->strings + s;
	p->h->strings_used = used; /* the text is not kept */
	for (int i = 0; i < SAFETENSORS_TYPE_COUNT; i++) {
		if (!strcmp(types[i].name, name)) {
			t->type = (enum safetensors_type)i;
			return 0;
		}
	}
	return fail(p, "a dtype that is not known");
}

static int offsets(struct parser *p, struct safetensors_tensor *t)
{
	if (need(p, '[') || number(p, &t->begin) || need(p, ',') || number(p, &t->end) || need(p, ']'))
		return -1;
	return t->begin <= t->end ? 0 : fail(p, "data_offsets run backwards");
}

static int tensor_fields(struct parser *p, struct safetensors_tensor *t)
{
	unsigned seen = 0;
	if (need(p, '{'))
		return -1;
	do {
		size_t used = p->h->strings_used, s;
		if (string(p, &s))
			return -1;
		const char *key = p->h->strings + s;
		unsigned field = !strcmp(key, "dtype")          ? 1
				 : !strcmp(key, "shape")        ? 2
				 : !strcmp(key, "data_offsets") ? 4
								: 0;
		p->h->strings_used = used;
		if (!field)
			return fail(p, "expected dtype, shape or data_offsets");
		if (seen & field)
			return fail(p, "a field twice");
		seen |= field;
		if (need(p, ':') || (field == 1 ? dtype(p, t) : field == 2 ? shape(p, t) : offsets(p, t)))
			return -1;
	} while (eat(p, ','));
	if (need(p, '}'))
		return -1;
	if (seen != 7)
		return fail(p, "a tensor without dtype, shape or data_offsets");
	uint64_t bytes;
	if (__builtin_mul_overflow(t->values, (uint64_t)types[t->type].bytes, &bytes) || bytes != t->end - t->begin)
		return fail(p, "data_offsets do not match dtype and shape");
	return 0;
}

static int metadata(struct parser *p)
{
	struct safetensors_header *h = p->h;
	if (h->metadata_count)
		return fail(p, "__metadata__ twice");
	if (need(p, '{'))
		return -1;
	if (eat(p, '}'))
		return 0;
	do {
		if (h->metadata_count == SAFETENSORS_TENSORS_MAX)
			return fail(p, "more than 65536 metadata entries");
		if (h->metadata_count == h->metadata_cap) {
			uint32_t cap = h->metadata_cap ? 2 * h->metadata_cap : 8;
			if (ikv_grow(&h->metadata, 2 * (size_t)h->metadata_cap, 2 * (size_t)cap, sizeof(size_t),
				     p->err))
				return -1;
			h->metadata_cap = cap;
		}
		size_t *pair = h->metadata + 2 * (size_t)h->metadata_count;
		if (string(p, &pair[0]) || need(p, ':') || string(p, &pair[1]))
			return -1;
		h->metadata_count++;
	} while (eat(p, ','));
	return need(p, '}');
}

static int entry(struct parser *p)
{
	struct safetensors_header *h = p->h;
	size_t name;
	if (string(p, &name) || need(p, ':'))
		return -1;
	if (!strcmp(h->strings + name, "__metadata__"))
		return metadata(p);
	if (h->count == SAFETENSORS_TENSORS_MAX)
		return fail(p, "more than 65536 tensors");
	if (h->count == h->cap) {
		uint32_t cap = h->cap ? 2 * h->cap : 16;
		if (ikv_grow(&h->tensors, h->cap, cap, sizeof *h->tensors, p->err))
			return -1;
		h->cap = cap;
	}
	struct safetensors_tensor *t = &h->tensors[h->count];
	t->name = h->strings + name; /* the space never moves */
	if (tensor_fields(p, t))
		return -1;
	h->count++;
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct safetensors_tensor *x = a, *y = b;
	return strcmp(x->name, y->name);
}

static int by_place(const void *a, const void *b)
{
	const struct safetensors_tensor *x = a, *y = b;
	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	if (x->end != y->end)
		return x->end < y->end ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int check_tensors(struct safetensors_header *h, uint64_t data_bytes, const char *file, struct ikv_err *err)
{
	if (h->count)
		qsort(h->tensors, h->count, sizeof *h->tensors, by_name);
	for (uint32_t i = 1; i < h->count; i++)
		if (!strcmp(h->tensors[i - 1].name, h->tensors[i].name))
			return ikv_err_set(err, IKV_BAD_INPUT, "%s: tensor \"%.100s\" occurs twice", file,
					   h->tensors[i].name);
	if (h->count)
		qsort(h->tensors, h->count, sizeof *h->tensors, by_place);
	uint64_t at = 0;
	for (uint32_t i = 0; i < h->count; i++) {
		const struct safetensors_tensor *t = &h->tensors[i];
		if (t->begin != at)
			return ikv_err_set(err, IKV_BAD_INPUT,
					   "%s: tensor \"%.100s\" begins at byte %" PRIu64
					   " of the data, expected %" PRIu64,
					   file, t->name, t->begin, at);
		at = t->end;
	}
	if (at != data_bytes)
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "%s: the tensors end at byte %" PRIu64 " of the data, the file at %" PRIu64, file,
				   at, data_bytes);
	return 0;
}

int safetensors_header_parse(struct safetensors_header *h, const char *text, size_t size, uint64_t data_bytes,
			     const char *file, struct ikv_err *err)
{
	struct parser p = {.h = h, .start = text, .at = text, .end = text + size, .file = file, .err = err};
	memset(h, 0, sizeof *h);
	h->strings = ikv_alloc(size + 1, 1, err);
	if (!h->strings)
		return -1;
	int rc = size && *text == '{' ? need(&p, '{') : fail(&p, "does not begin with \"{\"");
	if (!rc && !eat(&p, '}')) {
		do
			rc = entry(&p);
		while (!rc && eat(&p, ','));
		rc = rc ? rc : need(&p, '}');
	}
	space(&p);
	if (!rc && p.at != p.end)
		rc = fail(&p, "text after the end of the object");
	if (!rc)
		rc = check_tensors(h, data_bytes, file, err);
	if (rc)
		safetensors_header_free(h);
	return rc;
}

void safetensors_header_free(struct safetensors_header *h)
{
	ikv_free(h->strings);
	ikv_free(h->tensors);
	ikv_free(h->metadata);
	memset(h, 0, sizeof *h);
}
