/* What can be wrong with a trace: the checks of `intentkv lint`, and how a reader reports one. */
#ifndef SIM_TRACE_CHECK_H
#define SIM_TRACE_CHECK_H

#include <intentkv.h>

enum trace_check {
	CHECK_SYNTAX,      /* not JSON, CSV or msgpack; not UTF-8; not the record's form */
	CHECK_TRUNCATED,   /* the file ends inside a record */
	CHECK_LIMIT,       /* a record larger or deeper than what is read */
	CHECK_VALUE,       /* a field is missing, mistyped or out of range */
	CHECK_ID_COUNT,    /* the number of content ids does not follow from the length */
	CHECK_ID_RANGE,    /* a content id that is no unsigned 64-bit number and no string */
	CHECK_SCOPE,       /* ids are declared global or local, and are not */
	CHECK_DELTA,       /* lengths that must be increments are whole inputs, or the reverse */
	CHECK_DUPLICATE,   /* the same session, request or id twice */
	CHECK_TIME,        /* time runs backwards */
	CHECK_CONSISTENCY, /* figures of one record or file contradict each other */
	CHECK_COUNT
};
extern const char *const trace_check_names[CHECK_COUNT + 1]; /* "syntax", …; NULL-terminated */
extern const char *const trace_check_texts[CHECK_COUNT];

struct trace_finding {
	const char *path;
	int line; /* 0: the file as a whole */
	enum trace_check check;
	bool warning;     /* suspicious, but read; else the record is left out */
	const char *text; /* "path:line: key: what"; valid during the call */
};

#endif
