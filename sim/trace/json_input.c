#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include "sim/trace/json_input.h"

enum { LINE_MAX_BYTES = 16 << 20, VALUE_MAX_BYTES = 64 << 20, DEPTH_MAX = 64, INPUT_FAILED = -1, INPUT_BROKEN = -2 };
#define FILE_MAX_BYTES (UINT64_C(1) << 30)

int json_input_open(struct json_input *in, const char *path, enum json_form form, struct ikv_err *err)
{
	*in = (struct json_input){.path = path, .form = form, .next_line = 1, .first = true};
	in->file = fopen(path, "rb");
	if (!in->file)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: %s", path, strerror(errno));
	return 0;
}

void json_input_close(struct json_input *in)
{
	if (in->file)
		fclose(in->file);
	json_decref(in->value);
	ikv_free(in->text);
	in->file = NULL;
	in->value = NULL;
	in->text = NULL;
}

static int keep(struct json_input *in, int c, struct ikv_err *err)
{
	if (in->size == in->cap) {
		size_t next = in->cap ? in->cap * 2 : 65536;
		if (ikv_grow(&in->text, in->size, next, 1, err))
			return -1;
		in->cap = next;
	}
	in->text[in->size++] = (char)c;
	return 0;
}

static int next_char(struct json_input *in)
{
	int c = getc_unlocked(in->file);
	if (c != EOF)
		in->total++;
	if (c == '\n')
		in->next_line++;
	return c;
}

/* Depth is checked before parsing: jansson recurses up to 2048 levels. Strings hide brackets. */
struct nesting {
	int depth;
	bool in_string, escaped;
};

static void nest(struct nesting *n, int c)
{
	if (n->in_string) {
		if (n->escaped)
			n->escaped = false;
		else if (c == '\\')
			n->escaped = true;
		else if (c == '"')
			n->in_string = false;
	} else if (c == '"') {
		n->in_string = true;
	} else if (c == '{' || c == '[') {
		n->depth++;
	} else if (c == '}' || c == ']') {
		n->depth--;
	}
}

static int read_error(struct json_input *in, struct ikv_err *err)
{
	return ikv_err_set(err, IKV_IO, "%s: %s", in->path, strerror(errno));
}

/* The next line into in->text. 1, 0 at the end, -1. A line that is too long is an end to reading: nothing says
 * where the damage stops. */
static int read_line(struct json_input *in, bool *cut_short, struct ikv_err *err)
{
	for (;;) {
		in->line = in->next_line;
		in->size = 0;
		bool blank = true;
		int c;
		while ((c = next_char(in)) != EOF && c != '\n') {
			if (in->size == LINE_MAX_BYTES)
				return json_wrong(in, NULL, err, "a line longer than 16 MB");
			blank = blank && (c == ' ' || c == '\t' || c == '\r');
			if (keep(in, c, err))
				return -1;
		}
		if (c == EOF && ferror(in->file))
			return read_error(in, err);
		*cut_short = c == EOF;
		if (!blank)
			return 1;
		if (c == EOF)
			return 0;
	}
}

static int skip_blanks(struct json_input *in)
{
	int c;
	do
		c = next_char(in);
	while (c == ' ' || c == '\t' || c == '\r' || c == '\n');
	return c;
}

/* Step over what stands between values. Gives the first character of the next value, EOF at the end, or -2. */
static int next_value_start(struct json_input *in, struct ikv_err *err)
{
	int c = skip_blanks(in);
	if (in->first && c == '[') {
		in->in_array = true;
		c = skip_blanks(in);
		if (c == ']')
			in->done = true;
	} else if (in->in_array && !in->first) {
		if (c == ']')
			in->done = true;
		else if (c == ',')
			c = skip_blanks(in);
		else if (c != EOF)
			return json_wrong(in, NULL, err, "found '%c', expected ',' or ']' between values",
					  c < 32 ? '?' : c),
			       INPUT_BROKEN;
	}
	if (in->in_array && c == EOF && !ferror(in->file))
		return json_wrong(in, NULL, err, "the file ends inside its list: it is truncated"), INPUT_BROKEN;
	in->first = false;
	if (in->done) {
		if (skip_blanks(in) != EOF)
			return json_wrong(in, NULL, err, "text after the end of the list"), INPUT_BROKEN;
		return EOF;
	}
	return c;
}

/* The next array element or top-level object into in->text. 1, 0 at the end, -1. */
static int read_value(struct json_input *in, struct ikv_err *err)
{
	in->size = 0;
	if (in->done)
		return 0;
	in->line = in->next_line;
	int c = next_value_start(in, err);
	if (c == INPUT_BROKEN)
		return -1;
	if (c == EOF)
		return ferror(in->file) ? read_error(in, err) : 0;
	in->line = in->next_line;
	if (c != '{')
		return json_wrong(in, NULL, err, "found '%c', expected an object {...}", c < 32 || c > 126 ? '?' : c);
	struct nesting n = {0};
	for (; c != EOF; c = next_char(in)) {
		if (in->size == VALUE_MAX_BYTES)
			return json_wrong(in, NULL, err, "an object larger than 64 MB");
		if (in->total > FILE_MAX_BYTES)
			return json_wrong(in, NULL, err, "the file is larger than 1 GB");
		if (keep(in, c, err))
			return -1;
		nest(&n, c);
		if (n.depth == 0)
			return 1;
	}
	if (ferror(in->file))
		return read_error(in, err);
	return json_wrong(in, NULL, err, "the file ends inside this object: it is truncated");
}

static int parse(struct json_input *in, bool cut_short, struct ikv_err *err)
{
	struct nesting n = {0};
	for (size_t i = 0; i < in->size; i++) {
		nest(&n, in->text[i]);
		if (n.depth > DEPTH_MAX)
			return json_wrong(in, NULL, err, "more than %d levels of nesting", DEPTH_MAX), INPUT_BROKEN;
	}
	json_error_t why;
	in->value = json_loadb(in->text, in->size, JSON_REJECT_DUPLICATES, &why);
	if (in->value && json_is_object(in->value))
		return 1;
	if (in->value) {
		char text[80];
		json_wrong(in, NULL, err, "found %s, expected an object {...}", json_describe(in->value, text));
	} else if (cut_short) {
		json_wrong(in, NULL, err, "truncated last line: it has no end of line and is not valid JSON");
	} else {
		for (char *c = why.text; *c; c++)
			if ((unsigned char)*c < 32 || *c == 127)
				*c = '?';
		ikv_err_at(err, IKV_BAD_INPUT, in->path, in->line + (why.line > 1 ? why.line - 1 : 0), why.column,
			   NULL, "not valid JSON: %s", why.text);
	}
	return INPUT_BROKEN;
}

int json_input_next(struct json_input *in, struct ikv_err *err)
{
	json_decref(in->value);
	in->value = NULL;
	*in->part = 0;
	bool cut_short = false;
	int got = in->form == JSON_LINES ? read_line(in, &cut_short, err) : read_value(in, err);
	if (got != 1)
		return got;
	return parse(in, cut_short, err);
}

const char *json_describe(const json_t *v, char text[80])
{
	static const char *const names[] = {
	    [JSON_OBJECT] = "an object",   [JSON_ARRAY] = "a list",    [JSON_STRING] = "the string",
	    [JSON_INTEGER] = "the number", [JSON_REAL] = "the number", [JSON_TRUE] = "true",
	    [JSON_FALSE] = "false",        [JSON_NULL] = "null",
	};
	if (!v)
		return strcpy(text, "nothing");
	if (!json_is_string(v) && !json_is_number(v))
		return strcpy(text, names[json_typeof(v)]);
	char value[48] = "";
	if (json_is_string(v)) {
		size_t n = 0;
		for (const char *c = json_string_value(v); *c && n < 40; c++)
			value[n++] = *c < 32 || *c > 126 ? '?' : *c;
		snprintf(text, 80, "%s \"%s\"%s", names[JSON_STRING], value, n == 40 ? "..." : "");
		return text;
	}
	json_dumpb(v, value, sizeof value - 1, JSON_ENCODE_ANY);
	snprintf(text, 80, "%s %s", names[json_typeof(v)], value);
	return text;
}

int json_wrong(const struct json_input *in, const char *key, struct ikv_err *err, const char *fmt, ...)
{
	char text[600];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	return ikv_err_at(err, IKV_BAD_INPUT, in->path, in->line, 0, key, "%s%s%s", in->part, *in->part ? ": " : "",
			  text);
}

static const json_t *member(const json_t *object, const char *key, bool *has)
{
	const json_t *v = json_object_get(object, key);
	if (has)
		*has = v && !json_is_null(v);
	return v;
}

int json_member_int(const struct json_input *in, const json_t *object, const char *key, int64_t min, int64_t max,
		    int64_t *out, bool *has, struct ikv_err *err)
{
	char text[80];
	const json_t *v = member(object, key, has);
	if (has && !*has)
		return 0;
	if (json_is_integer(v) && json_integer_value(v) >= min && json_integer_value(v) <= max) {
		*out = json_integer_value(v);
		return 0;
	}
	double real = json_is_real(v) ? json_real_value(v) : -1;
	if (json_is_real(v) && real >= (double)min && real <= (double)max && real < 9e15 &&
	    (double)(int64_t)real == real) {
		*out = (int64_t)real;
		return 0;
	}
	if (min == max)
		return json_wrong(in, key, err, "found %s, expected %lld", json_describe(v, text), (long long)min);
	return json_wrong(in, key, err, "found %s, expected a whole number from %lld to %lld", json_describe(v, text),
			  (long long)min, (long long)max);
}

int json_member_real(const struct json_input *in, const json_t *object, const char *key, double min, double max,
		     double *out, bool *has, struct ikv_err *err)
{
	char text[80];
	const json_t *v = member(object, key, has);
	if (has && !*has)
		return 0;
	double real = json_number_value(v);
	if (!json_is_number(v) || !(real >= min && real <= max))
		return json_wrong(in, key, err, "found %s, expected a number from %g to %g", json_describe(v, text),
				  min, max);
	*out = real;
	return 0;
}

int json_member_text(const struct json_input *in, const json_t *object, const char *key, bool optional,
		     const char **out, struct ikv_err *err)
{
	char text[80];
	const json_t *v = json_object_get(object, key);
	*out = json_string_value(v);
	if (*out || (optional && (!v || json_is_null(v))))
		return 0;
	return json_wrong(in, key, err, "found %s, expected a string", json_describe(v, text));
}

int json_id(const json_t *v, uint64_t *out)
{
	if (json_is_integer(v) && json_integer_value(v) >= 0) {
		*out = (uint64_t)json_integer_value(v);
		return 0;
	}
	const char *text = json_string_value(v);
	if (!text)
		return -1;
	if (!strncmp(text, "u64:", 4))
		text += 4;
	uint64_t n = 0;
	const char *c = text;
	for (; *c >= '0' && *c <= '9'; c++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*c - '0'), &n))
			return -1;
	if (c == text || *c)
		return -1;
	*out = n;
	return 0;
}

int json_member_ids(const struct json_input *in, const json_t *object, const char *key, uint64_t **ids, size_t *cap,
		    uint32_t *count, struct ikv_err *err)
{
	char text[80];
	const json_t *list = json_object_get(object, key);
	if (!json_is_array(list))
		return json_wrong(in, key, err, "found %s, expected a list of ids", json_describe(list, text));
	size_t n = json_array_size(list);
	if (n > *cap) {
		if (ikv_grow(ids, 0, n, sizeof **ids, err))
			return -1;
		*cap = n;
	}
	for (size_t i = 0; i < n; i++)
		if (json_id(json_array_get(list, i), &(*ids)[i]))
			return json_wrong(in, key, err, "id %zu is %s, expected a whole number from 0 to 2^64 - 1", i,
					  json_describe(json_array_get(list, i), text));
	*count = (uint32_t)n;
	return 0;
}
