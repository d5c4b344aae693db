/* Reading a tokenizer.json: strangers' input, so every member is checked, and sizes are bounded before it is parsed.
 */
#include <errno.h>
#include <stdio.h>
#include "sim/trace/json_input.h"
#include "sim/tokenizer_parts.h"

enum {
	DEPTH_MAX = 64,
	LISTS_MAX = 2 << 20,  /* lists and objects; about 250 bytes of memory each */
	VALUES_MAX = 8 << 20, /* values in them; about 50 */
	STRING_MAX = 64 << 10,
	ADDED_MAX = 1 << 20,
	ADDED_SIZE_MAX = 1024,
	ID_MAX = 0x7ffffffe,
};

int tokenizer_wrong(struct tokenizer_json *j, const char *key, const json_t *found, const char *expected)
{
	char text[80];
	return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, key, "found %s, expected %s",
			  json_describe(found, text), expected);
}

int tokenizer_flag(struct tokenizer_json *j, const json_t *object, const char *path, const char *key, bool fallback,
		   bool *out)
{
	char place[200];
	const json_t *v = json_object_get(object, key);
	*out = v ? json_is_true(v) : fallback;
	if (!v || json_is_boolean(v))
		return 0;
	snprintf(place, sizeof place, "%.150s.%s", path, key);
	return tokenizer_wrong(j, place, v, "true or false");
}

/* --- the vocabulary --- */

static int read_vocab(struct tokenizer_json *j, json_t *vocab, struct merge_table *seen)
{
	const char *string;
	json_t *id;
	struct bpe *b = &j->t->bpe;
	if (!json_is_object(vocab))
		return tokenizer_wrong(j, "model.vocab", vocab, "an object of strings with their ids");
	if (vocab_make(&b->vocab, json_object_size(vocab), j->err) ||
	    merge_table_make(seen, json_object_size(vocab), j->err))
		return -1;
	json_object_foreach(vocab, string, id)
	{
		char key[120];
		size_t size = strlen(string);
		if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > ID_MAX) {
			char quoted[80];
			json_t *name = json_string(string);
			json_describe(name, quoted);
			json_decref(name);
			snprintf(key, sizeof key, "model.vocab: the id of %s", quoted);
			return tokenizer_wrong(j, key, id, "a whole number from 0 to 2147483646");
		}
		if (size > STRING_MAX)
			return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, "model.vocab",
					  "a string of %zu bytes, expected at most %d", size, STRING_MAX);
		uint32_t number = (uint32_t)json_integer_value(id);
		b->shares_ids = b->shares_ids || merge_find(seen, 0, number);
		if (merge_table_add(seen, 0, number, 0, 0, j->err) ||
		    vocab_add(&b->vocab, string, size, number, j->err) < 0)
			return -1;
	}
	return 0;
}

/* Both halves of a merge: "a b", or ["a", "b"]. */
static bool halves(const json_t *v, const char *half[2], size_t size[2])
{
	if (json_is_array(v) && json_array_size(v) == 2) {
		for (size_t i = 0; i < 2; i++) {
			half[i] = json_string_value(json_array_get(v, i));
			size[i] = half[i] ? json_string_length(json_array_get(v, i)) : 0;
		}
		return half[0] && half[1];
	}
	const char *text = json_string_value(v), *space = text ? strchr(text, ' ') : NULL;
	if (!space || strchr(space + 1, ' '))
		return false;
	half[0] = text;
	size[0] = (size_t)(space - text);
	half[1] = space + 1;
	size[1] = json_string_length(v) - size[0] - 1;
	return true;
}

static int read_merge(struct tokenizer_json *j, const json_t *v, size_t number, uint32_t rank,
		      struct token_text *whole)
{
	char key[60];
	const char *half[2];
	size_t size[2];
	struct bpe *b = &j->t->bpe;
	snprintf(key, sizeof key, "model.merges[%zu]", number);
	if (!halves(v, half, size) || !size[0] || !size[1])
		return tokenizer_wrong(j, key, v, "two strings, as \"a b\" or [\"a\", \"b\"]");
	whole->size = 0;
	if (token_text_add(whole, half[0], size[0], j->err) || token_text_add(whole, half[1], size[1], j->err))
		return -1;
	int32_t left = vocab_find(&b->vocab, half[0], size[0]), right = vocab_find(&b->vocab, half[1], size[1]);
	int32_t id = vocab_find(&b->vocab, whole->at, whole->size);
	if (left == TOKEN_NONE || right == TOKEN_NONE || id == TOKEN_NONE)
		return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, key, "its %s is not in model.vocab",
				  left == TOKEN_NONE    ? "first string"
				  : right == TOKEN_NONE ? "second string"
							: "result");
	if (merge_table_add(&b->merges, (uint32_t)left, (uint32_t)right, rank, (uint32_t)id, j->err))
		return -1;
	return bpe_note_joint(b, half[0], size[0], half[1], j->err);
}

static int read_merges(struct tokenizer_json *j, const json_t *merges)
{
	if (!json_is_array(merges))
		return tokenizer_wrong(j, "model.merges", merges, "a list of pairs");
	size_t count = json_array_size(merges);
	struct token_text whole = {0};
	uint32_t rank = 0;
	int rc =
	    merge_table_make(&j->t->bpe.merges, count, j->err) || merge_table_make(&j->t->bpe.joints, count, j->err);
	for (size_t i = 0; !rc && i < count; i++) {
		const json_t *v = json_array_get(merges, i);
		if (json_is_string(v) && !strncmp(json_string_value(v), "#version", 8))
			continue;
		rc = read_merge(j, v, i, rank++, &whole);
	}
	ikv_free(whole.at);
	return rc;
}

/* --- the model --- */

/* What would make words differ at random, or in a way that is not supported. */
static int refuse_options(struct tokenizer_json *j, const json_t *model)
{
	static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
	const json_t *dropout = json_object_get(model, "dropout");
	if (dropout && !json_is_null(dropout) && !(json_is_number(dropout) && json_number_value(dropout) == 0))
		return tokenizer_wrong(j, "model.dropout", dropout, "null: counts would be random");
	for (int i = 0; i < 2; i++) {
		char key[60];
		const json_t *v = json_object_get(model, affixes[i]);
		snprintf(key, sizeof key, "model.%s", affixes[i]);
		if (v && !json_is_null(v) && !(json_is_string(v) && json_string_length(v) == 0))
			return tokenizer_wrong(j, key, v, "null or an empty string");
	}
	return 0;
}

static int read_model(struct tokenizer_json *j, const json_t *root)
{
	struct bpe *b = &j->t->bpe;
	const json_t *model = json_object_get(root, "model"), *type = json_object_get(model, "type");
	const json_t *unk = json_object_get(model, "unk_token");
	if (!json_is_object(model))
		return tokenizer_wrong(j, "model", model, "an object");
	if (type && (!json_is_string(type) || strcmp(json_string_value(type), "BPE") != 0)) {
		char text[80];
		const char *found = json_describe(type, text);
		return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, "model.type", "found %s, expected \"BPE\"",
				  strncmp(found, "the string ", 11) ? found : found + 11);
	}
	if (refuse_options(j, model) || tokenizer_flag(j, model, "model", "fuse_unk", false, &b->fuse_unk) ||
	    tokenizer_flag(j, model, "model", "byte_fallback", false, &b->byte_fallback) ||
	    tokenizer_flag(j, model, "model", "ignore_merges", false, &b->ignore_merges))
		return -1;
	b->has_unk = unk && !json_is_null(unk);
	if (b->has_unk && !json_is_string(unk))
		return tokenizer_wrong(j, "model.unk_token", unk, "a string or null");
	if (b->has_unk && token_text_add(&b->unk_token, json_string_value(unk), json_string_length(unk), j->err))
		return -1;
	struct merge_table seen = {0};
	int rc = read_vocab(j, json_object_get(model, "vocab"), &seen);
	ikv_free(seen.slots);
	if (rc || read_merges(j, json_object_get(model, "merges")))
		return -1;
	return bpe_prepare(b, j->err);
}

/* --- added tokens --- */

static int read_added_token(struct tokenizer_json *j, const json_t *v, size_t i)
{
	char path[60], key[90];
	bool special;
	struct added_token *a = &j->t->added[i];
	const json_t *content = json_object_get(v, "content"), *id = json_object_get(v, "id");
	snprintf(path, sizeof path, "added_tokens[%zu]", i);
	if (!json_is_object(v))
		return tokenizer_wrong(j, path, v, "an object");
	snprintf(key, sizeof key, "%s.content", path);
	if (!json_is_string(content) || json_string_length(content) > ADDED_SIZE_MAX)
		return tokenizer_wrong(j, key, content, "a string of at most 1024 bytes");
	snprintf(key, sizeof key, "%s.id", path);
	if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > ID_MAX)
		return tokenizer_wrong(j, key, id, "a whole number from 0 to 2147483646");
	if (tokenizer_flag(j, v, path, "special", false, &special) ||
	    tokenizer_flag(j, v, path, "single_word", false, &a->single_word) ||
	    tokenizer_flag(j, v, path, "lstrip", false, &a->lstrip) ||
	    tokenizer_flag(j, v, path, "rstrip", false, &a->rstrip) ||
	    tokenizer_flag(j, v, path, "normalized", !special, &a->normalized))
		return -1;
	a->size = json_string_length(content);
	memcpy(j->t->added_text.at + j->t->added_text.size, json_string_value(content), a->size);
	a->content = j->t->added_text.at + j->t->added_text.size;
	j->t->added_text.size += a->size;
	/* The vocabulary's id counts, as in the original. */
	int32_t known = vocab_find(&j->t->bpe.vocab, a->content, a->size);
	a->id = known != TOKEN_NONE ? (uint32_t)known : (uint32_t)json_integer_value(id);
	return 0;
}

static int read_added(struct tokenizer_json *j, const json_t *list)
{
	struct tokenizer *t = j->t;
	size_t count = json_array_size(list), bytes = 1;
	if (list && !json_is_null(list) && !json_is_array(list))
		return tokenizer_wrong(j, "added_tokens", list, "a list");
	if (count > ADDED_MAX)
		return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, "added_tokens",
				  "%zu tokens, expected at most %d", count, ADDED_MAX);
	for (size_t i = 0; i < count; i++)
		bytes += json_string_length(json_object_get(json_array_get(list, i), "content"));
	t->added_text.at = ikv_alloc(bytes, 1, j->err);
	t->added = ikv_alloc(count, sizeof *t->added, j->err);
	if (!t->added_text.at || !t->added)
		return -1;
	t->added_count = count;
	for (size_t i = 0; i < count; i++)
		if (read_added_token(j, json_array_get(list, i), i))
			return -1;
	static const char word[] = "[\\w\\x{200c}\\x{200d}]";
	return pattern_make(&t->word_character, word, strlen(word), false, j->file, j->err) ||
		       tokenizer_order_added(t, j->err)
		   ? -1
		   : 0;
}

/* --- the file --- */

/* Count brackets and commas outside strings: what the parser's memory depends on. */
static int check_size(struct tokenizer_json *j, const char *json, size_t size)
{
	int depth = 0, deepest = 0;
	size_t lists = 0, values = 0;
	bool in_string = false;
	for (size_t i = 0; i < size; i++) {
		char c = json[i];
		if (in_string) {
			i += c == '\\';
			in_string = c != '"';
			continue;
		}
		in_string = c == '"';
		lists += c == '{' || c == '[';
		values += c == ',';
		depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
		deepest = depth > deepest ? depth : deepest;
	}
	if (deepest > DEPTH_MAX)
		return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, NULL, "more than %d levels of nesting",
				  DEPTH_MAX);
	if (lists > LISTS_MAX || values > VALUES_MAX)
		return ikv_err_at(j->err, IKV_BAD_INPUT, j->file, 0, 0, NULL,
				  "%zu lists and objects of %zu values, expected at most %d of %d", lists, values,
				  LISTS_MAX, VALUES_MAX);
	return 0;
}

static int read_root(struct tokenizer_json *j, const json_t *root)
{
	static const char *const parts[] = {"normalizer", "pre_tokenizer"};
	if (!json_is_object(root))
		return tokenizer_wrong(j, NULL, root, "an object");
	if (read_model(j, root))
		return -1;
	const json_t *v = json_object_get(root, parts[0]);
	if (v && tokenizer_read_normalizer(j, v, parts[0], 0))
		return -1;
	v = json_object_get(root, parts[1]);
	if (v && tokenizer_read_pre_tokenizer(j, v, parts[1], 0))
		return -1;
	return read_added(j, json_object_get(root, "added_tokens"));
}

int tokenizer_read_bytes(const char *json, size_t bytes, const char *name, struct tokenizer **out,
			 struct ikv_err *err)
{
	json_error_t why;
	struct tokenizer_json j = {.file = name, .err = err};
	*out = NULL;
	if (bytes > TOKENIZER_FILE_MAX)
		return ikv_err_at(err, IKV_BAD_INPUT, name, 0, 0, NULL, "larger than %d MB",
				  TOKENIZER_FILE_MAX >> 20);
	if (check_size(&j, json, bytes))
		return -1;
	json_t *root = json_loadb(json, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
	if (!root) {
		for (char *c = why.text; *c; c++)
			*c = (unsigned char)*c < 32 || *c == 127 ? '?' : *c;
		return ikv_err_at(err, IKV_BAD_INPUT, name, why.line, why.column, NULL, "not valid JSON: %s",
				  why.text);
	}
	j.t = ikv_alloc(1, sizeof *j.t, err);
	int rc = j.t ? read_root(&j, root) : -1;
	json_decref(root);
	if (rc)
		tokenizer_free(j.t);
	else
		*out = j.t;
	return rc;
}

int tokenizer_read(const char *path, struct tokenizer **out, struct ikv_err *err)
{
	struct token_text text = {0};
	*out = NULL;
	FILE *f = fopen(path, "rb");
	if (!f)
		return ikv_err_at(err, IKV_IO, path, 0, 0, NULL, "%s", strerror(errno));
	int rc = 0;
	for (size_t got = 1; !rc && got && text.size <= TOKENIZER_FILE_MAX;) {
		rc = token_reserve(&text.at, &text.cap, text.size + (1 << 20), 1, err);
		got = rc ? 0 : fread(text.at + text.size, 1, 1 << 20, f);
		text.size += got;
	}
	if (!rc && ferror(f))
		rc = ikv_err_at(err, IKV_IO, path, 0, 0, NULL, "reading failed: %s", strerror(errno));
	fclose(f);
	if (!rc)
		rc = tokenizer_read_bytes(text.at, text.size, path, out, err);
	ikv_free(text.at);
	return rc;
}
