/* What formats lose of a source's K and V: the noise of what is stored, and the error of attention over it.
 *
 * A session is played against the source; at some of its decode steps the query attends over the whole context, once
 * over the exact rows and once over the rows as a scheme stores them at that step: closed pages in a format, the last
 * one in FP16; or a KIVI cache with its window. Attention runs in float over the values as stored
 * (ikv_ranges_attend), so that no kernel's rounding of codes is in the figures. Definitions: docs/formats.md. */
#ifndef SIM_LOSS_H
#define SIM_LOSS_H

#include "source.h"

enum {
	LOSS_NO_BLOCK = IKV_KIND_COUNT, /* tokens of no block */
	LOSS_KINDS,
	LOSS_ALL = LOSS_KINDS, /* all tokens */
	LOSS_PARTS
};

struct loss_scheme {
	enum ikv_format format;
	uint32_t residual; /* of a KIVI cache, in tokens; 0: pages */
};

struct loss_setup {
	const struct loss_scheme *schemes;
	uint32_t scheme_count;
	uint32_t page_tokens;
	uint32_t queries; /* at most so many, evenly spaced over the decode steps */
	uint32_t threads; /* 0: all cores */
	const char *isa;
};

/* Sums over tokens, queries and heads, so that those of layers and heads can be added. */
struct loss_sums {
	double rows, bytes;         /* rows of K and V of a KV head, and what is stored for them at the end */
	double signal[2], noise[2]; /* squares of K and of V, and of what they lost, over the rows that are encoded */
	double output, error;       /* squares of the exact output; of its difference, of a kind's part in it */
	double lse_error, lse_count; /* squares of differences, and how many */
};

struct loss {
	uint32_t layers, kv_heads, tokens, queries;
	struct loss_sums *cells; /* [schemes][layers][kv_heads][LOSS_PARTS]; owned */
};

/* `source` is open with this geometry, `session` neither waits nor compacts. Free with loss_free. */
int loss_measure(struct source *source, const struct ikv_geometry *geometry, const struct session *session,
		 const struct loss_setup *setup, struct loss *out, struct ikv_err *err);
void loss_free(struct loss *loss);

void loss_add(struct loss_sums *to, const struct loss_sums *from);
double loss_bytes(const struct loss_sums *s);                   /* of K and V of a token, layer and KV head */
double loss_snr(const struct loss_sums *s, enum ikv_side side); /* in dB; +inf where nothing is lost */
double loss_rel_l2(const struct loss_sums *s);
double loss_lse(const struct loss_sums *s); /* root of the mean square */

#endif
