/* Predicts the ids selected in at least min_frequency of the last history_size steps and the current one.
 *
 * Sets are bitmaps, and the number of sets that hold an id is a binary number of which each digit is a bitmap, too: a
 * step costs some operations for each 64 known ids, wherever the selected ones lie. */
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

#define DIGITS_MAX 7 /* of a count up to 65 */

/* Bitmaps of a stream, word by word: the ids at or above min_frequency, the digits of the counts from the lowest on, and
 * the sets, a ring of which the newest is at (head + used - 1) and those not in use are empty. */
struct stream {
	uint64_t *words; /* [words][stride] */
	uint32_t head, used, count;
};
struct frequency {
	struct config config;
	struct stream *streams;
	uint32_t count;
	uint32_t room, digits, stride; /* of the ring; of counts up to room; 1 + digits + room */
};

static void frequency_destroy(void *state)
{
	struct frequency *f = state;
	for (uint32_t i = 0; f && f->streams && i < f->count; i++)
		ikv_free(f->streams[i].words);
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
	f->room = (uint32_t)c->history_size + 1;
	f->digits = 32 - (uint32_t)__builtin_clz(f->room);
	f->stride = 1 + f->digits + f->room;
	f->streams = ikv_alloc(streams, sizeof *f->streams, err);
	if (!f->streams) {
		ikv_free(f);
		return -1;
	}
	*state = f;
	return 0;
}

static int know(const struct frequency *f, struct stream *s, uint32_t id, struct ikv_err *err)
{
	uint32_t words = s->words ? s->count : 1;
	if (id / 64 < s->count)
		return 0;
	if (id >= ID_MAX)
		return ikv_err_set(err, IKV_FAILED, "prefetch: page %u is beyond %u", id, ID_MAX);
	while (words <= id / 64)
		words *= 2;
	if (ikv_grow(&s->words, s->count, words, f->stride * sizeof *s->words, err))
		return -1;
	s->count = words;
	return 0;
}

/* Sixty-four ids: the set at place `at` of the ring becomes `bits`. */
static void replace(const struct frequency *f, uint64_t *word, uint32_t at, uint64_t bits)
{
	uint64_t *digit = word + 1, *set = word + 1 + f->digits + at;
	uint64_t carry = bits & ~*set, borrow = *set & ~bits, equal = ~UINT64_C(0), more = 0;
	*set = bits;
	for (uint32_t d = 0; d < f->digits; d++) { /* an id is added or taken away, never both */
		const uint64_t old = digit[d];
		digit[d] = old ^ (carry | borrow);
		carry &= old;
		borrow &= ~old;
	}
	for (uint32_t d = f->digits; d-- > 0;) {
		const uint64_t least = f->config.min_frequency >> d & 1 ? ~UINT64_C(0) : 0;
		more |= equal & digit[d] & ~least;
		equal &= ~(digit[d] ^ least);
	}
	word[0] = more | equal;
}

/* Sets of the window that hold the id. */
static uint32_t count_of(const struct frequency *f, const uint64_t *word, int bit)
{
	uint32_t n = 0;
	for (uint32_t d = 0; d < f->digits; d++)
		n |= (uint32_t)(word[1 + d] >> bit & 1) << d;
	return n;
}

static void drop_oldest(const struct frequency *f, struct stream *s)
{
	for (uint32_t w = 0; w < s->count; w++)
		replace(f, s->words + (size_t)w * f->stride, s->head, 0);
	s->head = (s->head + 1) % f->room;
	s->used--;
}

/* The current step's set enters the window, in the oldest one's place if that is full. */
static int enter(const struct frequency *f, struct stream *s, const uint32_t *ids, uint32_t count, struct ikv_err *err)
{
	const uint32_t at = (s->head + s->used) % f->room;
	for (uint32_t i = 1; i < count; i++)
		if (ids[i] <= ids[i - 1])
			return ikv_err_set(err, IKV_FAILED, "prefetch: selected pages are not ascending at %u",
					   ids[i]);
	if (count && know(f, s, ids[count - 1], err))
		return -1;
	for (uint32_t w = 0, i = 0; w < s->count; w++) {
		uint64_t bits = 0;
		for (; i < count && ids[i] / 64 == w; i++)
			bits |= UINT64_C(1) << ids[i] % 64;
		replace(f, s->words + (size_t)w * f->stride, at, bits);
	}
	if (s->used < f->room)
		s->used++;
	else
		s->head = (s->head + 1) % f->room;
	return 0;
}

/* Where more than `cap` ids are predicted: the least count that still is, and how many ids of that count. */
static uint32_t least_count(const struct frequency *f, const struct stream *s, uint32_t cap, uint32_t *spare)
{
	uint32_t histogram[1 << DIGITS_MAX] = {0}, least = (1 << DIGITS_MAX) - 1;
	for (uint32_t w = 0; w < s->count; w++) {
		const uint64_t *word = s->words + (size_t)w * f->stride;
		for (uint64_t b = word[0]; b; b &= b - 1)
			histogram[count_of(f, word, __builtin_ctzll(b))]++;
	}
	for (; least > 0 && histogram[least] <= cap; least--)
		cap -= histogram[least];
	*spare = cap;
	return least;
}

/* In ascending order; where there are more than `cap`, the most frequent ones, lower ids first. */
static uint32_t emit(const struct frequency *f, const struct stream *s, uint32_t *predicted, uint32_t cap)
{
	uint32_t total = 0, n = 0, least = 0, spare = 0;
	for (uint32_t w = 0; w < s->count; w++)
		total += (uint32_t)__builtin_popcountll(s->words[(size_t)w * f->stride]);
	if (total > cap)
		least = least_count(f, s, cap, &spare);
	for (uint32_t w = 0; w < s->count; w++) {
		const uint64_t *word = s->words + (size_t)w * f->stride;
		for (uint64_t b = word[0]; b; b &= b - 1) {
			const int bit = __builtin_ctzll(b);
			const uint32_t count = total > cap ? count_of(f, word, bit) : 1;
			if (count < least || (count == least && !spare))
				continue;
			spare -= count == least;
			predicted[n++] = w * 64 + (uint32_t)bit;
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
		s->words[(size_t)(hints[i] / 64) * f->stride] |= UINT64_C(1) << hints[i] % 64;
	*predicted_count = emit(f, s, predicted, cap);
	for (uint32_t i = 0; i < hint_count; i++) {
		uint64_t *word = s->words + (size_t)(hints[i] / 64) * f->stride;
		if (count_of(f, word, (int)(hints[i] % 64)) < f->config.min_frequency)
			word[0] &= ~(UINT64_C(1) << hints[i] % 64);
	}
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
	serial_put(&o, f->count, 4);
	serial_put(&o, f->room, 4);
	for (uint32_t i = 0; i < f->count; i++) {
		const struct stream *s = &f->streams[i];
		serial_put(&o, s->used, 4);
		for (uint32_t k = 0; k < s->used; k++) {
			const uint64_t *set = s->words + 1 + f->digits + (s->head + k) % f->room;
			uint32_t count = 0;
			for (uint32_t w = 0; w < s->count; w++)
				count += (uint32_t)__builtin_popcountll(set[(size_t)w * f->stride]);
			serial_put(&o, count, 4);
			for (uint32_t w = 0; w < s->count; w++)
				for (uint64_t b = set[(size_t)w * f->stride]; b; b &= b - 1)
					serial_put(&o, w * 64 + (uint32_t)__builtin_ctzll(b), 4);
		}
	}
	return o.used;
}

static int frequency_load(void *state, const void *buffer, size_t size, struct ikv_err *err)
{
	struct frequency *f = state;
	struct serial_in in = {buffer, size, 0, false};
	if (serial_get(&in, 4) != f->count || serial_get(&in, 4) != f->room || in.bad)
		return ikv_err_set(err, IKV_BAD_INPUT, "saved prefetcher state: of other settings");
	uint32_t *ids = ikv_alloc(size / 4 + 1, sizeof *ids, err);
	int rc = ids ? 0 : -1;
	for (uint32_t i = 0; !rc && i < f->count; i++) {
		frequency_reset(f, i);
		uint32_t used = serial_get_count(&in, 4);
		if (used > f->room)
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
