/* Tokens of a text, by a tokenizer.json of Hugging Face's tokenizers library (model BPE).
 *
 * Ids are those of its encode(text, add_special_tokens=False): special tokens that stand in the text are found, none
 * is added. The file's post_processor, truncation, padding and decoder have no part in that and are not looked at.
 * What the file asks for that is not supported is refused when it is read; docs/tokenizer.md lists both. */
#ifndef SIM_TOKENIZER_H
#define SIM_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>
#include "intentkv/error.h"

enum { TOKENIZER_FILE_MAX = 64 << 20, TOKENIZER_TEXT_MAX = 256 << 20 };

struct tokenizer;

int tokenizer_read(const char *path, struct tokenizer **out, struct ikv_err *err);
/* The same of a file in memory, which `name` stands for in messages. */
int tokenizer_read_bytes(const char *json, size_t bytes, const char *name, struct tokenizer **out,
			 struct ikv_err *err);
void tokenizer_free(struct tokenizer *t);

/* Append the ids of a UTF-8 text to *ids, *count of them in use, room for *cap; it grows by ikv_grow and is the
 * caller's to free. One thread at a time per tokenizer. */
int tokenizer_encode(struct tokenizer *t, const char *text, size_t bytes, uint32_t **ids, size_t *cap, size_t *count,
		     struct ikv_err *err);
int tokenizer_count(struct tokenizer *t, const char *text, size_t bytes, uint64_t *count, struct ikv_err *err);

#endif
