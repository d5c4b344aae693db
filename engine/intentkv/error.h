/* Error values.
 *
 * Every fallible function returns 0 on success and -1 on failure, and takes a
 * `struct ikv_err *` as its last argument. The deepest function that knows what
 * went wrong writes the message; callers pass it up unchanged, or add a place.
 * Passing NULL is allowed where the caller does not want the text. */
#ifndef INTENTKV_ERROR_H
#define INTENTKV_ERROR_H

#include <stddef.h>

#if defined __GNUC__
#define IKV_API          __attribute__((visibility("default")))
#define IKV_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define IKV_API
#define IKV_PRINTF(f, a)
#endif

/* What kind of failure it is; the numbers are the program's exit codes. */
enum ikv_status {
	IKV_OK = 0,
	IKV_FAILED = 1,       /* anything else */
	IKV_USAGE = 64,       /* the command line */
	IKV_BAD_INPUT = 65,   /* a scenario, layout, trace or database is wrong */
	IKV_UNAVAILABLE = 69, /* a backend, ISA or tool that is not there */
	IKV_CANT_CREATE = 73, /* an output cannot be created */
	IKV_IO = 74,          /* reading or writing failed */
	IKV_BUSY = 75,        /* somebody else holds it; try again */
};

struct ikv_err {
	enum ikv_status status;
	char text[1000];
};

/* Write a message; returns -1 so that `return ikv_err_set(...)` reads well. */
IKV_API int ikv_err_set(struct ikv_err *err, enum ikv_status status, const char *fmt, ...) IKV_PRINTF(3, 4);

/* The same with a place in front: "file:line:col: key: message". A NULL file or
 * key and a line or col of 0 are left out. */
IKV_API int ikv_err_at(struct ikv_err *err, enum ikv_status status, const char *file, int line, int col,
		       const char *key, const char *fmt, ...) IKV_PRINTF(7, 8);

/* The word of `valid` nearest to `word` by edit distance, or NULL if none is near
 * enough to be a likely slip (distance at most a third of its length, at least 1). */
IKV_API const char *ikv_nearest(const char *word, const char *const *valid, size_t count);

#endif
