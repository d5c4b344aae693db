#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "sim/trace/request_log.h"

enum { WORDS_IN_MEMORY = 8 << 20, RECORD_WORDS = (sizeof(struct logged) + 7) / 8 };

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

uint32_t request_log_session(const struct request_log *log, const char *name)
{
	uint64_t found;
	bool known = id_table_get(&log->names, XXH3_64bits(name, strlen(name)), &found);
	return (uint32_t)(known ? found : log->session_count);
}

static int add_session(struct request_log *log, const char *name, uint32_t record, struct ikv_err *err)
{
	struct logged_session *s = &log->sessions[log->session_count];
	*s = (struct logged_session){.first = record};
	if (name && !(s->name = strdup(name)))
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	log->session_count++;
	return name ? id_table_put(&log->names, XXH3_64bits(name, strlen(name)), log->session_count - 1, err) : 0;
}

int request_log_add(struct request_log *log, uint32_t session, const char *name, const struct logged *record,
		    const uint64_t *payload, struct ikv_err *err)
{
	if (log->count >= UINT32_MAX - 1)
		return ikv_err_set(err, IKV_BAD_INPUT, "more than %u requests in one trace", UINT32_MAX - 1);
	size_t words = RECORD_WORDS + (size_t)record->words;
	if (room(&log->places, log->count, &log->place_cap, 1, sizeof *log->places, err) ||
	    room(&log->next, log->count, &log->next_cap, 1, sizeof *log->next, err) ||
	    room(&log->sessions, log->session_count, &log->session_cap, 1, sizeof *log->sessions, err) ||
	    (log->word_count >= WORDS_IN_MEMORY && spill(log, err)) ||
	    room(&log->words, log->word_count, &log->word_cap, words, sizeof *log->words, err))
		return -1;
	uint32_t number = (uint32_t)log->count++;
	if (number == 0)
		log->first_ms = record->at_ms;
	log->places[number] = log->spilled + log->word_count;
	log->next[number] = UINT32_MAX;
	uint64_t *to = log->words + log->word_count;
	memcpy(to, record, sizeof *record);
	if (record->words)
		memcpy(to + RECORD_WORDS, payload, record->words * sizeof *payload);
	log->word_count += words;
	if (session < log->session_count)
		log->next[log->sessions[session].last] = number;
	else if (add_session(log, name, number, err))
		return -1;
	log->sessions[session].last = number;
	return 0;
}

void request_log_free(struct request_log *log)
{
	for (size_t i = 0; i < log->session_count; i++)
		free(log->sessions[i].name);
	id_table_free(&log->names);
	ikv_free(log->places);
	ikv_free(log->next);
	ikv_free(log->sessions);
	ikv_free(log->words);
	if (log->file)
		fclose(log->file);
	*log = (struct request_log){0};
}

struct fetched {
	struct logged record;
	uint64_t *words; /* its payload; owned */
	size_t cap;
};

static int read_words(const struct request_log *log, void *to, size_t bytes, struct ikv_err *err)
{
	return bytes && fread(to, 1, bytes, log->file) != bytes ? failed(err) : 0;
}

static int fetch(const struct request_log *log, uint32_t number, struct fetched *to, struct ikv_err *err)
{
	uint64_t place = log->places[number];
	struct logged *r = &to->record;
	/* A record lies wholly in the file or wholly in memory: it is spilled between two. */
	if (place >= log->spilled) {
		const uint64_t *words = log->words + (place - log->spilled);
		memcpy(r, words, sizeof *r);
		if (room(&to->words, 0, &to->cap, r->words, sizeof *to->words, err))
			return -1;
		if (r->words)
			memcpy(to->words, words + RECORD_WORDS, r->words * sizeof *to->words);
		return 0;
	}
	uint64_t head[RECORD_WORDS];
	if (fseeko(log->file, (off_t)(place * sizeof *head), SEEK_SET))
		return failed(err);
	if (read_words(log, head, sizeof head, err))
		return -1;
	memcpy(r, head, sizeof *r);
	return room(&to->words, 0, &to->cap, r->words, sizeof *to->words, err) ||
	       read_words(log, to->words, r->words * sizeof *to->words, err);
}

static int play_session(const struct request_log *log, struct trace *t, const struct request_player *player,
			uint32_t number, struct fetched room[2], struct ikv_err *err)
{
	struct request_stream stream = {0};
	struct session *s = NULL;
	int rc = 0;
	uint32_t i = 0;
	for (uint32_t at = log->sessions[number].first; !rc && at != UINT32_MAX; at = log->next[at], i++) {
		struct fetched *f = &room[i % 2];
		rc = fetch(log, at, f, err);
		if (!rc && i == 0 && !(s = player->begin(player->ctx, t, number, &f->record, err)))
			rc = -1;
		if (!rc)
			rc = player->play(player->ctx, s, &stream, &f->record, f->words, err);
	}
	if (rc)
		return rc;
	return t->pending_count || t->opts->limit ? trace_emit(t, err) : trace_hand_over(t, err);
}

int request_log_play(const struct request_log *log, struct trace *t, const struct request_player *player,
		     struct ikv_err *err)
{
	struct fetched room[2] = {0};
	int rc = 0;
	if (log->file && fflush(log->file))
		return failed(err);
	/* Who wants requests alone has them, unless they are told of while a session is played. */
	bool wanted = trace_wants_sessions(t) || t->opts->finding || t->facts->requests == 0;
	uint32_t count = wanted ? (uint32_t)log->session_count : 0;
	for (uint32_t i = 0; !rc && i < count && !trace_full(t); i++)
		rc = play_session(log, t, player, i, room, err);
	ikv_free(room[0].words);
	ikv_free(room[1].words);
	return rc;
}
