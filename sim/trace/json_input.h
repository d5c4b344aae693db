/* JSON and JSON lines from strangers: bounded, strict, every complaint with its place. */
#ifndef SIM_TRACE_JSON_INPUT_H
#define SIM_TRACE_JSON_INPUT_H

#include <jansson.h>
#include "sim/trace/table.h"

enum json_form {
	JSON_LINES,  /* one value a line, at most 16 MB each */
	JSON_VALUES, /* the elements of a top-level array, or top-level objects one after the other; 64 MB each */
};

struct json_input {
	FILE *file;
	const char *path; /* not owned */
	enum json_form form;
	char *text; /* the value at hand */
	size_t size, cap;
	int line, next_line; /* where the value at hand begins; where reading stands */
	uint64_t total;      /* bytes read */
	bool in_array, done, first;
	char part[32]; /* of the value at hand that is being read, "request 3"; for messages */
	json_t *value; /* owned; of the last json_input_next */
};

int json_input_open(struct json_input *in, const char *path, enum json_form form, struct ikv_err *err);
void json_input_close(struct json_input *in);
/* 1: in->value is the next value, at in->line; 0: end; -1: error; -2: this value is broken, the next may be read. */
int json_input_next(struct json_input *in, struct ikv_err *err);

/* "a string \"abc\"", "a number 12.5": for messages. Control characters are escaped. */
const char *json_describe(const json_t *v, char text[80]);
IKV_PRINTF(4, 5)
int json_wrong(const struct json_input *in, const char *key, struct ikv_err *err, const char *fmt, ...);

/* Members of an object. A missing member is an error unless *has is given, which then says whether it was there. */
int json_member_int(const struct json_input *in, const json_t *object, const char *key, int64_t min, int64_t max,
		    int64_t *out, bool *has, struct ikv_err *err);
int json_member_real(const struct json_input *in, const json_t *object, const char *key, double min, double max,
		     double *out, bool *has, struct ikv_err *err);
/* NULL (and 0) for a missing one if `optional`. */
int json_member_text(const struct json_input *in, const json_t *object, const char *key, bool optional,
		     const char **out, struct ikv_err *err);
/* Array of 64-bit ids: whole numbers, or strings "123" and "u64:123" above 2^63. *ids grows as needed. */
int json_member_ids(const struct json_input *in, const json_t *object, const char *key, uint64_t **ids, size_t *cap,
		    uint32_t *count, struct ikv_err *err);
/* A 64-bit id; -1 if it is none. */
int json_id(const json_t *v, uint64_t *out);

#endif
