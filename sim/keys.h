/* Keys of one layer as floats, laid out for scoring, and the softmax weights that queries give them.
 *
 * Plain arithmetic in a fixed order: the same bits on every ISA. */
#ifndef SIM_KEYS_H
#define SIM_KEYS_H

#include <intentkv.h>

struct keys {
	uint32_t kv_heads, d, tokens, cap; /* cap: tokens there is room for, a multiple of 16 */
	float *rows;                       /* [cap / 16][kv_heads][d][16]; owned */
};

/* Append FP16 rows [tokens][kv_heads][d]; `keys` begins zeroed but for kv_heads and d. */
int keys_append(struct keys *keys, const uint16_t *rows, uint32_t tokens, struct ikv_err *err);
void keys_free(struct keys *keys);
/* weights [tokens], which sum to 1: softmax(scale · q·k) over the first `tokens` tokens of a KV head. */
void keys_weights(const struct keys *keys, uint32_t kv_head, const float *q, float scale, uint32_t tokens,
		  double *weights);
/* FP16 bits to float, exact. */
float keys_float(uint16_t half);

#endif
