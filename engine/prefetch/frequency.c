/* Predicts the ids selected in at least min_frequency of the last history_size steps and the current one.
 *
 * Sets are bitmaps. A count per id is kept up to date as sets enter and leave the window, and a bitmap of the ids at or
 * above min_frequency: a step costs a few bits per known id and a count for each id in which the set that enters differs
 * from the one that leaves. */
#include <string.h>
#include "intentkv/alloc.h"
#include "prefetch/prefetch_table.h"
#include "serial.h"

#define ID_MAX (1u << 28)

struct config {
	int64_t history_size, min_frequency;
	bool use_hints;
};
static const struct ikv_option frequency_options[] = {
    {"history_size", IKV_OPT_INT, offsetof(struct config, history_size), "4", 1, 64, NULL,
     "steps remembered before the current one"},
    {"min_frequency", IKV_OPT_INT, offsetof(struct config, min_frequency), "3", 1, 65, NULL,
     "steps of history and the current one in which a page must have been selected"},
    {"use_hints", IKV_OPT_BOOL, offsetof(struct config, use_hints), "true", 0, 0, NULL,
     "whether the router's hints are predicted too"},
    IKV_OPTION_END};

struct stream {
	uint64_t **sets; /* ring [history_size + 1] of bitmaps, newest at (head + used - 1); those not in use are empty */
	uint32_t head, used;
	uint64_t *fresh; /* bitmap of the set about to enter */
	uint8_t *counts; /* [ids]: sets of the window that hold the id */
	uint64_t *hot;   /* bit per id: counts >= min_frequency */
	uint32_t ids;    /* a multiple of 64 */
};
struct frequency {
	struct config config;
	struct stream *streams;
	uint32_t count;
};

static void frequency_destroy(void *state)
{
	struct frequency *f = state;
	for (uint32_t i = 0; f && f->streams && i < f->count; i++) {
		struct stream *s = &f->streams[i];
		for (int64_t k = 0; s->sets && k <= f->config.history_size; k++)
			ikv_free(s->sets[k]);
		ikv_free(s->sets);
		ikv_free(s->fresh);
		ikv_free(s->counts);
		ikv_free(s->hot);
	}
	if (f)
		ikv_free(f->streams);
	ikv_free(f);
}

static int frequency_create(void **state, const void *config, uint32_t streams, struct ikv_err *err)
{
	const struct config *c = config;
	if (c->min_frequency > c->history_size + 1)
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "min_frequency: got %lld, but history_size %lld and the current step are only %lld "
				   "steps: nothing would be predicted",
				   (long long)c->min_frequency, (long long)c->history_size,
				   (long long)c->history_size + 1);
	struct frequency *f = ikv_alloc(1, sizeof *f, err);
	if (!f)
		return -1;
	f->config = *c;
	f->count = streams;
	f->streams = ikv_alloc(streams, sizeof *f->streams, err);
	for (uint32_t i = 0; f->streams && i < streams; i++) {
		f->streams[i].sets = ikv_alloc((size_t)f->config.history_size + 1, sizeof *f->streams[i].sets, err);
		if (!f->streams[i].sets)
			goto fail;
	}
	if (!f->streams)
		goto fail;
	*state = f;
	return 0;
fail:
	frequency_destroy(f);
	return -1;
}

static uint32_t room_of(const struct frequency *f)
{
	return (uint32_t)f->config.history_size + 1;
}

static int know(const struct frequency *f, struct stream *s, uint32_t id, struct ikv_err *err)
{
	uint32_t ids = s->ids ? s->ids : 64;
	if (id < s->ids)
		return 0;
	if (id >= ID_MAX)
		return ikv_err_set(err, IKV_FAILED, "prefetch: page %u is beyond %u", id, ID_MAX);
	while (ids <= id)
		ids *= 2;
	for (uint32_t k = 0; k < room_of(f); k++)
		if (ikv_grow(&s->sets[k], s->ids / 64, ids / 64, 8, err))
			return -1;
	if (ikv_grow(&s->counts, s->ids, ids, 1, err) || ikv_grow(&s->hot, s->ids / 64, ids / 64, 8, err) ||
	    ikv_grow(&s->fresh, 0, ids / 64, 8, err))
		return -1;
	s->ids = ids;
	return 0;
}

/* Count the ids of word w in which a place of the ring changes from one set to another. */
static void recount(const struct frequency *f, struct stream *s, uint32_t w, uint64_t from, uint64_t to)
{
	for (uint64_t b = from ^ to; b; b &= b - 1) {
		const uint64_t bit = b & -b;
		uint8_t *n = &s->counts[w * 64 + (uint32_t)__builtin_ctzll(b)];
		*n = (uint8_t)(to & bit ? *n + 1 : *n - 1);
		s->hot[w] = *n >= f->config.min_frequency ? s->hot[w] | bit : s->hot[w] & ~bit;
	}
}

static void drop_oldest(const struct frequency *f, struct stream *s)
{
	uint64_t *old = s->sets[s->head];
	for (uint32_t w = 0; w < s->ids / 64; w++) {
		recount(f, s, w, old[w], 0);
		old[w] = 0;
	}
	s->head = (s->head + 1) % room_of(f);
	s->used--;
}

/* The current step's set enters the window, in the oldest one's place if that is full. */
static int enter(const struct frequency *f, struct stream *s, const uint32_t *ids, uint32_t count, struct ikv_err *err)
{
	const uint32_t room = room_of(f), at = (s->head + s->used) % room;
	for (uint32_t i = 1; i < count; i++)
		if (ids[i] <= ids[i - 1])
			return ikv_err_set(err, IKV_FAILED, "prefetch: selected pages are not ascending at %u",
					   ids[i]);
	if (count && know(f, s, ids[count - 1], err))
		return -1;
	uint64_t *to = s->fresh, *from = s->sets[at];
	for (uint32_t w = 0, i = 0; w < s->ids / 64; w++) {
		uint64_t bits = 0;
		for (; i < count && ids[i] / 64 == w; i++)
			bits |= UINT64_C(1) << ids[i] % 64;
		to[w] = bits;
		recount(f, s, w, from[w], bits);
	}
	s->sets[at] = to;
	s->fresh = from;
	if (s->used < room)
		s->used++;
	else
		s->head = (s->head + 1) % room;
	return 0;
}

/* Bits in ascending order; where there are more than `cap`, the most frequent ones, lower ids first. */
static uint32_t emit(const struct stream *s, uint32_t *predicted, uint32_t cap)
{
	uint32_t histogram[256] = {0}, total = 0, n = 0, spare;
	int least = 0;
	for (uint32_t w = 0; w < s->ids / 64; w++)
		total += (uint32_t)__builtin_popcountll(s->hot[w]);
	spare = cap;
	if (total > cap) {
		for (uint32_t w = 0; w < s->ids / 64; w++)
			for (uint64_t b = s->hot[w]; b; b &= b - 1)
				histogram[s->counts[w * 64 + (uint32_t)__builtin_ctzll(b)]]++;
		for (least = 255; least > 0 && histogram[least] <= spare; least--)
			spare -= histogram[least];
	}
	for (uint32_t w = 0; w < s->ids / 64; w++) {
		for (uint64_t b = s->hot[w]; b && n < cap; b &= b - 1) {
			uint32_t id = w * 64 + (uint32_t)__builtin_ctzll(b);
			bool tie = total > cap && s->counts[id] == least;
			if (s->counts[id] < least || (tie && !spare))
				continue;
			spare -= tie;
			predicted[n++] = id;
		}
	}
	return n;
}

static int frequency_step(void *state, uint32_t stream, const uint32_t *selected, uint32_t count,
			  const uint32_t *hints, uint32_t hint_count, uint32_t *predicted, uint32_t cap,
			  uint32_t *predicted_count, struct ikv_err *err)
{
	struct frequency *f = state;
	struct stream *s = &f->streams[stream];
	if (!f->config.use_hints)
		hint_count = 0;
	for (uint32_t i = 0; i < hint_count; i++)
		if (know(f, s, hints[i], err))
			return -1;
	if (enter(f, s, selected, count, err))
		return -1;
	for (uint32_t i = 0; i < hint_count; i++)
		s->hot[hints[i] / 64] |= UINT64_C(1) << hints[i] % 64;
	*predicted_count = emit(s, predicted, cap);
	for (uint32_t i = 0; i < hint_count; i++)
		if (s->counts[hints[i]] < f->config.min_frequency)
			s->hot[hints[i] / 64] &= ~(UINT64_C(1) << hints[i] % 64);
	return 0;
}

static void frequency_reset(void *state, uint32_t stream)
{
	struct frequency *f = state;
	while (f->streams[stream].used)
		drop_oldest(f, &f->streams[stream]);
}

static size_t frequency_save(const void *state, void *buffer, size_t size)
{
	const struct frequency *f = state;
	struct serial_out o = {buffer, size, 0};
	const uint32_t room = room_of(f);
	serial_put(&o, f->count, 4);
	serial_put(&o, room, 4);
	for (uint32_t i = 0; i < f->count; i++) {
		const struct stream *s = &f->streams[i];
		serial_put(&o, s->used, 4);
		for (uint32_t k = 0; k < s->used; k++) {
			const uint64_t *set = s->sets[(s->head + k) % room];
			uint32_t count = 0;
			for (uint32_t w = 0; w < s->ids / 64; w++)
				count += (uint32_t)__builtin_popcountll(set[w]);
			serial_put(&o, count, 4);
			for (uint32_t w = 0; w < s->ids / 64; w++)
				for (uint64_t b = set[w]; b; b &= b - 1)
					serial_put(&o, w * 64 + (uint32_t)__builtin_ctzll(b), 4);
		}
	}
	return o.used;
}

static int frequency_load(void *state, const void *buffer, size_t size, struct ikv_err *err)
{
	struct frequency *f = state;
	struct serial_in in = {buffer, size, 0, false};
	const uint32_t room = room_of(f);
	if (serial_get(&in, 4) != f->count || serial_get(&in, 4) != room || in.bad)
		return ikv_err_set(err, IKV_BAD_INPUT, "saved prefetcher state: of other settings");
	uint32_t *ids = ikv_alloc(size / 4 + 1, sizeof *ids, err);
	int rc = ids ? 0 : -1;
	for (uint32_t i = 0; !rc && i < f->count; i++) {
		frequency_reset(f, i);
		uint32_t used = serial_get_count(&in, 4);
		if (used > room)
			in.bad = true;
		for (uint32_t k = 0; !rc && !in.bad && k < used; k++) {
			uint32_t n = serial_get_count(&in, 4);
			for (uint32_t j = 0; j < n; j++)
				ids[j] = (uint32_t)serial_get(&in, 4);
			rc = enter(f, &f->streams[i], ids, n, err);
		}
	}
	ikv_free(ids);
	if (!rc && (in.bad || in.used != size))
		rc = ikv_err_set(err, IKV_BAD_INPUT, "saved prefetcher state: damaged");
	return rc;
}

const struct ikv_prefetcher_ops prefetch_frequency = {
    .name = "frequency",
    .summary = "predicts pages selected in several of the last steps",
    .options = frequency_options,
    .config_bytes = sizeof(struct config),
    .create = frequency_create,
    .destroy = frequency_destroy,
    .step = frequency_step,
    .reset = frequency_reset,
    .save = frequency_save,
    .load = frequency_load,
};
