/* Byte-pair encoding of one word (Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword
 * units", 2016): of all neighbours that may be merged, always the pair of the lowest rank, leftmost first. */
#include <stdio.h>
#include <xxhash.h>
#include "sim/tokenizer_parts.h"

enum { CACHE_WAYS = 2, CACHE_SETS = 1 << 15, SHORT_WORD = 48 };

/* GPT-2's alphabet: bytes that print stand for themselves, the others for the code points from 256 on (Radford et
 * al., "Language models are unsupervised multitask learners", 2019). */
static void make_alphabet(struct bpe *b)
{
	unsigned next = 256;
	for (unsigned byte = 0; byte < 256; byte++) {
		bool prints = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
		unsigned c = prints ? byte : next++;
		b->byte_sizes[byte] = c < 0x80 ? 1 : 2;
		b->byte_chars[byte][0] = (char)(c < 0x80 ? c : 0xc0 | c >> 6);
		b->byte_chars[byte][1] = (char)(c < 0x80 ? 0 : 0x80 | (c & 63));
	}
}

int bpe_prepare(struct bpe *b, struct ikv_err *err)
{
	make_alphabet(b);
	for (int byte = 0; byte < 256; byte++) {
		char name[8];
		int size = snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
		b->fallback[byte] = vocab_find(&b->vocab, name, (size_t)size);
	}
	b->cache = ikv_alloc((size_t)CACHE_SETS * CACHE_WAYS, sizeof *b->cache, err);
	return b->cache ? 0 : -1;
}

void bpe_free(struct bpe *b)
{
	vocab_free(&b->vocab);
	ikv_free(b->merges.slots);
	ikv_free(b->joints.slots);
	ikv_free(b->joined);
	ikv_free(b->unk_token.at);
	ikv_free(b->cache);
	ikv_free(b->mapped.at);
	ikv_free(b->ids);
	ikv_free(b->symbols);
	ikv_free(b->queue);
}

static int map_bytes(struct bpe *b, const char **word, size_t *size, struct ikv_err *err)
{
	if (token_reserve(&b->mapped.at, &b->mapped.cap, 2 * *size + 1, 1, err))
		return -1;
	char *to = b->mapped.at;
	for (size_t i = 0; i < *size; i++) {
		unsigned char byte = (unsigned char)(*word)[i];
		memcpy(to, b->byte_chars[byte], 2);
		to += b->byte_sizes[byte];
	}
	*word = b->mapped.at;
	*size = (size_t)(to - b->mapped.at);
	return 0;
}

/* Ids of the bytes of a character that is not in the vocabulary, if all have one. */
static size_t fall_back(const struct bpe *b, const char *character, size_t size, uint32_t *ids)
{
	for (size_t i = 0; i < size; i++) {
		int32_t id = b->fallback[(unsigned char)character[i]];
		if (id == TOKEN_NONE)
			return 0;
		ids[i] = (uint32_t)id;
	}
	return size;
}

/* The characters of a word as ids, into b->ids. Unknown ones wait for the next known one, as in the original. */
static int first_symbols(struct bpe *b, const char *word, size_t size, size_t *count, struct ikv_err *err)
{
	size_t n = 0;
	int32_t waiting = TOKEN_NONE;
	if (token_reserve(&b->ids, &b->ids_cap, size + 1, sizeof *b->ids, err))
		return -1;
	for (size_t i = 0, bytes; i < size; i += bytes) {
		bytes = utf8_length(word[i]);
		int32_t id = vocab_find(&b->vocab, word + i, bytes);
		if (id != TOKEN_NONE) {
			if (waiting != TOKEN_NONE)
				b->ids[n++] = (uint32_t)waiting;
			waiting = TOKEN_NONE;
			b->ids[n++] = (uint32_t)id;
			continue;
		}
		size_t fallen = b->byte_fallback ? fall_back(b, word + i, bytes, b->ids + n) : 0;
		n += fallen;
		if (fallen || !b->has_unk)
			continue;
		if (waiting != TOKEN_NONE && b->fuse_unk)
			continue;
		if (waiting != TOKEN_NONE)
			b->ids[n++] = (uint32_t)waiting;
		waiting = vocab_find(&b->vocab, b->unk_token.at, b->unk_token.size);
		if (waiting == TOKEN_NONE)
			return ikv_err_set(
			    err, IKV_BAD_INPUT,
			    "the text has a character without a token, and model.unk_token is not in the "
			    "tokenizer's vocabulary");
	}
	if (waiting != TOKEN_NONE)
		b->ids[n++] = (uint32_t)waiting;
	*count = n;
	return 0;
}

/* Each merge by a pass over the pairs: quickest for short words. */
static size_t merge_short(const struct bpe *b, uint32_t *ids, size_t n)
{
	const struct merge *pairs[SHORT_WORD];
	for (size_t i = 0; i + 1 < n; i++)
		pairs[i] = merge_find(&b->merges, ids[i], ids[i + 1]);
	while (n > 1) {
		size_t best = n;
		for (size_t i = 0; i + 1 < n; i++)
			if (pairs[i] && (best == n || pairs[i]->rank < pairs[best]->rank))
				best = i;
		if (best == n)
			break;
		ids[best] = pairs[best]->id;
		n--;
		memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
		if (best + 1 < n) {
			memmove(pairs + best + 1, pairs + best + 2, (n - best - 2) * sizeof *pairs);
			pairs[best] = merge_find(&b->merges, ids[best], ids[best + 1]);
		}
		if (best > 0)
			pairs[best - 1] = merge_find(&b->merges, ids[best - 1], ids[best]);
	}
	return n;
}

static bool before(const struct queued_merge *a, const struct queued_merge *b)
{
	return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(struct queued_merge *q, size_t *n, struct queued_merge item)
{
	size_t i = (*n)++;
	for (; i > 0 && before(&item, &q[(i - 1) / 2]); i = (i - 1) / 2)
		q[i] = q[(i - 1) / 2];
	q[i] = item;
}

static struct queued_merge pop(struct queued_merge *q, size_t *n)
{
	struct queued_merge top = q[0], last = q[--*n];
	size_t i = 0;
	for (size_t child; (child = 2 * i + 1) < *n; i = child) {
		child += child + 1 < *n && before(&q[child + 1], &q[child]);
		if (!before(&q[child], &last))
			break;
		q[i] = q[child];
	}
	q[i] = last;
	return top;
}

static void push_pair(struct bpe *b, size_t *n, int32_t at)
{
	const struct token_symbol *s = &b->symbols[at];
	if (at < 0 || s->next < 0)
		return;
	const struct merge *m = merge_find(&b->merges, s->id, b->symbols[s->next].id);
	if (m)
		push(b->queue, n, (struct queued_merge){m->rank, at, m->id});
}

/* With a queue of what may be merged: a word of n characters in n log n. */
static int merge_long(struct bpe *b, size_t *count, struct ikv_err *err)
{
	size_t n = *count, queued = 0;
	/* A merge takes an entry and adds at most two, and there are fewer than n merges. */
	if (token_reserve(&b->symbols, &b->symbols_cap, n, sizeof *b->symbols, err) ||
	    token_reserve(&b->queue, &b->queue_cap, 2 * n, sizeof *b->queue, err))
		return -1;
	for (size_t i = 0; i < n; i++)
		b->symbols[i] = (struct token_symbol){b->ids[i], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1};
	for (size_t i = 0; i < n; i++)
		push_pair(b, &queued, (int32_t)i);
	while (queued > 0) {
		struct queued_merge m = pop(b->queue, &queued);
		struct token_symbol *s = &b->symbols[m.at];
		if (s->prev == m.at || s->next < 0)
			continue; /* merged into its neighbour, or the last one by now */
		struct token_symbol *right = &b->symbols[s->next];
		const struct merge *now = merge_find(&b->merges, s->id, right->id);
		if (!now || now->id != m.id)
			continue;
		int32_t gone = s->next;
		s->id = m.id;
		s->next = right->next;
		if (s->next >= 0)
			b->symbols[s->next].prev = m.at;
		right->prev = gone; /* marks it as gone */
		if (s->prev >= 0)
			push_pair(b, &queued, s->prev);
		push_pair(b, &queued, m.at);
	}
	*count = 0;
	for (int32_t i = 0; i >= 0; i = b->symbols[i].next)
		b->ids[(*count)++] = b->symbols[i].id;
	return 0;
}

static int merge_word(struct bpe *b, const char *word, size_t size, size_t *count, struct ikv_err *err)
{
	if (b->byte_level && map_bytes(b, &word, &size, err))
		return -1;
	int32_t whole = b->ignore_merges ? vocab_find(&b->vocab, word, size) : TOKEN_NONE;
	if (whole != TOKEN_NONE) {
		if (token_reserve(&b->ids, &b->ids_cap, 1, sizeof *b->ids, err))
			return -1;
		b->ids[0] = (uint32_t)whole;
		*count = 1;
		return 0;
	}
	if (first_symbols(b, word, size, count, err))
		return -1;
	if (*count > SHORT_WORD)
		return merge_long(b, count, err);
	*count = merge_short(b, b->ids, *count);
	return 0;
}

static int encode_cached(struct bpe *b, const char *word, size_t size, const uint32_t **ids, size_t *count,
			 struct ikv_err *err)
{
	struct cached_word *set = NULL;
	if (size <= CACHE_WORD_MAX) {
		set = b->cache + (XXH3_64bits(word, size) & (CACHE_SETS - 1)) * CACHE_WAYS;
		for (int i = 0; i < CACHE_WAYS; i++)
			if (set[i].size == size && !memcmp(set[i].word, word, size)) {
				*ids = set[i].ids;
				*count = set[i].count;
				return 0;
			}
	}
	if (merge_word(b, word, size, count, err))
		return -1;
	*ids = b->ids;
	if (!set || *count > CACHE_IDS_MAX)
		return 0;
	set[1] = set[0]; /* the word that came last stays longest */
	set[0] = (struct cached_word){.size = (uint8_t)size, .count = (uint8_t)*count};
	memcpy(set[0].word, word, size);
	memcpy(set[0].ids, b->ids, *count * sizeof *b->ids);
	return 0;
}

static uint32_t code_point(const char *text)
{
	size_t bytes = utf8_length(*text);
	uint32_t code = (unsigned char)*text & (bytes == 1 ? 0x7fu : 0x7fu >> bytes);
	for (size_t i = 1; i < bytes; i++)
		code = code << 6 | ((unsigned char)text[i] & 0x3f);
	return code;
}

static size_t last_character(const char *text, size_t end)
{
	size_t start = end - 1;
	while (start > 0 && ((unsigned char)text[start] & 0xc0) == 0x80)
		start--;
	return start;
}

int bpe_note_joint(struct bpe *b, const char *left, size_t left_size, const char *right, struct ikv_err *err)
{
	return merge_table_add(&b->joints, code_point(left + last_character(left, left_size)), code_point(right), 0,
			       0, err);
}

/* Can the symbols on both sides of this place never become one? So it is if no merge joins these two characters; what
 * stands for a character that is not in the vocabulary is left alone. */
static bool parts_here(const struct bpe *b, const char *word, size_t before, size_t at)
{
	return !merge_find(&b->joints, code_point(word + before), code_point(word + at)) &&
	       vocab_find(&b->vocab, word + before, at - before) != TOKEN_NONE &&
	       vocab_find(&b->vocab, word + at, utf8_length(word[at])) != TOKEN_NONE;
}

static int encode_part(struct bpe *b, const char *part, size_t size, struct ikv_err *err)
{
	const uint32_t *ids;
	size_t count;
	if (encode_cached(b, part, size, &ids, &count, err) ||
	    token_reserve(&b->joined, &b->joined_cap, b->joined_count + count, sizeof *ids, err))
		return -1;
	if (count > 0)
		memcpy(b->joined + b->joined_count, ids, count * sizeof *ids);
	b->joined_count += count;
	return 0;
}

int bpe_encode(struct bpe *b, const char *word, size_t size, const uint32_t **ids, size_t *count, struct ikv_err *err)
{
	if (size <= CACHE_WORD_MAX || b->byte_level || b->ignore_merges || b->shares_ids)
		return encode_cached(b, word, size, ids, count, err);
	/* A long word, as a whole text is to a file without a pre-tokenizer: by the parts that no merge joins. */
	size_t done = 0;
	b->joined_count = 0;
	for (size_t before = 0, at; (at = before + utf8_length(word[before])) < size; before = at) {
		if (!parts_here(b, word, before, at))
			continue;
		if (encode_part(b, word + done, at - done, err))
			return -1;
		done = at;
	}
	if (encode_part(b, word + done, size - done, err))
		return -1;
	*ids = b->joined;
	*count = b->joined_count;
	return 0;
}
