/* Parts of the tokenizer, for its own files. */
#ifndef SIM_TOKENIZER_PARTS_H
#define SIM_TOKENIZER_PARTS_H

#include <jansson.h>
#include <stdbool.h>
#include <string.h>
#include "intentkv/alloc.h"
#include "sim/tokenizer.h"
#include "sim/unicode_normalize.h"

/* Bytes that grow. */
struct token_text {
	char *at;
	size_t size, cap;
};

int token_text_add(struct token_text *t, const char *bytes, size_t size, struct ikv_err *err);
/* Room for `needed` items of `size` bytes in *array, which holds *cap; keeps what is there. */
int token_reserve(void *array, size_t *cap, size_t needed, size_t size, struct ikv_err *err);

/* Bytes of the UTF-8 character that begins with this byte, of text known to be valid. */
static inline size_t utf8_length(char first)
{
	unsigned char c = (unsigned char)first;
	return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/* --- vocabulary: strings to ids, pairs of ids to merges --- */

enum { TOKEN_NONE = -1 };

struct vocab_slot {
	size_t at; /* in the text */
	uint32_t size, id;
	uint64_t hash; /* 0: free */
};

struct vocab {
	struct token_text text;
	struct vocab_slot *slots;
	size_t mask;
};

/* Room for `count` strings. */
int vocab_make(struct vocab *v, size_t count, struct ikv_err *err);
/* 1 if added, 0 if it is there already, -1. */
int vocab_add(struct vocab *v, const char *string, size_t size, uint32_t id, struct ikv_err *err);
/* The id of a string, or TOKEN_NONE. Ids are below 2^31. */
int32_t vocab_find(const struct vocab *v, const char *string, size_t size);
void vocab_free(struct vocab *v);

struct merge {
	uint64_t pair; /* left id << 32 | right id, + 1; 0: free */
	uint32_t rank, id;
};

struct merge_table {
	struct merge *slots;
	size_t mask;
};

int merge_table_make(struct merge_table *m, size_t count, struct ikv_err *err);
/* A pair that is there already takes the new rank. */
int merge_table_add(struct merge_table *m, uint32_t left, uint32_t right, uint32_t rank, uint32_t id,
		    struct ikv_err *err);
const struct merge *merge_find(const struct merge_table *m, uint32_t left, uint32_t right);

/* --- patterns --- */

struct pattern;

/* `place` is the file and key for messages. A literal pattern is its own text. */
int pattern_make(struct pattern **out, const char *text, size_t size, bool literal, const char *place,
		 struct ikv_err *err);
void pattern_free(struct pattern *p);

/* Where a search stands; start with {0}. */
struct pattern_search {
	size_t next;  /* where to look from */
	size_t ended; /* end of the last match, + 1; 0: none */
	size_t start, end;
};

/* The next match: 1 and its place in s, 0, or -1. *steps is the work left to this text, which a pattern that
 * backtracks much uses up. */
int pattern_next(struct pattern *p, const char *text, size_t size, struct pattern_search *s, uint64_t *steps,
		 struct ikv_err *err);

/* --- pre-tokenizers: a chain of stages, each of which hands pieces to the next --- */

enum split_behavior { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_PREVIOUS, SPLIT_NEXT, SPLIT_CONTIGUOUS };
enum prepend_scheme { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct stage {
	struct pattern *pattern; /* a split; NULL: puts a space, or its stand-in, in front */
	enum split_behavior behavior;
	bool invert;
	enum prepend_scheme prepend;
	struct token_text replacement; /* what a space becomes */
	struct token_text room;
};

/* --- normalizers --- */

struct normalizer {
	enum { NORMALIZE_FORM, NORMALIZE_PREPEND, NORMALIZE_REPLACE } kind;
	enum unicode_form form;
	struct pattern *pattern;
	struct token_text content;
};

/* --- the tokenizer --- */

struct added_token {
	const char *content; /* as in the file */
	size_t size;
	const char *match; /* what is looked for: the content, normalized if the token says so */
	size_t match_size;
	char *owned; /* the normalized content */
	uint32_t id;
	bool single_word, lstrip, rstrip, normalized;
};

/* Added tokens in order of what is looked for. */
struct added_set {
	struct added_token *items;
	size_t count;
	bool first[256]; /* bytes that some begin with */
};

enum { STAGES_MAX = 32, NORMALIZERS_MAX = 32, CACHE_WORD_MAX = 30, CACHE_IDS_MAX = 8 };

struct cached_word {
	uint8_t size, count;
	char word[CACHE_WORD_MAX];
	uint32_t ids[CACHE_IDS_MAX];
};

struct token_symbol {
	uint32_t id;
	int32_t prev, next;
};

struct queued_merge {
	uint32_t rank;
	int32_t at;
	uint32_t id;
};

struct bpe {
	struct vocab vocab;
	struct merge_table merges;
	struct merge_table
	    joints; /* code points that some merge joins: the last of its left, the first of its right */
	struct token_text unk_token;
	bool has_unk, fuse_unk, byte_fallback, ignore_merges;
	bool shares_ids;         /* strings with one id: merges do not tell them apart */
	bool byte_level;         /* words are bytes written in GPT-2's alphabet */
	char byte_chars[256][2]; /* that alphabet: 1 or 2 bytes of UTF-8 each */
	uint8_t byte_sizes[256];
	int32_t fallback[256]; /* ids of <0x00> to <0xFF>, or TOKEN_NONE */
	struct cached_word *cache;
	struct token_text mapped; /* the word at hand in that alphabet */
	uint32_t *ids;            /* its symbols, then its ids */
	size_t ids_cap;
	struct token_symbol *symbols; /* of long words */
	size_t symbols_cap;
	struct queued_merge *queue;
	size_t queue_cap;
	uint32_t *joined; /* ids of a word encoded in parts */
	size_t joined_count, joined_cap;
};

/* Of every merge: that these two strings, neither empty, may be joined. */
int bpe_note_joint(struct bpe *b, const char *left, size_t left_size, const char *right, struct ikv_err *err);
int bpe_prepare(struct bpe *b, struct ikv_err *err);
/* The ids of a word. *ids is good until the next call. */
int bpe_encode(struct bpe *b, const char *word, size_t size, const uint32_t **ids, size_t *count,
	       struct ikv_err *err);
void bpe_free(struct bpe *b);

struct tokenizer {
	struct bpe bpe;
	struct normalizer normalizers[NORMALIZERS_MAX];
	size_t normalizer_count;
	struct stage stages[STAGES_MAX];
	size_t stage_count;
	struct added_token *added; /* owns the tokens of both sets */
	size_t added_count;
	struct token_text added_text;
	struct added_set plain, normalized;
	struct pattern *word_character; /* for single_word */
	struct token_text normal[2];    /* normalized text, and that of the normalizer before */
	uint64_t steps;                 /* left to the text at hand, see pattern_next */
	struct token_output {
		uint32_t **ids; /* NULL: count only */
		size_t *cap;
		uint64_t count;
	} out;
};

/* Normalize; *text and *size become the result, *zero the bytes of it that stand for the first character. */
int tokenizer_normalize(struct tokenizer *t, const char **text, size_t *size, size_t *zero, struct ikv_err *err);
/* Split a piece by the stages from number `stage` on, and put out the ids of the words. `zero` of its first bytes
 * come from the first character of the text. */
int tokenizer_split(struct tokenizer *t, size_t stage, const char *text, size_t size, size_t zero,
		    struct ikv_err *err);
/* From the file: the normalizers and pre-tokenizers. */
struct tokenizer_json {
	const char *file;
	struct tokenizer *t;
	struct ikv_err *err;
};
/* "FILE: key: found X, expected Y". */
int tokenizer_wrong(struct tokenizer_json *j, const char *key, const json_t *found, const char *expected);
int tokenizer_flag(struct tokenizer_json *j, const json_t *object, const char *path, const char *key, bool fallback,
		   bool *out);
int tokenizer_read_normalizer(struct tokenizer_json *j, const json_t *v, const char *path, int depth);
int tokenizer_read_pre_tokenizer(struct tokenizer_json *j, const json_t *v, const char *path, int depth);
/* Put the added tokens in order, with their contents normalized. */
int tokenizer_order_added(struct tokenizer *t, struct ikv_err *err);

#endif
