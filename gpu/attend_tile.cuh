// One tile of 16 tokens against the query heads of a block, by one warp.
//
// Scores are K · qᵀ with tokens as rows of the matrix instruction and heads as its 8 columns; the output is
// Vᵀ · p. FP16 operands alone would round queries and weights to 11 bits, so both go in as a sum of two
// FP16 numbers: products are exact and sums in single precision. Codes are exact in FP16; scales of a token are
// applied to scores and weights, so a tile is never written out in floating point.
#ifndef GPU_ATTEND_TILE_CUH
#define GPU_ATTEND_TILE_CUH

#include "gpu/attend_ptx.cuh"
#include "gpu/tile.h"

// The running maximum moves when a score exceeds it by more than this (in powers of two): weights stay below 2^6.
#define SLACK 6.0f
// Weights enter the matrix instruction times `gain`: as far from FP16's subnormal numbers as its largest allows.
#define GAIN_START 256.0f
#define GAIN_LIMIT 1023.0f // of scale times gain: 2^6 · 1023 < 65504
#define LOWEST     (-1e38f)

template <int KT, int NT> struct query {
	static constexpr bool in_registers = KT * NT <= 8;
	static constexpr int groups = (KT + 1) / 2;
	uint4 frag[in_registers ? NT : 1][in_registers ? KT : 1]; // {high, high, low, low} parts
	uint32_t shared;                                          // where they are otherwise
	float factor[NT][2];                                      // of a score, for this lane's two heads
	float sum[NT][groups][2];                                 // of the query over a group of 32 channels

	DEVICE uint4 step(int n, int k, uint32_t lane) const
	{
		if constexpr (in_registers)
			return frag[n][k];
		else
			return load16(shared + ((k * NT + n) * 32 + lane) * 16);
	}
};

// Sums of one warp; a lane holds channels g and g + 8 of each step for heads 2t and 2t + 1.
template <int KT, int NT> struct sums {
	static constexpr int groups = (KT + 1) / 2;
	float out[NT][KT][4];
	float zero[NT][groups][2]; // what the zeros of 4-bit groups add to all their channels
	float top[NT][2], sum[NT][2];
	float gain;

	DEVICE void clear()
	{
#pragma unroll
		for (int n = 0; n < NT; n++) {
#pragma unroll
			for (int i = 0; i < KT * 4; i++)
				out[n][i / 4][i % 4] = 0;
#pragma unroll
			for (int i = 0; i < groups * 2; i++)
				zero[n][i / 2][i % 2] = 0;
			top[n][0] = top[n][1] = LOWEST;
			sum[n][0] = sum[n][1] = 0;
		}
		gain = GAIN_START;
	}
};

// Codes of K or V as operands of the matrix instruction, in steps of 16 channels. Values: FP16 and FP8 as they are,
// INT8 as they are, 4-bit codes plus 16, with remainder 15 · code + remainder + 256.
template <int F, int KT> struct reader {
	static constexpr bool four = F == IKV_FMT_INT4 || F == IKV_FMT_INT4_RESIDUAL;
	static constexpr int join = F == IKV_FMT_FP16 ? 1 : four ? (int)tile_join4(KT) : (int)tile_join8(KT);
	static constexpr int bytes = (F == IKV_FMT_FP16 ? 16 : four ? 4 : 8) * join; // a lane loads at once
	uint32_t codes[4], remainders[4];

	DEVICE static void load_words(uint32_t w[4], uint32_t at)
	{
		if constexpr (bytes == 16) {
			uint4 x = load16(at);
			w[0] = x.x, w[1] = x.y, w[2] = x.z, w[3] = x.w;
		} else if constexpr (bytes == 8) {
			uint2 x = load8(at);
			w[0] = x.x, w[1] = x.y;
		} else {
			w[0] = load4(at);
		}
	}

	DEVICE void load(uint32_t plane, uint32_t remainder_plane, int step, uint32_t lane)
	{
		if (step % join)
			return;
		uint32_t at = step / join * (bytes * 32) + lane * bytes;
		load_words(codes, plane + at);
		if constexpr (F == IKV_FMT_INT4_RESIDUAL)
			load_words(remainders, remainder_plane + at);
	}

	DEVICE static uint32_t nibbles(uint32_t word)
	{
		return (word & 0x03c003c0) | 0x4c004c00; // 16 + code
	}

	DEVICE static void four_bits(uint32_t word, uint32_t a[4])
	{
		a[0] = nibbles(word);
		a[1] = nibbles(word >> 4);
		a[2] = nibbles(word << 4);
		a[3] = nibbles(__funnelshift_r(word, word, 8));
	}

	DEVICE static uint32_t two_int8(uint32_t word, uint32_t select)
	{
		// 1024 + biased code, less 1024 and the bias
		return half2_bits(__hsub2(bits_half2(__byte_perm(word, 0x64646464, select)),
					  bits_half2(0x64806480)));
	}

	DEVICE static uint32_t two_fp8(uint32_t word, bool upper)
	{
#if HAS_BULK
		uint32_t y;
		asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(y) : "h"((uint16_t)(upper ? word >> 16 : word)));
		return y;
#else
		// In FP16's place the code is its value times 2^-8.
		uint32_t x = __byte_perm(word, 0, upper ? 0x3424 : 0x1404);
		x = (x & 0x80008000) | ((x >> 1) & 0x3f803f80);
		return half2_bits(__hmul2(bits_half2(x), bits_half2(0x5c005c00)));
#endif
	}

	DEVICE void operand(int step, uint32_t a[4]) const
	{
		if constexpr (F == IKV_FMT_FP16) {
#pragma unroll
			for (int i = 0; i < 4; i++)
				a[i] = codes[i];
		} else if constexpr (F == IKV_FMT_FP8) {
#pragma unroll
			for (int i = 0; i < 4; i++)
				a[i] = two_fp8(codes[step % join * 2 + i / 2], i % 2);
		} else if constexpr (F == IKV_FMT_INT8) {
#pragma unroll
			for (int i = 0; i < 4; i++)
				a[i] = two_int8(codes[step % join * 2 + i / 2], i % 2 ? 0x4342 : 0x4140);
		} else {
			four_bits(codes[step % join], a);
			if constexpr (F == IKV_FMT_INT4_RESIDUAL) {
				uint32_t r[4];
				four_bits(remainders[step % join], r);
#pragma unroll
				for (int i = 0; i < 4; i++)
					a[i] = half2_bits(__hfma2(bits_half2(a[i]), bits_half2(0x4b804b80), bits_half2(r[i])));
			}
		}
	}
};

// Scale and zero of the 4-bit groups of one token, so that value = scale · operand + zero.
template <int F, int KT> DEVICE void load_groups(uint32_t params, uint32_t token, float scale[], float zero[])
{
	constexpr int groups = (KT + 1) / 2;
	uint32_t at = params + token * (groups * 4), w[groups];
#pragma unroll
	for (int g = 0; g < groups;) {
		if constexpr (groups % 4 == 0) {
			uint4 x = load16(at + 4 * g);
			w[g] = x.x, w[g + 1] = x.y, w[g + 2] = x.z, w[g + 3] = x.w;
			g += 4;
		} else if constexpr (groups % 2 == 0) {
			uint2 x = load8(at + 4 * g);
			w[g] = x.x, w[g + 1] = x.y;
			g += 2;
		} else {
			w[g] = load4(at + 4 * g);
			g++;
		}
	}
#pragma unroll
	for (int g = 0; g < groups; g++) {
		float2 x = __half22float2(bits_half2(w[g]));
		scale[g] = F == IKV_FMT_INT4 ? x.x : x.x * (1.0f / 15);
		zero[g] = x.y - scale[g] * (F == IKV_FMT_INT4 ? 16.0f : 263.5f);
	}
}

// Scores of tokens g (0, 1) and g + 8 (2, 3) for this lane's two heads, in powers of two.
template <int F, int KT, int NT>
DEVICE void score(uint32_t tile, uint32_t lane, const query<KT, NT> &q, float s[NT][4])
{
	constexpr bool four = reader<F, KT>::four;
	constexpr int groups = (KT + 1) / 2;
	reader<F, KT> k;
	uint32_t g = lane / 4, remainders = tile + 256 * KT;
	if constexpr (four) {
		uint32_t params = tile + (F == IKV_FMT_INT4 ? 256 : 512) * KT;
		float scale[2][groups], zero[2][groups];
		load_groups<F, KT>(params, g, scale[0], zero[0]);
		load_groups<F, KT>(params, g + 8, scale[1], zero[1]);
#pragma unroll
		for (int n = 0; n < NT; n++)
			s[n][0] = s[n][1] = s[n][2] = s[n][3] = 0;
#pragma unroll
		for (int j = 0; j < groups; j++) {
			float c[NT][2][4] = {};
#pragma unroll
			for (int step = 2 * j; step < 2 * j + 2 && step < KT; step++) {
				uint32_t a[4];
				k.load(tile, remainders, step, lane);
				k.operand(step, a);
#pragma unroll
				for (int n = 0; n < NT; n++) {
					uint4 b = q.step(n, step, lane);
					matrix_add(c[n][0], a, b.x, b.y);
					matrix_add(c[n][1], a, b.z, b.w);
				}
			}
#pragma unroll
			for (int n = 0; n < NT; n++)
#pragma unroll
				for (int i = 0; i < 4; i++)
					s[n][i] += scale[i / 2][j] * (c[n][0][i] + c[n][1][i]) +
						   zero[i / 2][j] * q.sum[n][j][i % 2];
		}
#pragma unroll
		for (int n = 0; n < NT; n++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				s[n][i] *= q.factor[n][i % 2];
	} else {
		float c[NT][4][4] = {}; // four chains: parts of the query, even and odd steps
		float scale[2] = {1, 1};
		if constexpr (F != IKV_FMT_FP16) {
			scale[0] = load_half(tile + 512 * KT + 2 * g);
			scale[1] = load_half(tile + 512 * KT + 2 * g + 16);
		}
#pragma unroll
		for (int step = 0; step < KT; step++) {
			uint32_t a[4];
			k.load(tile, 0, step, lane);
			k.operand(step, a);
#pragma unroll
			for (int n = 0; n < NT; n++) {
				uint4 b = q.step(n, step, lane);
				matrix_add(c[n][step % 2 * 2], a, b.x, b.y);
				matrix_add(c[n][step % 2 * 2 + 1], a, b.z, b.w);
			}
		}
#pragma unroll
		for (int n = 0; n < NT; n++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				s[n][i] = ((c[n][0][i] + c[n][2][i]) + (c[n][1][i] + c[n][3][i])) *
					  (q.factor[n][i % 2] * scale[i / 2]);
	}
}

// Largest (or sum) over the lanes that share a pair of heads, in all of them.
DEVICE float over_tokens_max(float x)
{
	x = fmaxf(x, __shfl_xor_sync(~0u, x, 4));
	x = fmaxf(x, __shfl_xor_sync(~0u, x, 8));
	return fmaxf(x, __shfl_xor_sync(~0u, x, 16));
}

DEVICE float over_tokens_sum(float x)
{
	x += __shfl_xor_sync(~0u, x, 4);
	x += __shfl_xor_sync(~0u, x, 8);
	return x + __shfl_xor_sync(~0u, x, 16);
}

// Scores to weights 2^(score - top); unselected tokens get none.
template <int KT, int NT> DEVICE void weigh(uint32_t selected, uint32_t lane, sums<KT, NT> &a, float s[NT][4])
{
	uint32_t g = lane / 4;
	bool first = selected >> g & 1, second = selected >> (g + 8) & 1, rise = false;
#pragma unroll
	for (int n = 0; n < NT; n++) {
#pragma unroll
		for (int i = 0; i < 4; i++) {
			s[n][i] = (i < 2 ? first : second) ? fminf(s[n][i], 3e38f) : -INFINITY;
			rise |= s[n][i] > a.top[n][i % 2] + SLACK;
		}
	}
	if (__any_sync(~0u, rise)) {
#pragma unroll
		for (int n = 0; n < NT; n++) {
#pragma unroll
			for (int h = 0; h < 2; h++) {
				float top = fmaxf(a.top[n][h], over_tokens_max(fmaxf(s[n][h], s[n][h + 2])));
				float factor = exp2_fast(a.top[n][h] - top);
				a.top[n][h] = top;
				a.sum[n][h] *= factor;
#pragma unroll
				for (int m = 0; m < KT; m++) {
					a.out[n][m][h] *= factor;
					a.out[n][m][h + 2] *= factor;
				}
#pragma unroll
				for (int j = 0; j < (KT + 1) / 2; j++)
					a.zero[n][j][h] *= factor;
			}
		}
	}
#pragma unroll
	for (int n = 0; n < NT; n++) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			s[n][i] = exp2_fast(s[n][i] - a.top[n][i % 2]);
		a.sum[n][0] += s[n][0] + s[n][2];
		a.sum[n][1] += s[n][1] + s[n][3];
	}
}

// Weights as the right-hand operand, in two parts.
DEVICE void weights_operand(const float w[4], uint32_t high[2], uint32_t low[2])
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		__half2 x = __floats2half2_rn(w[2 * i], w[2 * i + 1]);
		float2 y = __half22float2(x);
		__half2 rest = __floats2half2_rn(w[2 * i] - y.x, w[2 * i + 1] - y.y);
		high[i] = transpose(half2_bits(x));
		low[i] = transpose(half2_bits(rest));
	}
}

// Lower the gain where a scale is so large that weights would leave FP16's range.
template <int KT, int NT> DEVICE void limit_gain(float largest, sums<KT, NT> &a)
{
	if (!__any_sync(~0u, largest * a.gain > GAIN_LIMIT))
		return;
	largest = over_tokens_max(largest);
	float gain = a.gain;
	while (largest * gain > GAIN_LIMIT)
		gain *= 0.5f;
	float factor = gain / a.gain;
	a.gain = gain;
#pragma unroll
	for (int i = 0; i < NT * KT * 4; i++)
		a.out[i / (KT * 4)][i / 4 % KT][i % 4] *= factor;
}

// out += V · weights.
template <int F, int KT, int NT> DEVICE void gather(uint32_t tile, uint32_t lane, const float p[NT][4], sums<KT, NT> &a)
{
	constexpr bool four = reader<F, KT>::four;
	constexpr int groups = (KT + 1) / 2;
	reader<F, KT> v;
	uint32_t g = lane / 4, high[NT][2], low[NT][2];
	uint32_t plane = tile + (F == IKV_FMT_FP16 ? 512 : four ? 128 : 256) * KT, remainders = tile + 384 * KT;
	float scale[2][groups], zero[2][groups];
	if constexpr (four) {
		uint32_t params = tile + (F == IKV_FMT_INT4 ? 256 : 512) * KT + 64 * groups;
		load_groups<F, KT>(params, g, scale[0], zero[0]);
		load_groups<F, KT>(params, g + 8, scale[1], zero[1]);
	} else if constexpr (F != IKV_FMT_FP16) {
		scale[0][0] = load_half(tile + 512 * KT + 32 + 2 * g);
		scale[1][0] = load_half(tile + 512 * KT + 32 + 2 * g + 16);
	}
	if constexpr (F != IKV_FMT_FP16) {
		float largest = fmaxf(scale[0][0], scale[1][0]);
#pragma unroll
		for (int j = 1; four && j < groups; j++)
			largest = fmaxf(largest, fmaxf(scale[0][j], scale[1][j]));
		limit_gain<KT, NT>(largest, a);
	}
#pragma unroll
	for (int m = 0; m < KT; m++) {
		uint32_t x[4];
		if (m == 0 || (four && m % 2 == 0)) {
#pragma unroll
			for (int n = 0; n < NT; n++) {
				float w[4];
#pragma unroll
				for (int i = 0; i < 4; i++) {
					float of = F == IKV_FMT_FP16 ? a.gain : scale[i / 2][four ? m / 2 : 0] * a.gain;
					w[i] = p[n][i] * of;
				}
				weights_operand(w, high[n], low[n]);
				if constexpr (four) {
#pragma unroll
					for (int h = 0; h < 2; h++)
						a.zero[n][m / 2][h] += p[n][h] * zero[0][m / 2] + p[n][h + 2] * zero[1][m / 2];
				}
			}
		}
		v.load(plane, remainders, m, lane);
		v.operand(m, x);
#pragma unroll
		for (int n = 0; n < NT; n++) {
			matrix_add(a.out[n][m], x, high[n][0], high[n][1]);
			matrix_add(a.out[n][m], x, low[n][0], low[n][1]);
		}
	}
}

// Attend to one tile; p receives the weights.
template <int F, int KT, int NT>
DEVICE void attend_tile(uint32_t tile, uint32_t selected, uint32_t lane, const query<KT, NT> &q, sums<KT, NT> &a,
			float p[NT][4])
{
	score<F, KT, NT>(tile, lane, q, p);
	weigh<KT, NT>(selected, lane, a, p);
	gather<F, KT, NT>(tile, lane, p, a);
}

#endif
