#include <errno.h>
#include <string.h>
#include "sim/trace/request_log.h"

enum { WORDS_IN_MEMORY = 8 << 20 };

static int room(void *array, size_t count, size_t *cap, size_t more, size_t size, struct ikv_err *err)
{
	if (*cap - count >= more)
		return 0;
	size_t next = *cap + *cap / 2 + more + 64;
	if (ikv_grow(array, count, next, size, err))
		return -1;
	*cap = next;
	return 0;
}

static int failed(struct ikv_err *err)
{
	return ikv_err_set(err, IKV_IO, "a temporary file for the requests of a trace: %s", strerror(errno));
}

static int spill(struct request_log *log, struct ikv_err *err)
{
	if (!log->file && !(log->file = tmpfile()))
		return failed(err);
	if (fwrite(log->words, sizeof *log->words, log->word_count, log->file) != log->word_count)
		return failed(err);
	log->spilled += log->word_count;
	log->word_count = 0;
	return 0;
}

int request_log_add(struct request_log *log, uint32_t session, const struct logged *record, const uint64_t *payload,
		    struct ikv_err *err)
{
	if (log->count >= UINT32_MAX - 1)
		return ikv_err_set(err, IKV_BAD_INPUT, "more than %u requests in one trace", UINT32_MAX - 1);
	if (room(&log->records, log->count, &log->cap, 1, sizeof *log->records, err) ||
	    room(&log->sessions, log->session_count, &log->session_cap, 1, sizeof *log->sessions, err) ||
	    (log->word_count >= WORDS_IN_MEMORY && spill(log, err)) ||
	    room(&log->words, log->word_count, &log->word_cap, record->words, sizeof *log->words, err))
		return -1;
	uint32_t number = (uint32_t)log->count++;
	struct logged *r = &log->records[number];
	*r = *record;
	r->payload = log->spilled + log->word_count;
	r->next = UINT32_MAX;
	if (r->words)
		memcpy(log->words + log->word_count, payload, r->words * sizeof *payload);
	log->word_count += r->words;
	if (session == log->session_count)
		log->sessions[log->session_count++] = (struct logged_session){number, number, 0};
	else
		log->records[log->sessions[session].last].next = number;
	log->sessions[session].last = number;
	log->sessions[session].count++;
	return 0;
}

void request_log_free(struct request_log *log)
{
	ikv_free(log->records);
	ikv_free(log->sessions);
	ikv_free(log->words);
	if (log->file)
		fclose(log->file);
	*log = (struct request_log){0};
}

struct payload {
	uint64_t *words;
	size_t cap;
};

static int fetch(const struct request_log *log, const struct logged *r, struct payload *to, struct ikv_err *err)
{
	if (room(&to->words, 0, &to->cap, r->words, sizeof *to->words, err))
		return -1;
	if (r->words == 0)
		return 0;
	if (r->payload >= log->spilled) {
		memcpy(to->words, log->words + (r->payload - log->spilled), r->words * sizeof *to->words);
		return 0;
	}
	/* A payload lies wholly in the file or wholly in memory: it is spilled between two records. */
	if (fseeko(log->file, (off_t)(r->payload * sizeof *to->words), SEEK_SET) ||
	    fread(to->words, sizeof *to->words, r->words, log->file) != r->words)
		return failed(err);
	return 0;
}

static int play_session(const struct request_log *log, struct trace *t, const struct request_player *player,
			uint32_t number, struct payload room[2], struct ikv_err *err)
{
	uint32_t at = log->sessions[number].first;
	struct request_stream stream = {0};
	struct session *s = player->begin(player->ctx, t, number, &log->records[at], err);
	int rc = s ? 0 : -1;
	for (uint32_t i = 0; !rc && at != UINT32_MAX; i++, at = log->records[at].next) {
		const struct logged *r = &log->records[at];
		rc = fetch(log, r, &room[i % 2], err);
		if (!rc)
			rc = player->play(player->ctx, s, &stream, r, room[i % 2].words, err);
	}
	return rc ? rc : trace_hand_over(t, err);
}

int request_log_play(const struct request_log *log, struct trace *t, const struct request_player *player,
		     struct ikv_err *err)
{
	struct payload room[2] = {{0}};
	int rc = 0;
	if (log->file && fflush(log->file))
		return failed(err);
	for (uint32_t i = 0; !rc && i < log->session_count && !trace_full(t); i++)
		rc = play_session(log, t, player, i, room, err);
	ikv_free(room[0].words);
	ikv_free(room[1].words);
	return rc;
}
