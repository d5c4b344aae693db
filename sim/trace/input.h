/* Bytes of a trace file, whatever it is packed in: plain, gzip (RFC 1952) or Zstandard (RFC 8878), told apart by
 * the first bytes. Reads go through one buffer; memory does not grow with the file. */
#ifndef SIM_TRACE_INPUT_H
#define SIM_TRACE_INPUT_H

#include <stddef.h>
#include "sim/trace/check.h"

struct trace_input {
	const char *path;              /* not owned */
	const unsigned char *at, *end; /* what is buffered and not yet read */
	uint64_t total;                /* bytes handed out before the buffer's content */
	enum trace_check check;        /* of the newest error */
	int wrong_line;                /* and its line */
	int line;                      /* at which the reader stands, 0 if it counts none: for messages */
	bool unreadable;               /* the newest error is the file's, not a record's: reading cannot go on */
	struct unpacker *unpacker;     /* owned */
};

int trace_input_open(struct trace_input *in, const char *path, struct ikv_err *err);
void trace_input_close(struct trace_input *in);
/* More bytes into the buffer once it is read up: 1, 0 at the end, -1. */
int trace_input_fill(struct trace_input *in, struct ikv_err *err);
/* At least `want` buffered bytes, or all there are to the end of the file: how many, or -1. `want` <= 65536; for
 * the start of a file. */
long trace_input_head(struct trace_input *in, size_t want, struct ikv_err *err);

enum { TRACE_EOF = -1, TRACE_FAILED = -2 };
/* The next byte, TRACE_EOF or TRACE_FAILED. */
static inline int trace_getc(struct trace_input *in, struct ikv_err *err)
{
	if (in->at == in->end) {
		int more = trace_input_fill(in, err);
		if (more != 1)
			return more ? TRACE_FAILED : TRACE_EOF;
	}
	return *in->at++;
}
/* Exactly `size` bytes into `to`: 1; 0 at the end of the file before the first; -1 with an error, which says
 * truncated where the file ends inside. `line` is for the message. */
int trace_input_bytes(struct trace_input *in, void *to, size_t size, struct ikv_err *err);

/* Length of the UTF-8 character at p, 0 if it is none. */
size_t trace_utf8(const char *p);
/* A text from outside into a field: bytes that are no UTF-8 become '?', what does not fit is cut at a character. */
void trace_text(char *to, size_t size, const char *text);

/* Write "path:line: key: text" and note the check. Returns -1. */
IKV_PRINTF(6, 7)
int trace_wrong(struct trace_input *in, enum trace_check check, int line, const char *key, struct ikv_err *err,
		const char *fmt, ...);

#endif
