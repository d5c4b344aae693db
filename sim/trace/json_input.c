#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <xxhash.h>
#include "sim/trace/json_input.h"

enum { LINE_MAX_BYTES = 16 << 20, VALUE_MAX_BYTES = 64 << 20, DEPTH_MAX = 64, HEAD_BYTES = 65536 };
/* What reading can come to besides 1, a value, and 0, the end. */
enum { INPUT_FAILED = -1, INPUT_BROKEN = -2 };
/* Digits of the longest number that fits 63 bits. */
enum { SAFE_DIGITS = 18 };

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

bool json_shallow(const char *text, size_t size)
{
	struct nesting n = {0};
	for (size_t i = 0; i < size; i++) {
		nest(&n, text[i]);
		if (n.depth > DEPTH_MAX)
			return false;
	}
	return true;
}

static size_t blanks(const unsigned char *text, size_t size)
{
	size_t i = 0;
	while (i < size && strchr(" \t\r\n", text[i]) && text[i])
		i++;
	return i;
}

/* One value a line? Yes if the first line is a whole object. */
static bool has_lines(const unsigned char *head, size_t size)
{
	struct nesting n = {0};
	size_t i = blanks(head, size);
	if (i == size || head[i] != '{')
		return false;
	for (; i < size && head[i] != '\n'; i++)
		nest(&n, head[i]);
	return i < size && n.depth == 0;
}

int json_input_open(struct json_input *in, const char *path, enum json_form form, struct ikv_err *err)
{
	*in = (struct json_input){.form = form, .next_line = 1, .first = true};
	if (trace_input_open(&in->file, path, err))
		return -1;
	long size = trace_input_head(&in->file, HEAD_BYTES, err);
	if (size < 0)
		return -1;
	if (size >= 3 && !memcmp(in->file.at, "\xef\xbb\xbf", 3)) { /* a byte order mark */
		in->file.at += 3;
		size -= 3;
	}
	size_t start = blanks(in->file.at, (size_t)size);
	if (form == JSON_EITHER)
		in->form = has_lines(in->file.at, (size_t)size) ? JSON_LINES : JSON_VALUES;
	else if (form == JSON_LINES && start < (size_t)size && in->file.at[start] == '[')
		in->form = JSON_VALUES;
	return 0;
}

void json_input_close(struct json_input *in)
{
	trace_input_close(&in->file);
	json_decref(in->value);
	ikv_free(in->text);
	ikv_free(in->quoted);
	in->value = NULL;
	in->text = in->quoted = NULL;
}

static int reserve(char **text, size_t *cap, size_t used, size_t more, struct ikv_err *err)
{
	if (*cap - used >= more)
		return 0;
	size_t next = (*cap ? *cap * 2 : 65536) + more;
	if (ikv_grow(text, used, next, 1, err))
		return -1;
	*cap = next;
	return 0;
}

static int keep(struct json_input *in, const void *bytes, size_t size, struct ikv_err *err)
{
	if (size == 0)
		return 0;
	if (reserve(&in->text, &in->cap, in->size, size, err))
		return -1;
	memcpy(in->text + in->size, bytes, size);
	in->size += size;
	return 0;
}

static int next_char(struct json_input *in, struct ikv_err *err)
{
	int c = trace_getc(&in->file, err);
	if (c == '\n')
		in->next_line++;
	return c;
}

/* Reading cannot go on behind this. */
static int stop(struct json_input *in)
{
	in->file.unreadable = true;
	return INPUT_FAILED;
}

static bool blank(const char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (!strchr(" \t\r", text[i]) || !text[i])
			return false;
	return true;
}

/* The next line that is not blank into in->text. 1, 0 at the end, -1. A line that is too long is an end to reading:
 * nothing says where the damage stops. */
static int read_line(struct json_input *in, bool *cut_short, struct ikv_err *err)
{
	in->line = in->file.line = in->next_line;
	in->size = 0;
	for (;;) {
		if (in->file.at == in->file.end) {
			int more = trace_input_fill(&in->file, err);
			if (more < 0)
				return INPUT_FAILED;
			*cut_short = !more;
			if (!more)
				return !blank(in->text, in->size);
		}
		size_t size = (size_t)(in->file.end - in->file.at);
		const unsigned char *end = memchr(in->file.at, '\n', size);
		size = end ? (size_t)(end - in->file.at) : size;
		size_t most = in->form == JSON_LINES ? LINE_MAX_BYTES : VALUE_MAX_BYTES;
		if (in->size + size > most)
			return json_fault(in, CHECK_LIMIT, NULL, err, "a line longer than %zu MB", most >> 20),
			       stop(in);
		if (keep(in, in->file.at, size, err))
			return INPUT_FAILED;
		in->file.at += size + (end != NULL);
		if (!end)
			continue;
		in->next_line++;
		if (!blank(in->text, in->size))
			return 1;
		in->line = in->file.line = in->next_line;
		in->size = 0;
	}
}

static int skip_blanks(struct json_input *in, struct ikv_err *err)
{
	int c;
	do
		c = next_char(in, err);
	while (c == ' ' || c == '\t' || c == '\r' || c == '\n');
	return c;
}

/* Step over what stands between values: 1 and the first character of the next value in *c, 0 at the end, -1. */
static int next_value_start(struct json_input *in, int *c, struct ikv_err *err)
{
	*c = skip_blanks(in, err);
	if (in->first && *c == '[') {
		in->in_array = true;
		*c = skip_blanks(in, err);
		in->done = *c == ']';
	} else if (in->in_array && !in->first) {
		in->done = *c == ']';
		if (*c == ',')
			*c = skip_blanks(in, err);
		else if (*c >= 0 && !in->done)
			return json_fault(in, CHECK_SYNTAX, NULL, err,
					  "found '%c', expected ',' or ']' between values",
					  *c < 32 || *c > 126 ? '?' : *c),
			       stop(in);
	}
	if (*c == TRACE_FAILED)
		return INPUT_FAILED;
	if (in->in_array && *c == TRACE_EOF)
		return json_fault(in, CHECK_TRUNCATED, NULL, err, "the file ends inside its list: it is truncated"),
		       stop(in);
	in->first = false;
	if (!in->done)
		return *c != TRACE_EOF;
	if ((*c = skip_blanks(in, err)) >= 0)
		return json_fault(in, CHECK_SYNTAX, NULL, err, "text after the end of the list"), stop(in);
	return *c == TRACE_EOF ? 0 : INPUT_FAILED;
}

/* The next array element or top-level object into in->text. 1, 0 at the end, -1. */
static int read_value(struct json_input *in, struct ikv_err *err)
{
	int c = 0;
	in->size = 0;
	in->line = in->file.line = in->next_line;
	if (in->done)
		return 0;
	int got = next_value_start(in, &c, err);
	if (got != 1)
		return got;
	in->line = in->file.line = in->next_line;
	if (c != '{')
		return json_fault(in, CHECK_SYNTAX, NULL, err, "found '%c', expected an object {...}",
				  c < 32 || c > 126 ? '?' : c),
		       stop(in);
	struct nesting n = {0};
	for (; c >= 0; c = next_char(in, err)) {
		char byte = (char)c;
		if (in->size == VALUE_MAX_BYTES)
			return json_fault(in, CHECK_LIMIT, NULL, err, "an object larger than 64 MB"), stop(in);
		if (keep(in, &byte, 1, err))
			return INPUT_FAILED;
		nest(&n, c);
		if (n.depth == 0)
			return 1;
	}
	if (c == TRACE_FAILED)
		return INPUT_FAILED;
	return json_fault(in, CHECK_TRUNCATED, NULL, err, "the file ends inside this object: it is truncated"),
	       stop(in);
}

/* Is the number of `digits` digits at `text` beyond what the parser takes? */
static bool too_large(const char *text, size_t digits)
{
	return digits > SAFE_DIGITS + 1 ||
	       (digits == SAFE_DIGITS + 1 && memcmp(text, "9223372036854775807", digits) > 0);
}

/* Four hex digits, -1 if they are none. */
static int hex4(const char *digits)
{
	int value = 0;
	for (int i = 0; i < 4; i++) {
		int c = digits[i], low = c | 32;
		if (!(c >= '0' && c <= '9') && !(low >= 'a' && low <= 'f'))
			return -1;
		value = value << 4 | (c <= '9' ? c - '0' : low - 'a' + 10);
	}
	return value;
}

/* RFC 8259 lets a string have \u0000 and half a surrogate pair, as logs of programs' output do; the parser takes
 * neither. Another control character and U+FFFD stand for them: as many code points, so as many tokens. `u` is the u
 * of an escape, with `left` bytes from it on; *second that of a pair's second half, once its first has been met. */
static void mend_escape(char *u, size_t left, const char **second)
{
	int code = left < 5 ? -1 : hex4(u + 1);
	bool first_half = code >= 0xd800 && code < 0xdc00, second_half = code >= 0xdc00 && code < 0xe000;
	if (code == 0)
		u[4] = '1';
	else if (first_half && left >= 11 && u[5] == '\\' && u[6] == 'u' && hex4(u + 7) >> 10 == 0xdc00 >> 10)
		*second = u + 6;
	else if (first_half || (second_half && u != *second))
		memcpy(u + 1, "fffd", 4);
}

/* Depth, escapes, and ids above 2^63 put in quotes: where there are any, the text goes to in->quoted. */
static int prepare(struct json_input *in, const char **text, size_t *size, struct ikv_err *err)
{
	struct nesting n = {0};
	size_t copied = 0, used = 0;
	const char *second = NULL;
	for (size_t i = 0; i < in->size; i++) {
		char *c = in->text + i;
		size_t digits = 0;
		if (n.escaped && *c == 'u')
			mend_escape(c, in->size - i, &second);
		nest(&n, *c);
		if (n.depth > DEPTH_MAX)
			return json_fault(in, CHECK_LIMIT, NULL, err, "more than %d levels of nesting", DEPTH_MAX);
		if (n.in_string || *c < '0' || *c > '9')
			continue;
		while (i + digits < in->size && c[digits] >= '0' && c[digits] <= '9')
			digits++;
		bool whole = i + digits == in->size || !strchr(".eE", c[digits]);
		bool starts = i == 0 || !strchr("-+.0123456789eE", c[-1]);
		if (digits > SAFE_DIGITS && whole && starts && too_large(c, digits)) {
			if (reserve(&in->quoted, &in->quoted_cap, used, i - copied + digits + 6, err))
				return -1;
			memcpy(in->quoted + used, in->text + copied, i - copied);
			used += i - copied;
			memcpy(in->quoted + used, "\"u64:", 5);
			memcpy(in->quoted + used + 5, c, digits);
			in->quoted[used + 5 + digits] = '"';
			used += digits + 6;
			copied = i + digits;
		}
		i += digits - 1;
	}
	if (copied == 0)
		return 0;
	if (reserve(&in->quoted, &in->quoted_cap, used, in->size - copied, err))
		return -1;
	memcpy(in->quoted + used, in->text + copied, in->size - copied);
	*text = in->quoted;
	*size = used + in->size - copied;
	return 0;
}

static int parse(struct json_input *in, bool cut_short, struct ikv_err *err)
{
	json_error_t why;
	const char *text = in->text;
	size_t size = in->size;
	if (prepare(in, &text, &size, err))
		return err->status == IKV_BAD_INPUT ? INPUT_BROKEN : INPUT_FAILED;
	in->value = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
	if (in->value && json_is_object(in->value))
		return 1;
	if (in->value) {
		char found[80];
		json_fault(in, CHECK_SYNTAX, NULL, err, "found %s, expected an object {...}",
			   json_describe(in->value, found));
	} else if (cut_short) {
		json_fault(in, CHECK_TRUNCATED, NULL, err,
			   "truncated last line: it has no end of line and is not valid JSON");
	} else {
		for (char *c = why.text; *c; c++)
			if ((unsigned char)*c < 32 || *c == 127)
				*c = '?';
		int line = in->line + (why.line > 1 ? why.line - 1 : 0);
		trace_wrong(&in->file, CHECK_SYNTAX, line, NULL, err, "not valid JSON: %s", why.text);
		ikv_err_at(err, IKV_BAD_INPUT, in->file.path, line, why.column, NULL, "not valid JSON: %s", why.text);
	}
	return INPUT_BROKEN;
}

int json_input_next(struct json_input *in, struct ikv_err *err)
{
	json_decref(in->value);
	in->value = NULL;
	*in->part = 0;
	in->file.check = CHECK_CONSISTENCY;
	bool cut_short = false;
	int got = in->form == JSON_VALUES ? read_value(in, err) : read_line(in, &cut_short, err);
	in->file.wrong_line = in->line;
	return got == 1 ? parse(in, cut_short, err) : got;
}

int json_read(struct trace *t, const char *path, enum json_form form,
	      int (*record)(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err), void *ctx,
	      struct ikv_err *err)
{
	struct json_input in;
	int got = 1, rc = json_input_open(&in, path, form, err);
	if (rc && in.file.unpacker)
		rc = trace_bad(t, &in.file, err), got = 0;
	while (!rc && got && !trace_full(t) && (got = json_input_next(&in, err)) != 0) {
		rc = got == 1 ? record(t, &in, ctx, err) : -1;
		if (!rc) {
			t->facts->records++;
			continue;
		}
		rc = trace_bad(t, &in.file, err);
		if (in.file.unreadable)
			break;
	}
	json_input_close(&in);
	return rc;
}

bool json_line_has(const char *head, size_t size, const char *const *keys)
{
	size_t mark = size >= 3 && !memcmp(head, "\xef\xbb\xbf", 3) ? 3 : 0;
	size_t start = mark + blanks((const unsigned char *)head + mark, size - mark);
	const char *end = start < size && head[start] != '[' ? memchr(head + start, '\n', size - start) : NULL;
	size_t line = end ? (size_t)(end - head) : size;
	for (; *keys; keys++)
		if (!memmem(head, line, *keys, strlen(*keys)))
			return false;
	return true;
}

int json_log_name(struct trace *t, struct json_input *in, const char *key, const char *id, struct ikv_err *err)
{
	size_t size = strlen(id);
	if (size == 0 || size > SESSION_ID_MAX)
		return json_wrong(in, key, err, "an id of %zu bytes, expected 1 to %d", size, SESSION_ID_MAX);
	if (trace_has_session(t, id))
		return json_fault(in, CHECK_DUPLICATE, key, err,
				  "two sessions with the id \"%.100s\"; ids must differ", id);
	return 0;
}

struct session *json_session(struct trace *t, struct json_input *in, const char *key, const char *id,
			     struct ikv_err *err)
{
	return json_log_name(t, in, key, id, err) ? NULL : trace_session(t, id, err);
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
	const char *string = json_string_value(v);
	if (string && !strncmp(string, "u64:", 4)) { /* a number, in quotes only for the parser */
		snprintf(text, 80, "%s %.40s", names[JSON_INTEGER], string + 4);
		return text;
	}
	if (string) {
		size_t n = 0;
		for (const char *c = string; *c && n < 40; c++)
			value[n++] = *c < 32 || *c > 126 ? '?' : *c;
		snprintf(text, 80, "%s \"%s\"%s", names[JSON_STRING], value, n == 40 ? "..." : "");
		return text;
	}
	json_dumpb(v, value, sizeof value - 1, JSON_ENCODE_ANY);
	snprintf(text, 80, "%s %s", names[json_typeof(v)], value);
	return text;
}

static int complain(struct json_input *in, enum trace_check check, const char *key, struct ikv_err *err,
		    const char *fmt, va_list args)
{
	char text[600];
	vsnprintf(text, sizeof text, fmt, args);
	return trace_wrong(&in->file, check, in->line, key, err, "%s%s%s", in->part, *in->part ? ": " : "", text);
}

int json_wrong(struct json_input *in, const char *key, struct ikv_err *err, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	complain(in, CHECK_VALUE, key, err, fmt, args);
	va_end(args);
	return -1;
}

int json_fault(struct json_input *in, enum trace_check check, const char *key, struct ikv_err *err, const char *fmt,
	       ...)
{
	va_list args;
	va_start(args, fmt);
	complain(in, check, key, err, fmt, args);
	va_end(args);
	return -1;
}

static const json_t *member(const json_t *object, const char *key, bool *has)
{
	const json_t *v = json_object_get(object, key);
	if (has)
		*has = v && !json_is_null(v);
	return v;
}

int json_member_int(struct json_input *in, const json_t *object, const char *key, int64_t min, int64_t max,
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

int json_member_real(struct json_input *in, const json_t *object, const char *key, double min, double max,
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

int json_member_text(struct json_input *in, const json_t *object, const char *key, bool optional, const char **out,
		     struct ikv_err *err)
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
	const char *text = json_string_value(v), *c = text;
	if (!text || !*text)
		return -1;
	bool fits = true;
	uint64_t n = 0;
	for (c += strncmp(text, "u64:", 4) ? 0 : 4; *c >= '0' && *c <= '9'; c++)
		fits = fits && !__builtin_mul_overflow(n, 10, &n) &&
		       !__builtin_add_overflow(n, (uint64_t)(*c - '0'), &n);
	if (!*c && !fits)
		return -1;
	*out = *c ? XXH3_64bits(text, json_string_length(v)) : n;
	return 0;
}

int json_member_ids(struct json_input *in, const json_t *object, const char *key, uint64_t **ids, size_t *cap,
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
			return json_fault(in, CHECK_ID_RANGE, key, err,
					  "id %zu is %s, expected a whole number from 0 to 2^64 - 1 or a string", i,
					  json_describe(json_array_get(list, i), text));
	*count = (uint32_t)n;
	return 0;
}
