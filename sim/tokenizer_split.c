/* Pre-tokenizers: a text into words. */
#include "sim/tokenizer_parts.h"

static int put_word(struct tokenizer *t, const char *word, size_t size, struct ikv_err *err)
{
	const uint32_t *ids;
	size_t count;
	if (bpe_encode(&t->bpe, word, size, &ids, &count, err))
		return -1;
	if (t->out.ids && count > 0) {
		size_t used = (size_t)t->out.count;
		if (token_reserve(t->out.ids, t->out.cap, used + count, sizeof *ids, err))
			return -1;
		memcpy(*t->out.ids + used, ids, count * sizeof *ids);
	}
	t->out.count += count;
	return 0;
}

/* A split at work. The piece at hand may yet grow. */
struct splitting {
	struct tokenizer *t;
	size_t stage;
	const char *text;
	size_t zero; /* bytes of the text that come from the first character */
	size_t start, end;
	bool held, matched; /* is there a piece at hand; is it, or was its last part, a match */
	struct ikv_err *err;
};

static int hand_on(struct splitting *s, size_t start, size_t end)
{
	if (start == end)
		return 0;
	return tokenizer_split(s->t, s->stage + 1, s->text + start, end - start,
			       start < s->zero ? s->zero - start : 0, s->err);
}

static int flush(struct splitting *s)
{
	return s->held ? hand_on(s, s->start, s->end) : 0;
}

/* The next part of the text, a match or what lies between two. */
static int take(struct splitting *s, size_t start, size_t end, bool match)
{
	const struct stage *stage = &s->t->stages[s->stage];
	bool joins = false;
	match = match != stage->invert;
	switch (stage->behavior) {
	case SPLIT_ISOLATED:
		return hand_on(s, start, end);
	case SPLIT_REMOVED:
		return match ? 0 : hand_on(s, start, end);
	case SPLIT_PREVIOUS:
		joins = match && !s->matched;
		break;
	case SPLIT_NEXT:
		joins = !match && s->matched;
		break;
	case SPLIT_CONTIGUOUS:
		joins = match == s->matched;
		break;
	}
	joins = joins && s->held;
	if (!joins && flush(s))
		return -1;
	s->start = joins ? s->start : start;
	s->end = end;
	s->held = true;
	s->matched = match;
	return 0;
}

static int split(struct tokenizer *t, size_t stage, const char *text, size_t size, size_t zero, struct ikv_err *err)
{
	struct splitting s = {.t = t, .stage = stage, .text = text, .zero = zero, .err = err};
	struct pattern_search at = {0};
	size_t done = 0;
	int got;
	while ((got = pattern_next(t->stages[stage].pattern, text, size, &at, &t->steps, err)) == 1) {
		if (done < at.start && take(&s, done, at.start, false))
			return -1;
		if (take(&s, at.start, at.end, true))
			return -1;
		done = at.end;
	}
	if (got || (done < size && take(&s, done, size, false)))
		return -1;
	return flush(&s);
}

/* Spaces become the replacement, and one is put in front of a piece that has none there. */
static int put_prefix(struct tokenizer *t, size_t stage, const char *text, size_t size, size_t zero,
		      struct ikv_err *err)
{
	struct stage *s = &t->stages[stage];
	const struct token_text *r = &s->replacement;
	bool has = *text == ' ' || (size >= r->size && !memcmp(text, r->at, r->size));
	s->room.size = 0;
	if (!has && (s->prepend == PREPEND_ALWAYS || (s->prepend == PREPEND_FIRST && zero > 0))) {
		if (token_text_add(&s->room, r->at, r->size, err))
			return -1;
		zero += zero ? r->size : 0;
	}
	if (r->size == 1 && *r->at == ' ') {
		if (token_text_add(&s->room, text, size, err))
			return -1;
		return tokenizer_split(t, stage + 1, s->room.at, s->room.size, zero, err);
	}
	for (size_t i = 0; i < size; i++) {
		const char *space = memchr(text + i, ' ', size - i);
		size_t run = space ? (size_t)(space - text) - i : size - i;
		if (token_text_add(&s->room, text + i, run, err) ||
		    (space && token_text_add(&s->room, r->at, r->size, err)))
			return -1;
		i += run;
	}
	/* No stage behind this one asks for the first character: there is one of this kind at most. */
	return tokenizer_split(t, stage + 1, s->room.at, s->room.size, 0, err);
}

int tokenizer_split(struct tokenizer *t, size_t stage, const char *text, size_t size, size_t zero,
		    struct ikv_err *err)
{
	if (size == 0)
		return 0;
	if (stage == t->stage_count)
		return put_word(t, text, size, err);
	if (t->stages[stage].pattern)
		return split(t, stage, text, size, zero, err);
	return put_prefix(t, stage, text, size, zero, err);
}
