/* Normalizers and pre-tokenizers of a tokenizer.json. */
#include <stdio.h>
#include "sim/tokenizer_parts.h"

enum { NESTING_MAX = 8, KEY_MAX = 200 };

/* The split of GPT-2 (Radford et al. 2019): contractions, letters, digits, other signs, white space. */
static const char gpt2_words[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char block[] = "\u2581"; /* what SentencePiece writes for a space */

/* The original takes punctuation from Unicode 8.0 and ASCII's signs: without what became punctuation since, with what
 * then was. */
static const char punctuation[] =
    "(?!["
    "\\x{61d}\\x{9fd}\\x{a76}\\x{c77}\\x{c84}\\x{1b7d}-\\x{1b7e}\\x{2e43}-\\x{2e4f}"
    "\\x{2e52}-\\x{2e5d}\\x{10ead}\\x{10f55}-\\x{10f59}\\x{10f86}-\\x{10f89}\\x{1144b}-\\x{1144f}"
    "\\x{1145a}-\\x{1145b}\\x{1145d}\\x{11660}-\\x{1166c}\\x{116b9}\\x{1183b}\\x{11944}-\\x{11946}"
    "\\x{119e2}\\x{11a3f}-\\x{11a46}\\x{11a9a}-\\x{11a9c}\\x{11a9e}-\\x{11aa2}\\x{11c41}-\\x{11c45}"
    "\\x{11c70}-\\x{11c71}\\x{11ef7}-\\x{11ef8}\\x{11fff}\\x{12ff1}-\\x{12ff2}\\x{16e97}-\\x{16e9a}"
    "\\x{16fe2}\\x{1e95e}-\\x{1e95f}"
    "])[\\p{P}$+<=>^`|~\\x{166d}\\x{111c9}]";

static const char *type_of(const json_t *v)
{
	const char *type = json_string_value(json_object_get(v, "type"));
	return type ? type : "";
}

static void key_of(char key[KEY_MAX], const char *path, const char *name)
{
	snprintf(key, KEY_MAX, "%.150s.%s", path, name);
}

static int make_pattern(struct tokenizer_json *j, const char *text, size_t size, bool literal, const char *key,
			struct pattern **out)
{
	char place[KEY_MAX + 300];
	snprintf(place, sizeof place, "%.280s: %s", j->file, key);
	return pattern_make(out, text, size, literal, place, j->err);
}

/* {"Regex": "..."} or {"String": "..."}. */
static int read_pattern(struct tokenizer_json *j, const json_t *object, const char *path, struct pattern **out)
{
	char key[KEY_MAX];
	key_of(key, path, "pattern");
	const json_t *v = json_object_get(object, "pattern");
	const json_t *regex = json_object_get(v, "Regex"), *string = json_object_get(v, "String");
	const json_t *text = regex ? regex : string;
	if (json_object_size(v) != 1 || !json_is_string(text))
		return tokenizer_wrong(j, key, v, "{\"Regex\": \"...\"} or {\"String\": \"...\"}");
	return make_pattern(j, json_string_value(text), json_string_length(text), !regex, key, out);
}

/* The elements of `list` of a Sequence, each by `read`. */
static int read_list(struct tokenizer_json *j, const json_t *v, const char *path, const char *list, int depth,
		     int (*read)(struct tokenizer_json *j, const json_t *v, const char *path, int depth))
{
	char key[KEY_MAX];
	key_of(key, path, list);
	const json_t *items = json_object_get(v, list);
	if (!json_is_array(items))
		return tokenizer_wrong(j, key, items, "a list");
	if (depth == NESTING_MAX)
		return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, key, "more than %d sequences in each other",
				  NESTING_MAX);
	for (size_t i = 0; i < json_array_size(items); i++) {
		char element[KEY_MAX + 30];
		snprintf(element, sizeof element, "%.150s.%s[%zu]", path, list, i);
		if (read(j, json_array_get(items, i), element, depth + 1))
			return -1;
	}
	return 0;
}

/* --- normalizers --- */

static int read_content(struct tokenizer_json *j, const json_t *v, const char *path, const char *name,
			struct token_text *out)
{
	char key[KEY_MAX];
	key_of(key, path, name);
	const json_t *content = json_object_get(v, name);
	if (!json_is_string(content) || json_string_length(content) > 1024)
		return tokenizer_wrong(j, key, content, "a string of at most 1024 bytes");
	return token_text_add(out, json_string_value(content), json_string_length(content), j->err);
}

int tokenizer_read_normalizer(struct tokenizer_json *j, const json_t *v, const char *path, int depth)
{
	char key[KEY_MAX];
	struct tokenizer *t = j->t;
	const char *type = type_of(v);
	key_of(key, path, "type");
	if (json_is_null(v) && depth == 0)
		return 0;
	if (!json_is_object(v))
		return tokenizer_wrong(j, path, v, depth ? "an object" : "an object or null");
	if (!strcmp(type, "Sequence"))
		return read_list(j, v, path, "normalizers", depth, tokenizer_read_normalizer);
	if (t->normalizer_count == NORMALIZERS_MAX)
		return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, path, "more than %d normalizers",
				  NORMALIZERS_MAX);
	struct normalizer *n = &t->normalizers[t->normalizer_count++];
	if (!strcmp(type, "NFC") || !strcmp(type, "NFD")) {
		n->kind = NORMALIZE_FORM;
		n->form = type[2] == 'C' ? UNICODE_NFC : UNICODE_NFD;
		return 0;
	}
	if (!strcmp(type, "Prepend")) {
		n->kind = NORMALIZE_PREPEND;
		return read_content(j, v, path, "prepend", &n->content);
	}
	if (!strcmp(type, "Replace")) {
		n->kind = NORMALIZE_REPLACE;
		return read_pattern(j, v, path, &n->pattern) || read_content(j, v, path, "content", &n->content) ? -1
														 : 0;
	}
	return tokenizer_wrong(j, key, json_object_get(v, "type"), "NFC, NFD, Prepend, Replace or Sequence");
}

/* --- pre-tokenizers --- */

static struct stage *add_stage(struct tokenizer_json *j, const char *path)
{
	if (j->t->stage_count < STAGES_MAX)
		return &j->t->stages[j->t->stage_count++];
	ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, path, "more than %d steps of pre-tokenizers", STAGES_MAX);
	return NULL;
}

static int add_split(struct tokenizer_json *j, const char *path, const char *regex, enum split_behavior behavior,
		     bool invert)
{
	struct stage *s = add_stage(j, path);
	if (!s)
		return -1;
	s->behavior = behavior;
	s->invert = invert;
	return make_pattern(j, regex, strlen(regex), false, path, &s->pattern);
}

static int read_behavior(struct tokenizer_json *j, const json_t *v, const char *path, bool required,
			 enum split_behavior *out)
{
	static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
					    "Contiguous"};
	char key[KEY_MAX];
	key_of(key, path, "behavior");
	const json_t *name = json_object_get(v, "behavior");
	*out = SPLIT_ISOLATED;
	if (!name && !required)
		return 0;
	for (int i = 0; json_is_string(name) && i < 5; i++)
		if (!strcmp(json_string_value(name), names[i])) {
			*out = (enum split_behavior)i;
			return 0;
		}
	return tokenizer_wrong(j, key, name, "Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
}

static int read_split(struct tokenizer_json *j, const json_t *v, const char *path)
{
	struct stage *s = add_stage(j, path);
	if (!s || read_pattern(j, v, path, &s->pattern) || read_behavior(j, v, path, true, &s->behavior))
		return -1;
	return tokenizer_flag(j, v, path, "invert", false, &s->invert);
}

static int read_byte_level(struct tokenizer_json *j, const json_t *v, const char *path)
{
	bool prefix, regex;
	if (tokenizer_flag(j, v, path, "add_prefix_space", true, &prefix) ||
	    tokenizer_flag(j, v, path, "use_regex", true, &regex))
		return -1;
	if (prefix) {
		struct stage *s = add_stage(j, path);
		if (!s || token_text_add(&s->replacement, " ", 1, j->err))
			return -1;
	}
	j->t->bpe.byte_level = true;
	return regex ? add_split(j, path, gpt2_words, SPLIT_ISOLATED, false) : 0;
}

static int read_scheme(struct tokenizer_json *j, const json_t *v, const char *path, enum prepend_scheme *out)
{
	static const char *const names[] = {"always", "first", "never"};
	char key[KEY_MAX];
	bool prefix;
	const json_t *name = json_object_get(v, "prepend_scheme");
	if (tokenizer_flag(j, v, path, "add_prefix_space", true, &prefix))
		return -1;
	/* The older form has the flag only. */
	*out = prefix ? PREPEND_ALWAYS : PREPEND_NEVER;
	key_of(key, path, "prepend_scheme");
	if (!name)
		return 0;
	for (int i = 0; json_is_string(name) && i < 3; i++)
		if (!strcmp(json_string_value(name), names[i])) {
			*out = (enum prepend_scheme)i;
			return prefix || *out == PREPEND_NEVER
				   ? 0
				   : tokenizer_wrong(j, key, name, "\"never\", as add_prefix_space is false");
		}
	return tokenizer_wrong(j, key, name, "\"always\", \"first\" or \"never\"");
}

/* Is it certain which piece of a text holds its first character? */
static bool keeps_first(const struct tokenizer *t)
{
	for (size_t i = 0; i < t->normalizer_count; i++)
		if (t->normalizers[i].kind == NORMALIZE_REPLACE)
			return false;
	return true;
}

static int read_metaspace(struct tokenizer_json *j, const json_t *v, const char *path)
{
	char key[KEY_MAX];
	bool splits;
	const json_t *sign = json_object_get(v, "replacement");
	const char *text = json_string_value(sign);
	struct stage *s = add_stage(j, path);
	if (!s || tokenizer_flag(j, v, path, "split", true, &splits) || read_scheme(j, v, path, &s->prepend))
		return -1;
	for (size_t i = 0; i + 1 < j->t->stage_count; i++)
		if (j->t->stages[i].replacement.size > 1)
			return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, path,
					  "a second Metaspace is not supported");
	if (s->prepend == PREPEND_FIRST && !keeps_first(j->t))
		return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, path,
				  "prepend_scheme \"first\" with a Replace normalizer is not supported");
	key_of(key, path, "replacement");
	if (!text || strcmp(text, block) != 0)
		return tokenizer_wrong(j, key, sign, "\"\u2581\" (U+2581)");
	if (token_text_add(&s->replacement, text, strlen(text), j->err))
		return -1;
	if (!splits)
		return 0;
	if (!(s = add_stage(j, path)))
		return -1;
	s->behavior = SPLIT_NEXT;
	return make_pattern(j, block, strlen(block), true, path, &s->pattern);
}

static int read_digits(struct tokenizer_json *j, const json_t *v, const char *path)
{
	bool each;
	if (tokenizer_flag(j, v, path, "individual_digits", false, &each))
		return -1;
	return add_split(j, path, "\\p{N}", each ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false);
}

int tokenizer_read_pre_tokenizer(struct tokenizer_json *j, const json_t *v, const char *path, int depth)
{
	char key[KEY_MAX];
	const char *type = type_of(v);
	enum split_behavior behavior;
	key_of(key, path, "type");
	if (json_is_null(v) && depth == 0)
		return 0;
	if (!json_is_object(v))
		return tokenizer_wrong(j, path, v, depth ? "an object" : "an object or null");
	if (!strcmp(type, "Sequence"))
		return read_list(j, v, path, "pretokenizers", depth, tokenizer_read_pre_tokenizer);
	if (j->t->bpe.byte_level)
		return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, path,
				  "a pre-tokenizer behind a ByteLevel is not supported");
	if (!strcmp(type, "ByteLevel"))
		return read_byte_level(j, v, path);
	if (!strcmp(type, "Split"))
		return read_split(j, v, path);
	if (!strcmp(type, "Metaspace"))
		return read_metaspace(j, v, path);
	if (!strcmp(type, "Digits"))
		return read_digits(j, v, path);
	/* The words here are those of Rust's regex crate, which has the joiners among them. */
	if (!strcmp(type, "Whitespace"))
		return add_split(j, path, "[\\w\\x{200c}\\x{200d}]+|[^\\w\\x{200c}\\x{200d}\\s]+", SPLIT_REMOVED,
				 true);
	if (!strcmp(type, "WhitespaceSplit"))
		return add_split(j, path, "\\s", SPLIT_REMOVED, false);
	if (!strcmp(type, "Punctuation"))
		return read_behavior(j, v, path, false, &behavior) ? -1
								   : add_split(j, path, punctuation, behavior, false);
	return tokenizer_wrong(
	    j, key, json_object_get(v, "type"),
	    "ByteLevel, Split, Metaspace, Digits, Whitespace, WhitespaceSplit, Punctuation or Sequence");
}
