/* Texts through a tokenizer: added tokens, normalizers, then pre-tokenizers and the model. */
#include <stdlib.h>
#include "sim/tokenizer_parts.h"

/* Steps that patterns get for a text, beyond those that nobody counts; see pattern_next. */
enum { STEPS_BASE = 1 << 26, STEPS_PER_BYTE = 1024 };

/* --- added tokens --- */

static int by_match(const void *a, const void *b)
{
	const struct added_token *x = a, *y = b;
	size_t size = x->match_size < y->match_size ? x->match_size : y->match_size;
	int order = memcmp(x->match, y->match, size);
	if (order)
		return order;
	if (x->match_size != y->match_size)
		return x->match_size < y->match_size ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

static void put_in_order(struct added_set *set, struct added_token *items, size_t count)
{
	set->items = items;
	if (count > 0)
		qsort(items, count, sizeof *items, by_match);
	for (size_t i = 0; i < count; i++) {
		bool again = set->count && items[i].match_size == items[set->count - 1].match_size &&
			     !memcmp(items[i].match, items[set->count - 1].match, items[i].match_size);
		if (again || items[i].match_size == 0) {
			ikv_free(items[i].owned);
			items[i].owned = NULL;
			continue;
		}
		struct added_token kept = items[i];
		items[i].owned = NULL;
		items[set->count++] = kept;
		set->first[(unsigned char)*kept.match] = true;
	}
}

int tokenizer_order_added(struct tokenizer *t, struct ikv_err *err)
{
	size_t plain = 0;
	t->steps = STEPS_BASE;
	for (size_t i = 0; i < t->added_count; i++) {
		struct added_token *a = &t->added[i];
		size_t zero = 0;
		a->match = a->content;
		a->match_size = a->size;
		if (a->normalized && t->normalizer_count) {
			if (tokenizer_normalize(t, &a->match, &a->match_size, &zero, err))
				return -1;
			if (!(a->owned = ikv_alloc(a->match_size, 1, err)))
				return -1;
			memcpy(a->owned, a->match, a->match_size);
			a->match = a->owned;
		}
		if (!a->normalized) {
			struct added_token moved = *a;
			*a = t->added[plain];
			t->added[plain++] = moved;
		}
	}
	put_in_order(&t->plain, t->added, plain);
	put_in_order(&t->normalized, t->added + plain, t->added_count - plain);
	return 0;
}

/* The longest token that begins at this place. */
static const struct added_token *token_here(const struct added_set *set, const char *text, size_t size)
{
	const struct added_token *found = NULL;
	size_t low = 0, high = set->count;
	for (size_t i = 0; i < size && low < high; i++) {
		unsigned char c = (unsigned char)text[i];
		/* All of low to high begin with the first i bytes of the text. Keep those that have c next. */
		for (size_t side = 0; side < 2; side++) {
			size_t from = low, to = high;
			while (from < to) {
				const struct added_token *a = &set->items[from + (to - from) / 2];
				int has = a->match_size > i ? (unsigned char)a->match[i] : -1;
				if (has < (int)(c + side))
					from += (to - from) / 2 + 1;
				else
					to = from + (to - from) / 2;
			}
			*(side ? &high : &low) = from;
		}
		if (low < high && set->items[low].match_size == i + 1)
			found = &set->items[low];
	}
	return found;
}

static const struct added_token *next_token(const struct added_set *set, const char *text, size_t size, size_t *at)
{
	for (; *at < size; ++*at) {
		if (!set->first[(unsigned char)text[*at]])
			continue;
		const struct added_token *a = token_here(set, text + *at, size - *at);
		if (a)
			return a;
	}
	return NULL;
}

/* Unicode's White_Space. */
static bool is_white(const char *c, size_t bytes)
{
	static const char wide[][4] = {"\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80", "\xe2\x80\xa8",
				       "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\x9f", "\xe3\x80\x80"};
	if (bytes == 1)
		return *c == ' ' || (*c >= '\t' && *c <= '\r');
	if (bytes == 3 && !memcmp(c, "\xe2\x80", 2) && (unsigned char)c[2] <= 0x8a) /* U+2000 to U+200A */
		return true;
	for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
		if (strlen(wide[i]) == bytes && !memcmp(wide[i], c, bytes))
			return true;
	return false;
}

/* Where the character that ends at `end` begins. */
static size_t last_character(const char *text, size_t end)
{
	size_t start = end - 1;
	while (start > 0 && ((unsigned char)text[start] & 0xc0) == 0x80)
		start--;
	return start;
}

/* Over white space before `end`, as far as `least`. */
static size_t skip_back(const char *text, size_t least, size_t end)
{
	while (end > least) {
		size_t start = last_character(text, end);
		if (!is_white(text + start, end - start))
			break;
		end = start;
	}
	return end;
}

static size_t skip_on(const char *text, size_t start, size_t size)
{
	while (start < size && is_white(text + start, utf8_length(text[start])))
		start += utf8_length(text[start]);
	return start;
}

/* Is there a word character on either side of this place, which a token of its own word forbids? 1, 0 or -1. */
static int touches_word(struct tokenizer *t, const char *text, size_t size, size_t start, size_t end,
			struct ikv_err *err)
{
	int before = 0, after = 0;
	if (start > 0) {
		struct pattern_search s = {0};
		size_t from = last_character(text, start);
		before = pattern_next(t->word_character, text + from, start - from, &s, &t->steps, err);
	}
	if (before == 0 && end < size) {
		struct pattern_search s = {0};
		after = pattern_next(t->word_character, text + end, utf8_length(text[end]), &s, &t->steps, err);
	}
	return before ? before : after;
}

static int put_id(struct tokenizer *t, uint32_t id, struct ikv_err *err)
{
	if (t->out.ids) {
		size_t used = (size_t)t->out.count;
		if (token_reserve(t->out.ids, t->out.cap, used + 1, sizeof id, err))
			return -1;
		(*t->out.ids)[used] = id;
	}
	t->out.count++;
	return 0;
}

/* --- normalizers --- */

static int replace(struct tokenizer *t, const struct normalizer *n, const char *text, size_t size,
		   struct token_text *to, struct ikv_err *err)
{
	struct pattern_search s = {0};
	size_t done = 0;
	int got;
	while ((got = pattern_next(n->pattern, text, size, &s, &t->steps, err)) == 1) {
		if (s.start == s.end)
			return ikv_err_set(
			    err, IKV_BAD_INPUT,
			    "normalizer: the pattern of a Replace matches the empty string, which is not "
			    "supported");
		if (token_text_add(to, text + done, s.start - done, err) ||
		    token_text_add(to, n->content.at, n->content.size, err))
			return -1;
		done = s.end;
		if (to->size > TOKENIZER_TEXT_MAX)
			return ikv_err_set(err, IKV_BAD_INPUT, "normalizer: the text grows beyond %d MB",
					   TOKENIZER_TEXT_MAX >> 20);
	}
	return got ? -1 : token_text_add(to, text + done, size - done, err);
}

int tokenizer_normalize(struct tokenizer *t, const char **text, size_t *size, size_t *zero, struct ikv_err *err)
{
	struct token_text *to = &t->normal[0];
	for (size_t i = 0; i<t->normalizer_count && * size> 0; i++) {
		const struct normalizer *n = &t->normalizers[i];
		to->size = 0;
		if (n->kind == NORMALIZE_FORM) {
			if (unicode_normalize(n->form, *text, *size, &to->at, &to->size, &to->cap, err))
				return -1;
		} else if (n->kind == NORMALIZE_PREPEND) {
			if (token_text_add(to, n->content.at, n->content.size, err) ||
			    token_text_add(to, *text, *size, err))
				return -1;
			*zero += *zero ? n->content.size : 0;
		} else if (replace(t, n, *text, *size, to, err)) {
			return -1;
		}
		*text = to->at;
		*size = to->size;
		to = to == &t->normal[0] ? &t->normal[1] : &t->normal[0];
	}
	return 0;
}

/* --- texts --- */

static int encode_part(struct tokenizer *t, const struct added_set *set, const char *text, size_t size, size_t zero,
		       struct ikv_err *err);

/* What lies between added tokens: normalized, and searched for those that are looked for in normalized text. */
static int encode_between(struct tokenizer *t, const struct added_set *set, const char *text, size_t size,
			  size_t zero, struct ikv_err *err)
{
	if (size == 0)
		return 0;
	if (set == &t->normalized)
		return tokenizer_split(t, 0, text, size, zero, err);
	if (tokenizer_normalize(t, &text, &size, &zero, err))
		return -1;
	return encode_part(t, &t->normalized, text, size, zero, err);
}

static int encode_part(struct tokenizer *t, const struct added_set *set, const char *text, size_t size, size_t zero,
		       struct ikv_err *err)
{
	size_t done = 0, at = 0;
	const struct added_token *a;
	while ((a = next_token(set, text, size, &at))) {
		size_t start = at, end = at += a->match_size;
		int touches = a->single_word ? touches_word(t, text, size, start, end, err) : 0;
		if (touches < 0)
			return -1;
		if (touches)
			continue;
		if (a->lstrip)
			start = skip_back(text, done, start);
		if (a->rstrip)
			end = skip_on(text, end, size);
		if ((done < start &&
		     encode_between(t, set, text + done, start - done, done < zero ? zero - done : 0, err)) ||
		    put_id(t, a->id, err))
			return -1;
		done = end;
	}
	return encode_between(t, set, text + done, size - done, done < zero ? zero - done : 0, err);
}

/* The first byte that is not UTF-8 (RFC 3629), or size. */
static size_t valid_utf8(const char *text, size_t size)
{
	const unsigned char *c = (const unsigned char *)text;
	size_t i = 0;
	while (i < size) {
		uint64_t eight;
		if (size - i >= 8 && (memcpy(&eight, c + i, 8), !(eight & 0x8080808080808080u))) {
			i += 8;
			continue;
		}
		if (c[i] < 0x80) {
			i++;
			continue;
		}
		size_t bytes = utf8_length(text[i]);
		if (c[i] < 0xc2 || c[i] > 0xf4 || size - i < bytes)
			return i;
		for (size_t k = 1; k < bytes; k++)
			if ((c[i + k] & 0xc0) != 0x80)
				return i;
		if ((c[i] == 0xe0 && c[i + 1] < 0xa0) || (c[i] == 0xed && c[i + 1] > 0x9f) ||
		    (c[i] == 0xf0 && c[i + 1] < 0x90) || (c[i] == 0xf4 && c[i + 1] > 0x8f))
			return i;
		i += bytes;
	}
	return i;
}

static int encode(struct tokenizer *t, const char *text, size_t bytes, struct ikv_err *err)
{
	if (bytes > TOKENIZER_TEXT_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT, "a text of %zu bytes, expected at most %d MB", bytes,
				   TOKENIZER_TEXT_MAX >> 20);
	size_t valid = valid_utf8(text, bytes);
	if (valid < bytes)
		return ikv_err_set(err, IKV_BAD_INPUT, "the text is not UTF-8 at byte %zu", valid);
	t->steps = STEPS_BASE + (uint64_t)bytes * STEPS_PER_BYTE;
	return encode_part(t, &t->plain, text, bytes, bytes ? utf8_length(*text) : 0, err);
}

int tokenizer_encode(struct tokenizer *t, const char *text, size_t bytes, uint32_t **ids, size_t *cap, size_t *count,
		     struct ikv_err *err)
{
	t->out = (struct token_output){.ids = ids, .cap = cap, .count = *count};
	int rc = encode(t, text, bytes, err);
	if (!rc)
		*count = (size_t)t->out.count;
	return rc;
}

int tokenizer_count(struct tokenizer *t, const char *text, size_t bytes, uint64_t *count, struct ikv_err *err)
{
	t->out = (struct token_output){0};
	int rc = encode(t, text, bytes, err);
	*count = rc ? 0 : t->out.count;
	return rc;
}

void tokenizer_free(struct tokenizer *t)
{
	if (!t)
		return;
	bpe_free(&t->bpe);
	for (size_t i = 0; i < t->normalizer_count; i++) {
		pattern_free(t->normalizers[i].pattern);
		ikv_free(t->normalizers[i].content.at);
	}
	for (size_t i = 0; i < t->stage_count; i++) {
		pattern_free(t->stages[i].pattern);
		ikv_free(t->stages[i].replacement.at);
		ikv_free(t->stages[i].room.at);
	}
	for (size_t i = 0; i < t->added_count; i++)
		ikv_free(t->added[i].owned);
	ikv_free(t->added);
	ikv_free(t->added_text.at);
	pattern_free(t->word_character);
	ikv_free(t->normal[0].at);
	ikv_free(t->normal[1].at);
	ikv_free(t);
}
