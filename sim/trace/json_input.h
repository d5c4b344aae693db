/* JSON and JSON lines from strangers: bounded, strict, every complaint with its place. */
#ifndef SIM_TRACE_JSON_INPUT_H
#define SIM_TRACE_JSON_INPUT_H

#include <jansson.h>
#include "sim/trace/importer.h"

enum json_form {
	JSON_LINES,      /* one value a line, at most 16 MB each; or a top-level array of them */
	JSON_LONG_LINES, /* the same, at most 64 MB: a session may be as large as the object it was made from */
	JSON_VALUES,     /* the elements of a top-level array, or top-level objects one after the other; 64 MB each */
	JSON_EITHER,     /* decided from the content: lines if the first line is a whole object, else values */
};

struct json_input {
	struct trace_input file;
	enum json_form form;
	char *text; /* the value at hand */
	size_t size, cap;
	char *quoted; /* the same with large ids in quotes, while it is parsed */
	size_t quoted_cap;
	int line, next_line; /* where the value at hand begins; where reading stands */
	bool in_array, done, first;
	char part[32]; /* of the value at hand that is being read, "request 3"; for messages */
	json_t *value; /* owned; of the last json_input_next */
};

int json_input_open(struct json_input *in, const char *path, enum json_form form, struct ikv_err *err);
void json_input_close(struct json_input *in);
/* 1: in->value is the next value, at in->line; 0: end; -1: error; -2: this value is broken, the next may be read. */
int json_input_next(struct json_input *in, struct ikv_err *err);

/* A trace of JSON records from begin to end: hand each to `record`, which emits its session or its requests. Bad ones
 * are left out where the options allow it. */
int json_read(struct trace *t, const char *path, enum json_form form,
	      int (*record)(struct trace *t, struct json_input *in, void *ctx, struct ikv_err *err), void *ctx,
	      struct ikv_err *err);

/* Are all these keys in the first line that is not blank, or in the start of a list? NULL-terminated, with their quotes;
 * for detect(). */
bool json_line_has(const char *head, size_t size, const char *const *keys);

/* Begin a session named by the value of `key`; complains of an id that is empty, longer than 400 bytes or taken. */
struct session *json_session(struct trace *t, struct json_input *in, const char *key, const char *id,
			     struct ikv_err *err);
/* The same complaints about a name in a log whose sessions are made at its end. */
int json_log_name(struct trace *t, struct json_input *in, const char *key, const char *id, struct ikv_err *err);

/* "a string \"abc\"", "a number 12.5": for messages. Control characters are escaped. */
const char *json_describe(const json_t *v, char text[80]);
IKV_PRINTF(4, 5)
int json_wrong(struct json_input *in, const char *key, struct ikv_err *err, const char *fmt, ...);
/* The same for another check than a bad value. */
IKV_PRINTF(5, 6)
int json_fault(struct json_input *in, enum trace_check check, const char *key, struct ikv_err *err, const char *fmt,
	       ...);

/* Is a JSON text nested no deeper than what is read? For JSON in strings. */
bool json_shallow(const char *text, size_t size);

/* Members of an object. A missing member is an error unless *has is given, which then says whether it was there. */
int json_member_int(struct json_input *in, const json_t *object, const char *key, int64_t min, int64_t max,
		    int64_t *out, bool *has, struct ikv_err *err);
int json_member_real(struct json_input *in, const json_t *object, const char *key, double min, double max,
		     double *out, bool *has, struct ikv_err *err);
/* NULL (and 0) for a missing one if `optional`. */
int json_member_text(struct json_input *in, const json_t *object, const char *key, bool optional, const char **out,
		     struct ikv_err *err);
/* Array of content ids, see json_id. *ids grows as needed. */
int json_member_ids(struct json_input *in, const json_t *object, const char *key, uint64_t **ids, size_t *cap,
		    uint32_t *count, struct ikv_err *err);
/* A content id: a whole number from 0 to 2^64 - 1 (above 2^63, where the parser's numbers end, it has been put in
 * quotes as "u64:<digits>" before parsing), the same in a string of digits, or any other string, which stands for its
 * 64-bit hash (XXH3). -1 if it is none. */
int json_id(const json_t *v, uint64_t *out);

#endif
