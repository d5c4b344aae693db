#include <stdio.h>
#include <string.h>
#include "sim/trace/msgpack.h"

enum { DEPTH_MAX = 64, ITEMS_MAX = 4 << 20, VALUE_COST = 16 }; /* bytes of memory, about, that any value takes */
#define VALUE_MAX_BYTES (64u << 20)

struct unpack {
	struct trace_input *in;
	int number, depth;
	uint64_t left; /* bytes and items that the value may still take */
	struct ikv_err *err;
};

static json_t *wrong(struct unpack *u, enum trace_check check, const char *what)
{
	u->in->unreadable = true; /* nothing says where the next value begins */
	trace_wrong(u->in, check, u->number, NULL, u->err, "%s", what);
	return NULL;
}

static json_t *out_of_memory(struct unpack *u)
{
	ikv_err_set(u->err, IKV_FAILED, "out of memory");
	return NULL;
}

static bool spend(struct unpack *u, uint64_t n)
{
	if (n > u->left)
		return wrong(u, CHECK_LIMIT, "a value larger than 64 MB") != NULL;
	u->left -= n;
	return true;
}

/* A big-endian number of `bytes` bytes. */
static bool number(struct unpack *u, int bytes, uint64_t *out)
{
	*out = 0;
	for (int i = 0; i < bytes; i++) {
		int c = trace_getc(u->in, u->err);
		if (c < 0)
			return c == TRACE_EOF &&
			       wrong(u, CHECK_TRUNCATED, "the file ends inside a value: it is truncated") != NULL;
		*out = *out << 8 | (uint64_t)c;
	}
	return true;
}

static json_t *natural(struct unpack *u, uint64_t n)
{
	char text[32];
	json_t *v;
	if (n <= INT64_MAX) {
		v = json_integer((json_int_t)n);
	} else {
		snprintf(text, sizeof text, "u64:%llu", (unsigned long long)n);
		v = json_string(text);
	}
	return v ? v : out_of_memory(u);
}

static json_t *real(struct unpack *u, int bytes)
{
	uint64_t n;
	double x;
	if (!number(u, bytes, &n))
		return NULL;
	if (bytes == 4) {
		float f;
		uint32_t half = (uint32_t)n;
		memcpy(&f, &half, sizeof f);
		x = (double)f;
	} else {
		memcpy(&x, &n, sizeof x);
	}
	json_t *v = json_real(x);
	return v ? v : wrong(u, CHECK_VALUE, "a number that is not finite");
}

static char *bytes(struct unpack *u, uint64_t size)
{
	if (!spend(u, size))
		return NULL;
	char *text = ikv_alloc((size_t)size + 1, 1, u->err);
	if (!text || size == 0)
		return text;
	int got = trace_input_bytes(u->in, text, (size_t)size, u->err);
	if (got == 1)
		return text;
	ikv_free(text);
	if (got == 0)
		wrong(u, CHECK_TRUNCATED, "the file ends inside a value: it is truncated");
	return NULL;
}

static json_t *string(struct unpack *u, uint64_t size)
{
	char *text = bytes(u, size);
	if (!text)
		return NULL;
	json_t *v = json_stringn(text, (size_t)size);
	ikv_free(text);
	return v ? v : wrong(u, CHECK_SYNTAX, "a string that is not UTF-8");
}

static json_t *binary(struct unpack *u, uint64_t size)
{
	static const char digits[] = "0123456789abcdef";
	char *text = bytes(u, size), *hex = text ? ikv_alloc((size_t)size + 1, 2, u->err) : NULL;
	json_t *v = NULL;
	if (hex) {
		memcpy(hex, "0x", 2);
		for (uint64_t i = 0; i < size; i++) {
			hex[2 * i + 2] = digits[(unsigned char)text[i] >> 4];
			hex[2 * i + 3] = digits[text[i] & 15];
		}
		v = json_stringn(hex, 2 * (size_t)size + 2);
		if (!v)
			out_of_memory(u);
	}
	ikv_free(text);
	ikv_free(hex);
	return v;
}

static json_t *value(struct unpack *u);

static json_t *list(struct unpack *u, uint64_t count)
{
	json_t *array = json_array();
	if (!array)
		return out_of_memory(u);
	for (uint64_t i = 0; i < count; i++) {
		json_t *v = value(u);
		if (!v || json_array_append_new(array, v)) {
			json_decref(array);
			return v ? out_of_memory(u) : NULL;
		}
	}
	return array;
}

static json_t *map(struct unpack *u, uint64_t count)
{
	json_t *object = json_object();
	if (!object)
		return out_of_memory(u);
	for (uint64_t i = 0; i < count; i++) {
		json_t *key = value(u), *v = key ? value(u) : NULL;
		const char *name = json_string_value(key), *what = NULL;
		if (v && !name)
			what = "a map with a key that is no string";
		else if (v && strlen(name) != json_string_length(key))
			what = "a map with a NUL in a key";
		else if (v && json_object_get(object, name))
			what = "a map with the same key twice";
		int rc = what || !v ? -1 : json_object_set(object, name, v);
		json_decref(key);
		json_decref(v);
		if (rc) {
			json_decref(object);
			return what ? wrong(u, CHECK_SYNTAX, what) : v ? out_of_memory(u) : NULL;
		}
	}
	return object;
}

/* A list or map of `count` items; an item takes at least a byte, so a count cannot ask for more than there may be. */
static json_t *container(struct unpack *u, uint64_t count, json_t *(*read)(struct unpack *, uint64_t))
{
	if (++u->depth > DEPTH_MAX)
		return wrong(u, CHECK_LIMIT, "more than 64 levels of nesting");
	json_t *v = count > ITEMS_MAX ? wrong(u, CHECK_LIMIT, "more than 4 million items") : read(u, count);
	u->depth--;
	return v;
}

static json_t *sized(struct unpack *u, int width, json_t *(*read)(struct unpack *, uint64_t))
{
	uint64_t size;
	return number(u, width, &size) ? read(u, size) : NULL;
}

static json_t *sized_container(struct unpack *u, int width, json_t *(*read)(struct unpack *, uint64_t))
{
	uint64_t count;
	return number(u, width, &count) ? container(u, count, read) : NULL;
}

static json_t *negative(struct unpack *u, int width)
{
	uint64_t n;
	if (!number(u, width, &n))
		return NULL;
	int shift = 64 - 8 * width;
	json_t *v = json_integer((json_int_t)((int64_t)(n << shift) >> shift));
	return v ? v : out_of_memory(u);
}

/* The types of the specification by their first byte. */
static json_t *typed(struct unpack *u, int c)
{
	switch (c) {
	case 0xc0:
		return json_null();
	case 0xc2:
		return json_false();
	case 0xc3:
		return json_true();
	case 0xc4:
	case 0xc5:
	case 0xc6:
		return sized(u, 1 << (c - 0xc4), binary);
	case 0xca:
		return real(u, 4);
	case 0xcb:
		return real(u, 8);
	case 0xcc:
	case 0xcd:
	case 0xce:
	case 0xcf:
		return sized(u, 1 << (c - 0xcc), natural);
	case 0xd0:
	case 0xd1:
	case 0xd2:
	case 0xd3:
		return negative(u, 1 << (c - 0xd0));
	case 0xd9:
	case 0xda:
	case 0xdb:
		return sized(u, 1 << (c - 0xd9), string);
	case 0xdc:
	case 0xdd:
		return sized_container(u, 2 << (c - 0xdc), list);
	case 0xde:
	case 0xdf:
		return sized_container(u, 2 << (c - 0xde), map);
	default:
		return wrong(u, CHECK_SYNTAX, "not MessagePack, or an extension type");
	}
}

static json_t *value(struct unpack *u)
{
	int c = trace_getc(u->in, u->err);
	if (c == TRACE_EOF)
		return wrong(u, CHECK_TRUNCATED, "the file ends inside a value: it is truncated");
	if (c < 0 || !spend(u, VALUE_COST))
		return NULL;
	if (c < 0x80)
		return natural(u, (uint64_t)c);
	if (c < 0x90)
		return container(u, (uint64_t)c & 15, map);
	if (c < 0xa0)
		return container(u, (uint64_t)c & 15, list);
	if (c < 0xc0)
		return string(u, (uint64_t)c & 31);
	if (c >= 0xe0)
		return json_integer(c - 256);
	return typed(u, c);
}

int msgpack_next(struct trace_input *in, int number, json_t **out, struct ikv_err *err)
{
	struct unpack u = {.in = in, .number = number, .left = VALUE_MAX_BYTES, .err = err};
	if (in->at == in->end) {
		int more = trace_input_fill(in, err);
		if (more != 1)
			return more;
	}
	*out = value(&u);
	return *out ? 1 : -1;
}
