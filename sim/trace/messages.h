/* Chat messages, as the APIs of OpenAI and Anthropic, the tools around them and OpenTelemetry write them: taken apart
 * into blocks of one kind each, with their tokens. */
#ifndef SIM_TRACE_MESSAGES_H
#define SIM_TRACE_MESSAGES_H

#include "sim/trace/json_input.h"

struct message_block {
	enum ikv_kind kind;
	bool generated; /* by the model, when the message was new; else it entered by prefill */
	uint32_t tokens;
	float confidence; /* of the kind */
};

/* A reader of messages, and what it found in the newest. Starts zeroed but for t and in. */
struct message {
	struct trace *t;
	struct json_input *in;
	bool quiet;                   /* no warnings: it is read a second time */
	const char *key;              /* of the complaints: where we are */
	struct message_block *blocks; /* of the newest message, none without tokens; owned */
	size_t count, cap;
	bool assistant;
	uint64_t hash; /* of its role and contents */
	char *text;    /* of the block under way; owned */
	size_t size, text_cap;
	uint64_t extra; /* tokens of it that are no text */
};

/* Take the message apart: {role, content or parts, reasoning_content, tool_calls, ...}. */
int message_read(struct message *m, const json_t *value, struct ikv_err *err);
/* Blocks by hand: start over, then any of the others. */
void message_begin(struct message *m, const char *role);
/* A content: a string, or a list of parts. Text and pictures become one block of `kind`, up to a part of a kind of
 * its own. */
int message_content(struct message *m, const json_t *content, enum ikv_kind kind, bool generated,
		    struct ikv_err *err);
/* One block of a value: of the string itself, or of its compact JSON. Nothing for NULL and null. */
int message_value(struct message *m, const json_t *value, enum ikv_kind kind, bool generated, struct ikv_err *err);
int message_text(struct message *m, const char *text, size_t bytes, enum ikv_kind kind, bool generated,
		 float confidence, struct ikv_err *err);
/* The calls of a list of tool_calls, one block each. */
int message_calls(struct message *m, const json_t *calls, struct ikv_err *err);
void message_free(struct message *m);

/* How the lengths of messages are counted, for the facts of the trace. */
void message_counts(struct trace *t);

/* A session made from messages, each of which stands there once. Starts zeroed but for s and in. */
struct transcript {
	struct session *s;
	struct json_input *in;
	uint64_t context;
	bool answered; /* the newest event is a decode: what follows belongs to the next request */
	uint32_t turn;
};
/* The blocks of the message, one event each. */
int transcript_add(struct transcript *c, const struct message *m, struct ikv_err *err);
int transcript_wait(struct transcript *c, double ms, struct ikv_err *err);

#endif
