/* Reading traces: any format in, sessions and requests out, one after the other.
 *
 * A reader hands each session to a sink as soon as it is whole, and each request in the order in which it met it.
 * Formats whose file holds whole sessions therefore need memory for one session; in the others (mooncake and other
 * request logs) sessions interleave, and a request takes some 60 bytes until the end of its file. */
#ifndef SIM_TRACE_TRACE_H
#define SIM_TRACE_TRACE_H

#include "sim/session.h"
#include "sim/trace/check.h"

struct trace_request {
	const uint64_t *ids;    /* content ids of the input's blocks in order, or NULL; borrowed for the call */
	uint32_t count;         /* of ids */
	uint32_t block_tokens;  /* tokens an id stands for; 0: no ids, or ids that name objects of `bytes` */
	uint64_t bytes;         /* of the object, else 0 */
	uint64_t scope;         /* 0: ids are global; else they are only unique within this number */
	uint32_t input, output; /* tokens */
	double at_ms;           /* when it was sent, from the start of the trace */
	int line;               /* in the file */
};

/* Where sessions and requests go; either function may be NULL. Both return 0 or -1 with an error, which ends the
 * reading. */
struct trace_sink {
	void *ctx;
	/* A whole session, checked. It may be moved away (session_list_take); what is left is freed. */
	int (*session)(void *ctx, struct session *s, struct ikv_err *err);
	int (*request)(void *ctx, const struct trace_request *r, struct ikv_err *err);
};

struct tokenizer;
struct session_options {             /* what readers need to know */
	bool skip_bad;               /* count bad records and go on, instead of stopping at the first */
	uint32_t limit;              /* at most so many sessions, 0: all */
	int64_t max_context_tokens;  /* sessions longer than this are cut with a warning, 0: no limit */
	uint32_t block_tokens;       /* convert content ids to blocks of so many tokens, 0: as they are */
	struct tokenizer *tokenizer; /* counts the tokens of text, NULL: four code points a token; see below */
	const char *tokenizer_name;  /* for facts.tokens_by */
	/* Told of everything that is wrong; reading then goes on after each bad record (`lint`). */
	void (*finding)(void *ctx, const struct trace_finding *f);
	void *finding_ctx;
};

/* Let them count by the tokenizer.json at `path`; nothing happens for NULL and "". `path` must stay. */
int session_options_tokenizer(struct session_options *options, const char *path, struct ikv_err *err);
void session_options_free(struct session_options *options);

struct trace;
struct importer {
	const char *name, *summary;
	bool by_session; /* requests come session by session, not in order of time */
	/* Does the content look like this format? From the first 64 KB, unpacked. 0 no … 100 certain. */
	int (*detect)(const char *path, const char *head, size_t size);
	int (*read)(struct trace *t, const char *path, struct ikv_err *err);
};
extern const struct importer *const importers[]; /* NULL-terminated */
const struct importer *importer_find(const char *name);

/* Read `path`: a file, or a folder of files of one format, in byte order of the names. `format` "auto" detects and
 * writes what it decided to facts->format. `opts` may be NULL. */
int trace_read(const char *path, const char *format, const struct session_options *opts,
	       const struct trace_sink *sink, struct trace_facts *facts, struct ikv_err *err);
/* All sessions at once. Nothing is left allocated on failure. */
int session_import(const char *path, const char *format, const struct session_options *opts, struct session_list *out,
		   struct ikv_err *err);

/* Writing the canonical JSONL form, one session a line (docs/traces.md); `import -o`. The file appears under its name
 * when it is whole. */
struct session_writer;
int session_writer_open(struct session_writer **out, const char *path, struct ikv_err *err);
int session_writer_put(struct session_writer *w, const struct session *s, struct ikv_err *err);
/* Writes the header; `facts` NULL gives up. Frees the writer in any case. */
int session_writer_close(struct session_writer *w, const struct trace_facts *facts, struct ikv_err *err);
int session_write(const struct session_list *list, const char *path, struct ikv_err *err);

#endif
