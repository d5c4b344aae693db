/* Full decomposition, order by combining class, composition, as UAX 15 has them. A text is taken apart into stretches
 * that cannot influence each other: a new one starts at each code point of class 0 that has no decomposition and
 * composes with nothing before it. Codes below U+0300 start one in any case. */
#include <stdbool.h>
#include <string.h>
#include "intentkv/alloc.h"
#include "sim/unicode_normalize.h"
#include "sim/unicode_table.h"

/* Hangul syllables, section 3.12 of the standard: a leading consonant, a vowel, perhaps a trailing consonant. */
enum {
	SYLLABLES = 0xac00,
	LEADING = 0x1100,
	VOWELS = 0x1161,
	TRAILING = 0x11a7, /* one before the first */
	LEADING_COUNT = 19,
	VOWEL_COUNT = 21,
	TRAILING_COUNT = 28,
	SYLLABLE_COUNT = LEADING_COUNT * VOWEL_COUNT * TRAILING_COUNT
};
enum { NO_COMPOSITION = 0, SHORT_RUN = 16, FIRST_MARK = 0x300 };

struct stretch {
	uint32_t *codes;
	uint8_t *classes;
	uint32_t *spare; /* of sorting; as long as codes */
	size_t count, cap;
};

/* Of a table whose elements begin with a uint32_t: the last element not above the code, NULL if there is none. */
static const void *last_below(const void *table, uint32_t count, size_t width, uint32_t code)
{
	const char *base = table;
	uint32_t low = 0, high = count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2, at;
		memcpy(&at, base + middle * width, sizeof at);
		if (at <= code)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? base + (low - 1) * width : NULL;
}

static uint8_t class_of(uint32_t code)
{
	const struct unicode_class *c =
	    code < FIRST_MARK ? NULL
			      : last_below(unicode_classes, unicode_classes_count, sizeof *unicode_classes, code);
	return c && code <= c->to ? (uint8_t)c->class : 0;
}

static const struct unicode_pair *pair_of(uint32_t code)
{
	const struct unicode_pair *p = last_below(unicode_pairs, unicode_pairs_count, sizeof *unicode_pairs, code);
	return p && p->code == code ? p : NULL;
}

static const struct unicode_single *single_of(uint32_t code)
{
	const struct unicode_single *s =
	    last_below(unicode_singles, unicode_singles_count, sizeof *unicode_singles, code);
	return s && s->code == code ? s : NULL;
}

static bool starts_stretch(uint32_t code)
{
	if (code < FIRST_MARK)
		return true;
	if (code >= SYLLABLES && code < SYLLABLES + SYLLABLE_COUNT)
		return true;
	if (code >= VOWELS && code <= TRAILING + TRAILING_COUNT)
		return false;
	const uint32_t *joins = last_below(unicode_joining, unicode_joining_count, sizeof *unicode_joining, code);
	return !(joins && *joins == code) && !class_of(code) && !single_of(code) && !pair_of(code);
}

static int put(struct stretch *s, uint32_t code, struct ikv_err *err)
{
	if (s->count == s->cap) {
		size_t next = s->cap * 2 + 64;
		if (ikv_grow(&s->codes, s->cap, next, sizeof *s->codes, err) ||
		    ikv_grow(&s->classes, s->cap, next, sizeof *s->classes, err) ||
		    ikv_grow(&s->spare, s->cap, next, sizeof *s->spare, err))
			return -1;
		s->cap = next;
	}
	s->classes[s->count] = class_of(code);
	s->codes[s->count++] = code;
	return 0;
}

/* The full canonical decomposition. Only first codes decompose further (at most three deep), as the standard's
 * stability policy has it. */
static int decompose(struct stretch *s, uint32_t code, struct ikv_err *err)
{
	if (code >= SYLLABLES && code < SYLLABLES + SYLLABLE_COUNT) {
		uint32_t n = code - SYLLABLES, trailing = n % TRAILING_COUNT;
		n /= TRAILING_COUNT;
		if (put(s, LEADING + n / VOWEL_COUNT, err) || put(s, VOWELS + n % VOWEL_COUNT, err))
			return -1;
		return trailing ? put(s, TRAILING + trailing, err) : 0;
	}
	uint32_t after[8], depth = 0;
	for (;;) {
		const struct unicode_single *one = single_of(code);
		const struct unicode_pair *two = one ? NULL : pair_of(code);
		if (!one && !two)
			break;
		if (two && depth == sizeof after / sizeof *after)
			return ikv_err_set(err, IKV_FAILED, "U+%04X decomposes too deep", code);
		if (two)
			after[depth++] = two->second;
		code = one ? one->to : two->first;
	}
	if (put(s, code, err))
		return -1;
	while (depth > 0)
		if (put(s, after[--depth], err))
			return -1;
	return 0;
}

/* Sort codes [from, to) by class, equal ones as they stand: by counting, so that a long run of marks in a text from
 * a stranger takes no quadratic time. */
static void order_run(struct stretch *s, size_t from, size_t to)
{
	if (to - from <= SHORT_RUN) {
		for (size_t i = from + 1; i < to; i++) {
			uint32_t code = s->codes[i];
			uint8_t class = s->classes[i];
			size_t j = i;
			for (; j > from && s->classes[j - 1] > class; j--) {
				s->codes[j] = s->codes[j - 1];
				s->classes[j] = s->classes[j - 1];
			}
			s->codes[j] = code;
			s->classes[j] = class;
		}
		return;
	}
	size_t place[257] = {0};
	for (size_t i = from; i < to; i++)
		place[s->classes[i] + 1]++;
	for (size_t i = 1; i < 257; i++)
		place[i] += place[i - 1];
	for (size_t i = from; i < to; i++)
		s->spare[place[s->classes[i]]++] = s->codes[i];
	for (size_t i = from; i < to; i++) {
		s->codes[i] = s->spare[i - from];
		s->classes[i] = class_of(s->codes[i]);
	}
}

static void order(struct stretch *s)
{
	for (size_t i = 0, end; i < s->count; i = end) {
		end = i + 1;
		if (s->classes[i] == 0)
			continue;
		while (end < s->count && s->classes[end])
			end++;
		order_run(s, i, end);
	}
}

static uint32_t composition(uint32_t first, uint32_t second)
{
	if (first >= LEADING && first < LEADING + LEADING_COUNT && second >= VOWELS && second < VOWELS + VOWEL_COUNT)
		return SYLLABLES + ((first - LEADING) * VOWEL_COUNT + second - VOWELS) * TRAILING_COUNT;
	if (first >= SYLLABLES && first < SYLLABLES + SYLLABLE_COUNT && (first - SYLLABLES) % TRAILING_COUNT == 0 &&
	    second > TRAILING && second < TRAILING + TRAILING_COUNT)
		return first + second - TRAILING;
	uint32_t low = 0, high = unicode_composed_count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		const struct unicode_pair *p = &unicode_pairs[unicode_composed[middle]];
		if (p->first == first && p->second == second)
			return p->code;
		if (p->first < first || (p->first == first && p->second < second))
			low = middle + 1;
		else
			high = middle;
	}
	return NO_COMPOSITION;
}

/* A code joins the newest one of class 0 unless something of its own class or of class 0 stands between them. */
static void compose(struct stretch *s)
{
	size_t kept = 0, starter = 0;
	bool has_starter = false;
	for (size_t i = 0; i < s->count; i++) {
		uint8_t class = s->classes[i];
		bool blocked = kept > starter + 1 && (s->classes[kept - 1] == 0 || s->classes[kept - 1] >= class);
		uint32_t both =
		    has_starter && !blocked ? composition(s->codes[starter], s->codes[i]) : NO_COMPOSITION;
		if (both) {
			s->codes[starter] = both;
			continue;
		}
		if (class == 0) {
			has_starter = true;
			starter = kept;
		}
		s->codes[kept] = s->codes[i];
		s->classes[kept++] = class;
	}
	s->count = kept;
}

static int room(size_t more, char **out, size_t size, size_t *cap, struct ikv_err *err)
{
	if (more <= *cap - size)
		return 0;
	size_t next = *cap * 2 + more;
	if (ikv_grow(out, *cap, next, 1, err))
		return -1;
	*cap = next;
	return 0;
}

static int finish(enum unicode_form form, struct stretch *s, char **out, size_t *size, size_t *cap,
		  struct ikv_err *err)
{
	if (s->count == 0)
		return 0;
	order(s);
	if (form == UNICODE_NFC)
		compose(s);
	if (room(s->count * 4, out, *size, cap, err))
		return -1;
	char *to = *out + *size;
	for (size_t i = 0; i < s->count; i++) {
		uint32_t c = s->codes[i];
		int tail = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
		static const unsigned char leads[] = {0, 0xc0, 0xe0, 0xf0};
		*to++ = (char)(leads[tail] | c >> (6 * tail));
		while (tail-- > 0)
			*to++ = (char)(0x80 | (c >> (6 * tail) & 0x3f));
	}
	*size = (size_t)(to - *out);
	s->count = 0;
	return 0;
}

/* Code point at *at, which moves behind it. */
static uint32_t next_code(const unsigned char **at)
{
	const unsigned char *p = *at;
	int tail = *p < 0x80 ? 0 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;
	uint32_t code = tail ? *p & (0x3fu >> tail) : *p;
	for (int i = 1; i <= tail; i++)
		code = code << 6 | (p[i] & 0x3f);
	*at += tail + 1;
	return code;
}

int unicode_normalize(enum unicode_form form, const char *text, size_t bytes, char **out, size_t *size, size_t *cap,
		      struct ikv_err *err)
{
	struct stretch s = {0};
	const unsigned char *at = (const unsigned char *)text, *end = at + bytes;
	/* Up to which lead byte codes stand for themselves: U+02FF in form C, ASCII in form D. */
	unsigned char plain = form == UNICODE_NFC ? 0xcb : 0x7f;
	int rc = 0;
	while (!rc && at < end) {
		/* Of a run of plain codes, the last may take marks. */
		const unsigned char *run = at, *last = at;
		while (at < end && *at <= plain) {
			last = at;
			next_code(&at);
		}
		if (at == end)
			last = end;
		if (last > run) {
			rc =
			    finish(form, &s, out, size, cap, err) || room((size_t)(last - run), out, *size, cap, err);
			if (rc)
				break;
			memcpy(*out + *size, run, (size_t)(last - run));
			*size += (size_t)(last - run);
		}
		at = last;
		if (at == end)
			break;
		uint32_t code = next_code(&at);
		if (starts_stretch(code))
			rc = finish(form, &s, out, size, cap, err);
		if (!rc)
			rc = decompose(&s, code, err);
	}
	if (!rc)
		rc = finish(form, &s, out, size, cap, err);
	ikv_free(s.codes);
	ikv_free(s.classes);
	ikv_free(s.spare);
	return rc ? -1 : 0;
}
