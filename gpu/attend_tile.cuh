// One tile of 16 tokens against the query heads of a block, by one warp.
//
// Scores are K · qᵀ with tokens as rows of the matrix instruction and heads as its 8 columns; the output is
// Vᵀ · p. FP16 operands alone would round queries to 11 bits, so they go in as a sum of two FP16 numbers, and so do the
// weights of FP16 pages: products are exact and sums in single precision. Codes are exact in FP16; scales are applied
// to scores in single precision and to weights in FP16, so a tile is never written out in floating point.
#ifndef GPU_ATTEND_TILE_CUH
#define GPU_ATTEND_TILE_CUH

#include "gpu/attend_ptx.cuh"
#include "gpu/gpu_tile.h"

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
	uint4 zeros[NT]; // {-16, 1} times the query's sum over groups t and t + 4: factors of {scale, zero}

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
	float out[NT][KT][4];
	float zero[NT][4]; // what 4-bit groups add to all their channels: group g, heads 2t and 2t + 1; the rest is unused
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
			for (int i = 0; i < 4; i++)
				zero[n][i] = 0;
			top[n][0] = top[n][1] = LOWEST;
			sum[n][0] = sum[n][1] = 0;
		}
		gain = GAIN_START;
	}
};

// Codes of K or V as operands of the matrix instruction, in steps of 16 channels: FP16, FP8 and INT8 as they are,
// 4-bit codes plus 16; with remainder 15 times that, (code + 16) · 15 + remainder - 7.5.
template <int F, int KT> struct reader {
	static constexpr bool four = F == IKV_FMT_INT4 || F == IKV_FMT_INT4_RESIDUAL;
	static constexpr int join = F == IKV_FMT_FP16 ? 1 : four ? (int)tile_join4(KT) : (int)tile_join8(KT);
	static constexpr int bytes = (F == IKV_FMT_FP16 ? 16 : four ? 4 : 8) * join; // a lane loads at once
	uint32_t codes[4], remainders[4];

	DEVICE static void fetch(uint32_t w[4], uint32_t at)
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
		fetch(codes, plane + at);
		if constexpr (F == IKV_FMT_INT4_RESIDUAL)
			fetch(remainders, remainder_plane + at);
	}

	DEVICE static void four_bits(uint32_t word, uint32_t a[4])
	{
		uint32_t sixteen = in_register<0x4c004c00>(); // 16 + code
		a[0] = and_or<0x03c003c0>(word, sixteen);
		a[1] = and_or<0x03c003c0>(word >> 4, sixteen);
		a[2] = and_or<0x03c003c0>(word << 4, sixteen);
		a[3] = and_or<0x03c003c0>(__funnelshift_r(word, word, 8), sixteen);
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
					a[i] = half2_bits(__hadd2(__hfma2(bits_half2(a[i]), bits_half2(0x4b804b80), bits_half2(r[i])),
								  bits_half2(0xcde0cde0))); // · 15, - 23.5
			}
		}
	}
};

// `count` words from `at`, as wide as it divides.
template <int count> DEVICE void load_words(uint32_t at, uint32_t w[count])
{
#pragma unroll
	for (int i = 0; i < count;) {
		if constexpr (count % 4 == 0) {
			uint4 x = load16(at + 4 * i);
			w[i] = x.x, w[i + 1] = x.y, w[i + 2] = x.z, w[i + 3] = x.w;
			i += 4;
		} else if constexpr (count % 2 == 0) {
			uint2 x = load8(at + 4 * i);
			w[i] = x.x, w[i + 1] = x.y;
			i += 2;
		} else {
			w[i] = load4(at + 4 * i);
			i++;
		}
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
		uint32_t params = tile + (F == IKV_FMT_INT4 ? 256 : 512) * KT, t = lane % 4, words[2][groups];
		uint32_t own[4] = {0, 0, 0, 0}; // {scale, zero} as an operand: rows tokens, columns groups
		load_words<groups>(params + g * (4 * groups), words[0]);
		load_words<groups>(params + (g + 8) * (4 * groups), words[1]);
		if (groups >= 4 || t < groups) {
			own[0] = load4(params + (g * groups + t) * 4);
			own[1] = load4(params + ((g + 8) * groups + t) * 4);
		}
		if (groups > 4 && t + 4 < groups) {
			own[2] = load4(params + (g * groups + t + 4) * 4);
			own[3] = load4(params + ((g + 8) * groups + t + 4) * 4);
		}
		float sum[NT][4] = {};
#pragma unroll
		for (int j = 0; j < groups; j++) {
			float c[NT][4] = {};
#pragma unroll
			for (int step = 2 * j; step < 2 * j + 2 && step < KT; step++) {
				uint32_t a[4];
				k.load(tile, remainders, step, lane);
				k.operand(step, a);
#pragma unroll
				for (int n = 0; n < NT; n++) {
					uint4 b = q.step(n, step, lane);
					matrix_add(c[n], a, b.x, b.y);
					matrix_add(c[n], a, b.z, b.w);
				}
			}
			float scale[2] = {__low2float(bits_half2(words[0][j])), __low2float(bits_half2(words[1][j]))};
#pragma unroll
			for (int n = 0; n < NT; n++)
#pragma unroll
				for (int i = 0; i < 4; i++)
					sum[n][i] += scale[i / 2] * c[n][i];
		}
#pragma unroll
		for (int n = 0; n < NT; n++) {
			float c[4] = {};
			matrix_add(c, own, q.zeros[n].x, q.zeros[n].y);
			matrix_add(c, own, q.zeros[n].z, q.zeros[n].w);
#pragma unroll
			for (int i = 0; i < 4; i++)
				s[n][i] = (F == IKV_FMT_INT4 ? sum[n][i] + c[i] : sum[n][i] * (1.0f / 15) + c[i]) *
					  q.factor[n][i % 2];
		}
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
				a.zero[n][h] *= factor;
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

// Weights as the right-hand operand: tokens 2t, 2t + 1 and 2t + 8, 2t + 9 of head g. `low`: what rounding lost.
DEVICE void weights_operand(const float w[4], uint32_t high[2])
{
#pragma unroll
	for (int i = 0; i < 2; i++)
		high[i] = transpose(half2_bits(__floats2half2_rn(w[2 * i], w[2 * i + 1])));
}

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

DEVICE uint32_t times(uint32_t a, uint32_t b)
{
	return half2_bits(__hmul2(bits_half2(a), bits_half2(b)));
}

// Lower the gain where a scale is so large that weights would leave FP16's range. Lanes with the same t have the
// same scales.
template <int KT, int NT> DEVICE void limit_gain(__half2 scales, sums<KT, NT> &a)
{
	float2 pair = __half22float2(scales);
	float largest = fmaxf(pair.x, pair.y);
	if (!__any_sync(~0u, largest * a.gain > GAIN_LIMIT))
		return;
	largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
	largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
	float gain = a.gain;
	while (largest * gain > GAIN_LIMIT)
		gain *= 0.5f;
	float factor = gain / a.gain;
	a.gain = gain;
#pragma unroll
	for (int n = 0; n < NT; n++) {
#pragma unroll
		for (int i = 0; i < KT * 4; i++)
			a.out[n][i / 4][i % 4] *= factor;
		a.zero[n][0] *= factor;
		a.zero[n][1] *= factor;
	}
}

// out += V · weights, for formats without groups.
template <int F, int KT, int NT> DEVICE void gather(uint32_t tile, uint32_t lane, const float p[NT][4], sums<KT, NT> &a)
{
	reader<F, KT> v;
	uint32_t high[NT][2], low[NT][2], plane = tile + (F == IKV_FMT_FP16 ? 512 : 256) * KT;
	uint2 scale = {0, 0};
	if constexpr (F != IKV_FMT_FP16) {
		scale = load8(tile + 512 * KT + 32 + lane % 4 * 8);
		limit_gain<KT, NT>(__hmax2(bits_half2(scale.x), bits_half2(scale.y)), a);
	}
#pragma unroll
	for (int n = 0; n < NT; n++) {
		float w[4];
#pragma unroll
		for (int i = 0; i < 4; i++)
			w[i] = p[n][i] * a.gain;
		if constexpr (F == IKV_FMT_FP16) {
			weights_operand(w, high[n], low[n]);
		} else {
			weights_operand(w, high[n]);
			high[n][0] = times(high[n][0], scale.x);
			high[n][1] = times(high[n][1], scale.y);
		}
	}
#pragma unroll
	for (int m = 0; m < KT; m++) {
		uint32_t x[4];
		v.load(plane, 0, m, lane);
		v.operand(m, x);
#pragma unroll
		for (int n = 0; n < NT; n++) {
			matrix_add(a.out[n][m], x, high[n][0], high[n][1]);
			if constexpr (F == IKV_FMT_FP16)
				matrix_add(a.out[n][m], x, low[n][0], low[n][1]);
		}
	}
}

// The same for 4-bit groups. Zeros, and the 16 that operands have too much, are summed by group.
template <int F, int KT, int NT>
DEVICE void gather_groups(uint32_t tile, uint32_t lane, const float p[NT][4], sums<KT, NT> &a)
{
	constexpr int groups = (KT + 1) / 2;
	reader<F, KT> v;
	uint32_t g = lane / 4, t = lane % 4, plane = tile + 128 * KT, remainders = tile + 384 * KT;
	uint32_t params = tile + (F == IKV_FMT_INT4 ? 256 : 512) * KT + 64 * groups;
	uint32_t scale[2 * groups], weights[NT][2], zeros[4] = {0, 0, 0, 0};
	load_words<2 * groups>(params + t * (8 * groups), scale);
	__half2 largest = __hmax2(bits_half2(scale[0]), bits_half2(scale[1]));
#pragma unroll
	for (int i = 2; i < 2 * groups; i++)
		largest = __hmax2(largest, bits_half2(scale[i]));
	limit_gain<KT, NT>(largest, a);
	if (groups == 8 || g < groups) {
		uint2 z = load8(params + 32 * groups + g * 32 + t * 8);
		zeros[0] = z.x;
		zeros[2] = z.y;
	}
#pragma unroll
	for (int n = 0; n < NT; n++) {
		float w[4];
#pragma unroll
		for (int i = 0; i < 4; i++)
			w[i] = p[n][i] * a.gain;
		weights_operand(w, weights[n]);
		matrix_add(a.zero[n], zeros, weights[n][0], weights[n][1]);
		if constexpr (F == IKV_FMT_INT4_RESIDUAL) {
#pragma unroll
			for (int i = 0; i < 4; i++)
				w[i] *= 1.0f / 15;
			weights_operand(w, weights[n]);
		}
	}
#pragma unroll
	for (int j = 0; j < groups; j++) {
		uint32_t of[NT][2], excess = g == j ? (F == IKV_FMT_INT4 ? 0xcc00cc00 : 0xdb80db80) : 0; // -16, -240
		uint32_t row[4] = {excess, 0, excess, 0};
#pragma unroll
		for (int n = 0; n < NT; n++) {
			of[n][0] = times(weights[n][0], scale[2 * j]);
			of[n][1] = times(weights[n][1], scale[2 * j + 1]);
			matrix_add(a.zero[n], row, of[n][0], of[n][1]);
		}
#pragma unroll
		for (int m = 2 * j; m < 2 * j + 2 && m < KT; m++) {
			uint32_t x[4];
			v.load(plane, remainders, m, lane);
			v.operand(m, x);
#pragma unroll
			for (int n = 0; n < NT; n++)
				matrix_add(a.out[n][m], x, of[n][0], of[n][1]);
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
	if constexpr (reader<F, KT>::four)
		gather_groups<F, KT, NT>(tile, lane, p, a);
	else
		gather<F, KT, NT>(tile, lane, p, a);
}

#endif
