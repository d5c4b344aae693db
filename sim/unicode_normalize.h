/* Unicode's normalization forms C and D (Unicode Standard Annex 15) of Unicode 9.0, which is what Hugging Face's
 * tokenizers normalise by; marks that came later are left where they stand. */
#ifndef SIM_UNICODE_NORMALIZE_H
#define SIM_UNICODE_NORMALIZE_H

#include <stddef.h>
#include "intentkv/error.h"

enum unicode_form { UNICODE_NFC, UNICODE_NFD };

/* Append the form of a text to *out, *size of its bytes in use, room for *cap; it grows by ikv_grow and is the
 * caller's to free. The text must be valid UTF-8. */
int unicode_normalize(enum unicode_form form, const char *text, size_t bytes, char **out, size_t *size, size_t *cap,
		      struct ikv_err *err);

#endif
