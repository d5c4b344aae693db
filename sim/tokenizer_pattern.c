/* Patterns of a tokenizer: written for Oniguruma, matched by PCRE2.
 *
 * The two differ in places, so a pattern is read item by item: what means the same in both is copied, what does not
 * is spelled out (\s, \d, \w, scripts), and everything else is refused rather than taken to mean something else.
 * The work of a search is bounded in proportion to the text. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include "sim/tokenizer_parts.h"

enum { PATTERN_MAX = 16384, PAREN_DEPTH_MAX = 100, STACK_MIN = 32 << 10, STACK_MAX = 1 << 20, HEAP_KIB = 64 << 10 };
/* Steps of a search, and bytes it looks at, that nobody counts; and the factor by which it may then go on. */
enum { STEPS_FREE = 1000, PART_FREE = 1024, STEPS_FACTOR = 16 };

struct pattern {
	char *literal; /* else a regular expression */
	size_t literal_size;
	pcre2_code *code;
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *stack;
	bool jit;
	char place[200];
};

/* Unicode's White_Space, and all but that. */
#define SPACES                                                                                                       \
	"\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{"     \
	"3000}"
#define NO_SPACES                                                                                                    \
	"\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"              \
	"\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
/* Unicode's word characters (Technical Standard 18, annex C), without Join_Control as in Oniguruma. */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"

struct reader {
	const char *at, *end, *start, *place;
	struct token_text out;
	int depth;
	int folds;     /* depth + 1 of the outermost (?i: that is open; 0: none */
	char previous; /* plain character */
	struct ikv_err *err;
};

static int refuse(struct reader *r, const char *what)
{
	return ikv_err_set(r->err, IKV_BAD_INPUT, "%s: at byte %zu of the pattern: found %s, which is not supported",
			   r->place, (size_t)(r->at - r->start), what);
}

static int put(struct reader *r, const char *text)
{
	return token_text_add(&r->out, text, strlen(text), r->err);
}

/* A general category by its short name means the same in both. */
static bool is_category(const char *name, size_t size)
{
	static const char names[] = " L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So "
				    "Z Zs Zl Zp C Cc Cf Cs Co Cn ";
	char padded[8];
	if (size == 0 || size > 2)
		return false;
	snprintf(padded, sizeof padded, " %.*s ", (int)size, name);
	return strstr(names, padded) != NULL;
}

/* \p{...} or \P{...}; r->at is behind the p. A name that is no category is a script, which PCRE2 checks. */
static int read_property(struct reader *r, bool negated)
{
	char text[64];
	const char *close = r->at < r->end && *r->at == '{' ? memchr(r->at, '}', (size_t)(r->end - r->at)) : NULL;
	if (!close)
		return refuse(r, "a \\p without {...}");
	const char *name = r->at + 1;
	if (*name == '^') {
		negated = !negated;
		name++;
	}
	size_t size = (size_t)(close - name);
	bool script = size > 2 && size < 40;
	for (const char *c = name; c < close; c++)
		script = script && (*c == '_' || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z'));
	bool category = is_category(name, size);
	if (!category && !script)
		return refuse(r, "a property that is neither a general category such as L nor a script");
	snprintf(text, sizeof text, "\\%c{%s%.*s}", negated ? 'P' : 'p', category ? "" : "sc:", (int)size, name);
	r->at = close + 1;
	return put(r, text);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* \xHH, \x{H...}, \uHHHH: r->at is behind the letter. */
static int read_code(struct reader *r, char letter)
{
	char text[16];
	unsigned long code = 0;
	bool braces = letter == 'x' && r->at < r->end && *r->at == '{';
	const char *c = r->at + braces;
	int digits = 0, most = braces ? 6 : letter == 'x' ? 2 : 4;
	for (; digits < most && c < r->end && hex_digit(*c) >= 0; c++, digits++)
		code = code * 16 + (unsigned long)hex_digit(*c);
	bool whole = braces ? digits > 0 && c < r->end && *c == '}' : digits == most;
	/* Oniguruma takes \x80 and above for single bytes. */
	if (!whole || code > 0x10ffff || (letter == 'x' && !braces && code > 0x7f))
		return refuse(r, "a character code that is cut off or too large");
	r->at = c + braces;
	snprintf(text, sizeof text, "\\x{%lx}", code);
	return put(r, text);
}

/* A backslash and what follows. */
static int read_escape(struct reader *r, bool in_class)
{
	static const char word_edge[] = "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))";
	static const char no_edge[] = "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))";
	if (r->end - r->at < 2)
		return refuse(r, "a \\ at the end");
	char c = r->at[1];
	bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
	if ((unsigned char)c >= 0x80)
		return refuse(r, "a \\ before a character that needs none");
	if (!letter || strchr("rntfae", c)) {
		char text[3] = {'\\', c, '\0'};
		r->at += 2;
		return put(r, text);
	}
	const char *same = NULL;
	switch (c) {
	case 's':
		same = in_class ? SPACES : "[" SPACES "]";
		break;
	case 'S':
		same = in_class ? NO_SPACES : "[" NO_SPACES "]";
		break;
	case 'd':
		same = "\\p{Nd}";
		break;
	case 'D':
		same = "\\P{Nd}";
		break;
	case 'w':
		same = in_class ? WORD : "[" WORD "]";
		break;
	case 'W':
		same = in_class ? NULL : "[^" WORD "]";
		break;
	case 'b':
		same = in_class ? NULL : word_edge;
		break;
	case 'B':
		same = in_class ? NULL : no_edge;
		break;
	case 'A':
	case 'z':
		same = in_class ? NULL : c == 'A' ? "\\A" : "\\z";
		break;
	case 'p':
	case 'P':
		r->at += 2;
		return read_property(r, c == 'P');
	case 'x':
	case 'u':
		r->at += 2;
		return read_code(r, c);
	default:
		break;
	}
	char found[] = "\\?";
	found[1] = c;
	if (!same)
		return refuse(r, found);
	r->at += 2;
	return put(r, same);
}

/* One character, of one or more bytes. Where case is ignored, some strings match a single character to Oniguruma, as
 * "ss" does a German sharp s; PCRE2 has no such thing. */
static int read_plain(struct reader *r)
{
	size_t size = utf8_length(*r->at);
	char pair[] = {r->previous, *r->at, '\0'};
	if (r->folds && (size > 1 || (*pair && strstr("ss ff fi fl st SS FF FI FL ST", pair))))
		return refuse(r, "a character or pair in (?i:...) that may match another number of characters");
	r->previous = *r->at;
	r->at += size;
	return token_text_add(&r->out, r->at - size, size, r->err);
}

static int read_class(struct reader *r)
{
	if (read_plain(r) || (r->at < r->end && *r->at == '^' && read_plain(r)))
		return -1;
	if (r->at < r->end && *r->at == ']')
		return refuse(r, "a class that begins with ]");
	while (r->at < r->end && *r->at != ']') {
		char next = r->end - r->at > 1 ? r->at[1] : '\0';
		if (*r->at == '[')
			return refuse(r, "a class inside a class");
		if (*r->at == '&' && next == '&')
			return refuse(r, "&& in a class");
		if (*r->at == '\\' ? read_escape(r, true) : read_plain(r))
			return -1;
	}
	if (r->at == r->end)
		return refuse(r, "a class without an end");
	return read_plain(r);
}

/* What stands behind an opening parenthesis. */
static int read_group(struct reader *r)
{
	static const char *const kinds[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
	size_t left = (size_t)(r->end - r->at);
	if (++r->depth > PAREN_DEPTH_MAX)
		return refuse(r, "parentheses nested too deep");
	r->previous = '\0';
	if (left >= 4 && !memcmp(r->at, "(?i)", 4) && r->at == r->start) {
		r->depth--;
		r->folds = PAREN_DEPTH_MAX + 2;
		r->at += 4;
		return put(r, "(?i)");
	}
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		size_t size = strlen(kinds[i]);
		if (left >= size && !memcmp(r->at, kinds[i], size)) {
			r->at += size;
			if (kinds[i][2] == 'i' && !r->folds)
				r->folds = r->depth + 1;
			return put(r, kinds[i]);
		}
	}
	if (left >= 2 && (r->at[1] == '?' || r->at[1] == '*'))
		return refuse(r, "a group other than (...), (?:...), (?i:...), (?>...) and look-around");
	r->at++;
	return put(r, "(?:");
}

/* {n}, {n,}, {,m} or {n,m}, and a ? behind the last three. */
static int read_interval(struct reader *r)
{
	char text[32];
	unsigned long from = 0, to = 0;
	const char *c = r->at + 1;
	int first = 0, last = 0;
	for (; c < r->end && *c >= '0' && *c <= '9' && first < 5; c++, first++)
		from = from * 10 + (unsigned long)(*c - '0');
	bool comma = c < r->end && *c == ',';
	for (c += comma; comma && c < r->end && *c >= '0' && *c <= '9' && last < 5; c++, last++)
		to = to * 10 + (unsigned long)(*c - '0');
	if (c == r->end || *c != '}' || (!first && !last) || (last && to < from))
		return refuse(r, "a { that begins no interval");
	char after = r->end - c > 1 ? c[1] : '\0';
	if (after == '+' || (after == '?' && !comma))
		return refuse(r, "an interval followed by + or ?");
	if (last)
		snprintf(text, sizeof text, "{%lu,%lu}", from, to);
	else
		snprintf(text, sizeof text, "{%lu%s}", from, comma ? "," : "");
	r->at = c + 1;
	return put(r, text);
}

static int translate(struct reader *r)
{
	while (r->at < r->end) {
		int rc;
		switch (*r->at) {
		case '\\':
			rc = read_escape(r, false);
			break;
		case '[':
			rc = read_class(r);
			break;
		case '(':
			rc = read_group(r);
			break;
		case '{':
			rc = read_interval(r);
			break;
		case '^':
		case '$':
			rc = refuse(r, *r->at == '^' ? "^" : "$");
			break;
		case ')':
			if (r->folds == r->depth + 1)
				r->folds = 0;
			r->depth--;
			rc = read_plain(r);
			break;
		default:
			rc = read_plain(r);
		}
		if (rc)
			return -1;
	}
	return 0;
}

static int compile(struct pattern *p, const struct token_text *text, struct ikv_err *err)
{
	int code;
	size_t at;
	pcre2_compile_context *context = pcre2_compile_context_create(NULL);
	if (context) {
		pcre2_set_newline(context, PCRE2_NEWLINE_LF);
		pcre2_set_parens_nest_limit(context, 2 * PAREN_DEPTH_MAX);
		p->code = pcre2_compile((PCRE2_SPTR)text->at, text->size,
					PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &code, &at, context);
		pcre2_compile_context_free(context);
		if (!p->code) {
			char why[120] = "";
			pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
			return ikv_err_set(err, IKV_BAD_INPUT, "%s: not a pattern: %s", p->place, why);
		}
		p->match = pcre2_match_data_create(1, NULL);
		p->context = pcre2_match_context_create(NULL);
	}
	if (!context || !p->match || !p->context)
		return ikv_err_set(err, IKV_FAILED, "out of memory: a pattern");
	pcre2_set_heap_limit(p->context, HEAP_KIB);
	p->jit = !pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) &&
		 (p->stack = pcre2_jit_stack_create(STACK_MIN, STACK_MAX, NULL));
	if (p->jit)
		pcre2_jit_stack_assign(p->context, NULL, p->stack);
	return 0;
}

int pattern_make(struct pattern **out, const char *text, size_t size, bool literal, const char *place,
		 struct ikv_err *err)
{
	struct pattern *p = *out = ikv_alloc(1, sizeof *p, err);
	if (!p)
		return -1;
	snprintf(p->place, sizeof p->place, "%s", place);
	if (size == 0 || size > PATTERN_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: a pattern of %zu bytes, expected 1 to %d", place, size,
				   PATTERN_MAX);
	if (literal) {
		p->literal = ikv_alloc(size, 1, err);
		p->literal_size = size;
		return p->literal ? (void)memcpy(p->literal, text, size), 0 : -1;
	}
	struct reader r = {.at = text, .end = text + size, .start = text, .place = place, .err = err};
	int rc = translate(&r) || compile(p, &r.out, err) ? -1 : 0;
	ikv_free(r.out.at);
	return rc;
}

void pattern_free(struct pattern *p)
{
	if (!p)
		return;
	pcre2_code_free(p->code);
	pcre2_match_data_free(p->match);
	pcre2_match_context_free(p->context);
	pcre2_jit_stack_free(p->stack);
	ikv_free(p->literal);
	ikv_free(p);
}

/* Try at `from`, or from there on, in the first `end` bytes of the text. PCRE2_ERROR_PARTIAL: it depends on what
 * follows. */
static int try_match(struct pattern *p, const char *text, size_t size, size_t from, size_t end, uint32_t steps,
		     bool here)
{
	pcre2_set_match_limit(p->context, steps);
	pcre2_set_depth_limit(p->context, steps);
	uint32_t options = PCRE2_NO_UTF_CHECK | (end < size ? PCRE2_PARTIAL_HARD : 0);
	int rc = PCRE2_ERROR_JIT_STACKLIMIT;
	if (p->jit && !here)
		rc = pcre2_jit_match(p->code, (PCRE2_SPTR)text, end, from, options, p->match, p->context);
	options |= PCRE2_NO_JIT | (here ? PCRE2_ANCHORED : 0);
	if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
		rc = pcre2_match(p->code, (PCRE2_SPTR)text, end, from, options, p->match, p->context);
	/* An assertion at the very end of the part may not have asked for more. */
	return rc > 0 && end < size && pcre2_get_ovector_pointer(p->match)[1] == end ? PCRE2_ERROR_PARTIAL : rc;
}

static bool out_of_steps(int rc)
{
	return rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT;
}

static size_t part_end(const char *text, size_t size, size_t from, size_t part)
{
	size_t end = size - from > part ? from + part : size;
	while (end < size && ((unsigned char)text[end] & 0xc0) == 0x80)
		end++;
	return end;
}

/* PCRE2 counts steps anew at each place it tries, and a step may read any length of text. So once some place needed
 * more than is free, go on place by place, and charge what is beyond. */
static int match_slowly(struct pattern *p, const char *text, size_t size, size_t from, uint64_t *left)
{
	for (;; from += utf8_length(text[from])) {
		uint64_t steps = STEPS_FREE, part = PART_FREE;
		int rc;
		for (;;) {
			rc = try_match(p, text, size, from, part_end(text, size, from, part), (uint32_t)steps, true);
			uint64_t *more = out_of_steps(rc) ? &steps : rc == PCRE2_ERROR_PARTIAL ? &part : NULL;
			if (!more)
				break;
			*more *= STEPS_FACTOR;
			if (*more > *left || *more > UINT32_MAX)
				return PCRE2_ERROR_MATCHLIMIT;
			*left -= *more;
		}
		if (rc != PCRE2_ERROR_NOMATCH || from == size)
			return rc;
	}
}

static int match(struct pattern *p, const char *text, size_t size, size_t from, uint64_t *left)
{
	for (;;) {
		size_t end = part_end(text, size, from, PART_FREE);
		int rc = try_match(p, text, size, from, end, STEPS_FREE, false);
		if (out_of_steps(rc) || rc == PCRE2_ERROR_PARTIAL)
			return match_slowly(p, text, size, from, left);
		if (rc != PCRE2_ERROR_NOMATCH || end == size)
			return rc;
		from = end;
	}
}

static int search(struct pattern *p, const char *text, size_t size, struct pattern_search *s, uint64_t *steps,
		  struct ikv_err *err)
{
	if (p->literal) {
		const char *hit = memmem(text + s->next, size - s->next, p->literal, p->literal_size);
		s->start = hit ? (size_t)(hit - text) : 0;
		s->end = s->start + p->literal_size;
		return hit != NULL;
	}
	int rc = match(p, text, size, s->next, steps);
	if (rc == PCRE2_ERROR_NOMATCH)
		return 0;
	if (rc < 0) {
		char why[120] = "";
		pcre2_get_error_message(rc, (PCRE2_UCHAR *)why, sizeof why);
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: the pattern needs too much work on this text: %s",
				   p->place, why);
	}
	const PCRE2_SIZE *place = pcre2_get_ovector_pointer(p->match);
	s->start = place[0];
	s->end = place[1];
	return 1;
}

int pattern_next(struct pattern *p, const char *text, size_t size, struct pattern_search *s, uint64_t *steps,
		 struct ikv_err *err)
{
	while (s->next <= size) {
		int found = search(p, text, size, s, steps, err);
		if (found != 1)
			return found;
		/* An empty match right behind the last one does not count. */
		if (s->start == s->end && s->ended == s->end + 1) {
			s->next += s->next < size ? utf8_length(text[s->next]) : 1;
			continue;
		}
		s->next = s->end;
		s->ended = s->end + 1;
		return 1;
	}
	return 0;
}
