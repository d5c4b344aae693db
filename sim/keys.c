#include <string.h>
#include "keys.h"

#define LANES 16u
/* A vector of GCC and Clang, lowered to what the target has; element-wise, so the same bits everywhere. */
typedef float lanes __attribute__((vector_size(64)));

float keys_float(uint16_t half)
{
	uint32_t e = half >> 10 & 31, m = half & 1023u;
	float x = e == 31 ? (m ? __builtin_nanf("") : __builtin_inff())
		  : e     ? (float)(m | 1024u) * 0x1p-25f * (float)(1u << e)
			  : (float)m * 0x1p-24f;
	return half & 0x8000 ? -x : x;
}

/* x = e^x for 16 values of -700 < x <= 0, relative error below 1e-12; smaller ones become 0. The integer part of
 * x / ln 2 stays in the low bits of `shifted`, whence it goes straight to the exponent. */
static void exp_lanes(double *x)
{
	static const double c[] = {1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
				   1.0 / 120,      1.0 / 24,      1.0 / 6,      0.5,         1,          1};
	double r[LANES], p[LANES];
	uint64_t bits[LANES];
	for (uint32_t j = 0; j < LANES; j++) {
		x[j] = x[j] < -700 ? -700 : x[j];
		double shifted = x[j] * 1.4426950408889634 + 0x1.8p52, n = shifted - 0x1.8p52;
		memcpy(&bits[j], &shifted, sizeof shifted);
		r[j] = (x[j] - n * 0x1.62e42fefa3800p-1) - n * 0x1.ef35793c76730p-45;
		p[j] = 1.0 / 479001600;
	}
	for (uint32_t i = 0; i < sizeof c / sizeof *c; i++)
		for (uint32_t j = 0; j < LANES; j++)
			p[j] = p[j] * r[j] + c[i];
	for (uint32_t j = 0; j < LANES; j++) {
		double scale;
		bits[j] = (bits[j] + 1023) << 52;
		memcpy(&scale, &bits[j], sizeof scale);
		x[j] = x[j] <= -700 ? 0 : p[j] * scale;
	}
}

int keys_append(struct keys *keys, const uint16_t *rows, uint32_t tokens, struct ikv_err *err)
{
	size_t per = (size_t)keys->kv_heads * keys->d;
	if (tokens > UINT32_MAX / 4 - keys->tokens)
		return ikv_err_set(err, IKV_FAILED, "keys: more tokens than fit");
	if (keys->tokens + tokens > keys->cap) {
		uint32_t cap = (keys->tokens + tokens + keys->cap + LANES) / LANES * LANES;
		if (ikv_grow(&keys->rows, keys->cap, cap, per * sizeof(float), err))
			return -1;
		keys->cap = cap;
	}
	for (uint32_t i = 0; i < tokens; i++) {
		uint32_t t = keys->tokens + i;
		float *to = keys->rows + (size_t)(t / LANES) * LANES * per + t % LANES;
		for (size_t c = 0; c < per; c++)
			to[c * LANES] = keys_float(rows[i * per + c]);
	}
	keys->tokens += tokens;
	return 0;
}

void keys_free(struct keys *keys)
{
	ikv_free(keys->rows);
	keys->rows = NULL;
	keys->tokens = keys->cap = 0;
}

void keys_weights(const struct keys *keys, uint32_t kv_head, const float *q, float scale, uint32_t tokens,
		  double *weights)
{
	size_t stride = (size_t)keys->kv_heads * keys->d * LANES;
	double top = -__builtin_inf(), sum = 0;
	for (uint32_t t = 0; t < tokens; t += LANES) {
		const float *k = keys->rows + t / LANES * stride + (size_t)kv_head * keys->d * LANES;
		lanes s = {0}, row;
		for (uint32_t c = 0; c < keys->d; c++) {
			memcpy(&row, k + c * LANES, sizeof row);
			s += q[c] * row;
		}
		for (uint32_t i = 0; i < LANES && t + i < tokens; i++) {
			weights[t + i] = (double)s[i] * scale;
			top = weights[t + i] > top ? weights[t + i] : top;
		}
	}
	for (uint32_t t = 0; t < tokens; t += LANES) {
		double e[LANES] = {0};
		uint32_t n = tokens - t < LANES ? tokens - t : LANES;
		for (uint32_t i = 0; i < n; i++)
			e[i] = weights[t + i] - top;
		exp_lanes(e);
		for (uint32_t i = 0; i < n; i++)
			sum += weights[t + i] = e[i];
	}
	sum = 1 / sum;
	for (uint32_t t = 0; t < tokens; t++)
		weights[t] *= sum;
}
