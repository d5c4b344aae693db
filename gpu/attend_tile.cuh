// One tile of 16 tokens against the query heads of a block, by one warp.
//
// Scores are K · qᵀ with tokens as rows of the matrix instruction and heads as its 8 columns; the output is
// Vᵀ · p. FP16 operands alone would round queries to 11 bits, so they go in as a sum of two FP16 numbers, and so do the
// weights of FP16 pages: products are exact and sums in single precision. With up to four heads the second numbers
// have the columns 4 to 7 of the same instruction; with more they have an instruction of their own. Codes are exact in
// FP16; scales are applied to scores in single precision and to weights in FP16, so a tile is never written out in
// floating point.
#ifndef GPU_ATTEND_TILE_CUH
#define GPU_ATTEND_TILE_CUH

#include "gpu/attend.h"
#include "gpu/attend_code.cuh"

// Bits of a tile's note: bit 4 + t is set where token t is selected.
#define SELECTED_ALL 0xffff0u
// Weights are relative to a reference that moves when one exceeds 2^room. The largest score then weighs 2^(room - SLACK): as far
// from FP16's subnormal numbers as its largest allows.
#define ROOM        14.0f
#define SLACK       6.0f
#define SCALE_LIMIT 1023.0f // of a scale times 2^(room - SLACK): 2^SLACK · 1023 < 65504
#define SCALE_SUITS 0x43f9u // the largest FP16 number for ROOM, less a little
#define LOWEST      (-1e38f)

// H: heads of a block, 4, 8 or 16.
template <int KT, int H> struct query {
	static constexpr int NT = H == 16 ? 2 : 1;
	static constexpr bool paired = H == 4;
	static constexpr int words = paired ? 2 : 4; // of an operand: {high, high, low, low} parts, or this column's part
	static constexpr bool in_registers = KT * NT * words <= 32;
	static constexpr uint32_t scales = (KT + 1) * NT * words * 128; // in shared memory: {factor, biased} of the heads
	static constexpr uint32_t bytes = scales + H * 8;
	uint32_t frag[in_registers ? NT : 1][in_registers ? KT : 1][words];
	uint32_t shared;        // where they are otherwise, and first of all
	float factor[NT][2];    // of a score, for this lane's two heads
	float biased[NT][2];    // -128 times the sum of the query's part: what INT8 codes' bias adds
	uint32_t zeros[NT][4];  // {-1/2, 1} times the query's sum over groups t and t + 4: factors of {scale, zero}

	// Where in shared memory a lane's words of a step are; one more step has `zeros`.
	DEVICE static constexpr uint32_t at(uint32_t n, uint32_t k, uint32_t lane)
	{
		return ((k * NT + n) * 32 + lane) * words * 4;
	}

	DEVICE void load(int n, int k, uint32_t lane, uint32_t *b) const
	{
		load_words<words>(shared + at(n, k, lane), b);
	}

	DEVICE void step(int n, int k, uint32_t lane, uint32_t b[words]) const
	{
		if constexpr (in_registers) {
#pragma unroll
			for (int i = 0; i < words; i++)
				b[i] = frag[n][k][i];
		} else {
			load(n, k, lane, b);
		}
	}
};

// Sums of one warp; a lane holds channels g and g + 8 of each step for heads 2t and 2t + 1. Codes enter as what their
// bits are as FP16, so sums are in a unit that depends on the format, one for channels g and one for g + 8; tiles of
// another format change it, which is exact.
template <int KT, int H> struct sums {
	static constexpr int NT = query<KT, H>::NT;
	float out[NT][KT][4];
	float zero[NT][4]; // what is added to all channels of group g, heads 2t and 2t + 1, in the unit 1; the rest is unused
	float top[NT][2], sum[NT][2];
	float room, unit[2];

	// F: the format of all tiles, if they have one.
	template <int F> DEVICE void clear()
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
		room = ROOM;
		constexpr bool one_format = F != 0 && F != ATTEND_ANY;
		unit[0] = reader<one_format ? F : IKV_FMT_FP16, KT>::unit(0);
		unit[1] = reader<one_format ? F : IKV_FMT_FP16, KT>::unit(1);
	}

	template <int F> DEVICE void change_unit()
	{
		if (unit[0] == reader<F, KT>::unit(0) && unit[1] == reader<F, KT>::unit(1))
			return;
#pragma unroll
		for (int half = 0; half < 2; half++) {
			float factor = reader<F, KT>::unit(half) / unit[half];
			unit[half] = reader<F, KT>::unit(half);
#pragma unroll
			for (int n = 0; n < NT; n++)
#pragma unroll
				for (int m = 0; m < KT; m++) {
					out[n][m][2 * half] *= factor;
					out[n][m][2 * half + 1] *= factor;
				}
		}
	}
};

// Products of one step with the query's parts: into two chains, or one where the parts have columns of their own.
template <int KT, int H>
DEVICE void multiply(float high[4], float low[4], const uint32_t a[4], const query<KT, H> &q, int n, int step,
		     uint32_t lane)
{
	uint32_t b[query<KT, H>::words];
	q.step(n, step, lane, b);
	matrix_add(high, a, b[0], b[1]);
	if constexpr (!query<KT, H>::paired)
		matrix_add(low, a, b[2], b[3]);
}

// Where heads have two columns, their sum.
template <int H> DEVICE float both_parts(float x)
{
	return H == 4 ? x + __shfl_xor_sync(~0u, x, 2) : x;
}

// Scores of tokens g (0, 1) and g + 8 (2, 3) for this lane's two heads; times `by` they are in powers of two. Formats
// without groups.
template <int F, int KT, int H>
DEVICE void score(uint32_t tile, uint32_t lane, const query<KT, H> &q, float s[query<KT, H>::NT][4], float by[query<KT, H>::NT][4])
{
	constexpr int NT = query<KT, H>::NT;
	reader<F, KT> k;
	constexpr bool scaled = F == IKV_FMT_FP8 || F == IKV_FMT_INT8;
	float c[NT][4][4] = {}; // four chains: parts of the query, even and odd steps
	float scale[2] = {1, 1};
	if constexpr (scaled) {
		scale[0] = load_half(tile + 512 * KT + 2 * (lane / 4));
		scale[1] = load_half(tile + 512 * KT + 2 * (lane / 4) + 16);
	}
#pragma unroll
	for (int step = 0; step < KT; step++) {
		uint32_t a[4];
		k.load(tile, 0, step, lane);
		k.operand(step, a);
#pragma unroll
		for (int n = 0; n < NT; n++)
			multiply<KT, H>(c[n][step % 2 * 2], c[n][step % 2 * 2 + 1], a, q, n, step, lane);
	}
#pragma unroll
	for (int n = 0; n < NT; n++) {
#pragma unroll
		for (int i = 0; i < 4; i++) {
			float x = c[n][0][i] + c[n][2][i];
			if constexpr (H != 4)
				x += c[n][1][i] + c[n][3][i];
			if constexpr (F == IKV_FMT_INT8)
				x = fmaf(x, 1 / reader<F, KT>::unit(0), q.biased[n][i % 2]);
			s[n][i] = both_parts<H>(x);
			by[n][i] = q.factor[n][i % 2] * scale[i / 2];
		}
	}
}

// The same for 4-bit groups.
template <int F, bool MIXED, int KT, int H>
DEVICE void score_groups(uint32_t tile, uint32_t lane, const query<KT, H> &q, float s[query<KT, H>::NT][4],
			 float by[query<KT, H>::NT][4])
{
	constexpr int groups = (KT + 1) / 2, NT = query<KT, H>::NT;
	constexpr bool residual = F == IKV_FMT_INT4_RESIDUAL;
	reader<F, KT> k;
	uint32_t g = lane / 4, t = lane % 4, remainders = tile + 256 * KT, words[2][groups];
	uint32_t params = tile + (residual ? 512 : 256) * KT;
	uint32_t own[4] = {0, 0, 0, 0}; // {scale, zero} as an operand: rows tokens, columns groups
	uint32_t row = params + keep(lane & ~3u) * groups; // of g; `keep`: the address costs two instructions, not a register
	load_words<groups>(row, words[0]);
	load_words<groups>(row + 32 * groups, words[1]);
	if (groups >= 4 || t < groups) {
		uint32_t at = params + (groups == 4 ? lane : g * groups + t) * 4;
		own[0] = load4(at);
		own[1] = load4(at + 32 * groups);
	}
	if (groups > 4 && t + 4 < groups) {
		own[2] = load4(params + (g * groups + t + 4) * 4);
		own[3] = load4(params + ((g + 8) * groups + t + 4) * 4);
	}
	if constexpr (MIXED && !residual) { // else the query has none for the scales
#pragma unroll
		for (int i = 0; i < 4; i++)
			own[i] &= 0xffff0000; // the zeros alone
	}
	float sum[NT][4] = {};
#pragma unroll
	for (int j = 0; j < groups; j++) {
		float c[NT][4] = {}, low[NT][4] = {}, r[NT][4] = {}, r_low[NT][4] = {};
#pragma unroll
		for (int step = 2 * j; step < 2 * j + 2 && step < KT; step++) {
			uint32_t a[4], b[4];
			k.load(tile, remainders, step, lane);
			k.operand(step, a);
			if constexpr (residual)
				k.remainder(step, b);
#pragma unroll
			for (int n = 0; n < NT; n++) {
				multiply<KT, H>(c[n], low[n], a, q, n, step, lane);
				if constexpr (residual)
					multiply<KT, H>(r[n], r_low[n], b, q, n, step, lane);
			}
		}
		float scale[2] = {__low2float(bits_half2(words[0][j])), __low2float(bits_half2(words[1][j]))};
#pragma unroll
		for (int n = 0; n < NT; n++)
#pragma unroll
			for (int i = 0; i < 4; i++) {
				float x = H == 4 ? c[n][i] : c[n][i] + low[n][i];
				if constexpr (residual)
					x = fmaf(H == 4 ? r[n][i] : r[n][i] + r_low[n][i], 1.0f / 15, x);
				sum[n][i] = fmaf(scale[i / 2], x, sum[n][i]);
			}
	}
#pragma unroll
	for (int n = 0; n < NT; n++) {
		float c[4] = {};
		matrix_add(c, own, q.zeros[n][0], q.zeros[n][1]);
		if constexpr (H != 4)
			matrix_add(c, own, q.zeros[n][2], q.zeros[n][3]);
#pragma unroll
		for (int i = 0; i < 4; i++) {
			s[n][i] = both_parts<H>(fmaf(sum[n][i], 1 / reader<F, KT>::unit(i / 2), c[i]));
			by[n][i] = q.factor[n][i % 2];
		}
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

// What was summed of one of the lane's two heads, times a factor.
template <int KT, int H> DEVICE void scale_sums(sums<KT, H> &a, int n, int h, float factor)
{
	a.sum[n][h] *= factor;
#pragma unroll
	for (int m = 0; m < KT; m++) {
		a.out[n][m][h] *= factor;
		a.out[n][m][h + 2] *= factor;
	}
	a.zero[n][h] *= factor;
}

// A score has left the reference behind: move it.
template <int KT, int H> DEVICE void raise_top(sums<KT, H> &a, float s[query<KT, H>::NT][4])
{
#pragma unroll
	for (int n = 0; n < query<KT, H>::NT; n++) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			s[n][i] = fminf(s[n][i], 3e38f);
#pragma unroll
		for (int h = 0; h < 2; h++) {
			float top = fmaxf(a.top[n][h], over_tokens_max(fmaxf(s[n][h], s[n][h + 2])) - (a.room - SLACK));
			float factor = exp2_fast(a.top[n][h] - top);
			a.top[n][h] = top;
			scale_sums(a, n, h, factor);
		}
	}
}

// May a scale be so large that weights times it leave FP16's range? `scales`: none is negative.
DEVICE bool large_scales(__half2 scales)
{
	const uint32_t up = 0x7fff - SCALE_SUITS; // sets the highest bit
	return ((half2_bits(scales) + (up | up << 16)) & 0x80008000u) != 0;
}

// Raise the reference where weights times a scale would leave FP16's range. `scales`: among the lanes, all that the tile has.
template <int KT, int H> DEVICE void limit_weights(__half2 scales, sums<KT, H> &a, float d[query<KT, H>::NT][4])
{
	float2 pair = __half22float2(scales);
	float largest = fmaxf(pair.x, pair.y), factor = 1, down = 0;
#pragma unroll
	for (int i = 1; i < 32; i *= 2)
		largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, i));
	largest *= exp2_fast(a.room - SLACK);
	for (; largest * factor > SCALE_LIMIT; down++)
		factor *= 0.5f;
	a.room -= down;
#pragma unroll
	for (int n = 0; n < query<KT, H>::NT; n++) {
#pragma unroll
		for (int h = 0; h < 2; h++) {
			a.top[n][h] += down;
			scale_sums(a, n, h, factor);
		}
#pragma unroll
		for (int i = 0; i < 4; i++)
			d[n][i] -= down;
	}
}

// What is seldom: tokens that are not selected, scores that leave the reference behind, large scales.
template <bool SCALED, int KT, int H>
DEVICE void weigh_rarely(uint32_t selected, uint32_t lane, __half2 scales, sums<KT, H> &a, float s[query<KT, H>::NT][4],
			 const float by[query<KT, H>::NT][4], float d[query<KT, H>::NT][4])
{
	constexpr int NT = query<KT, H>::NT;
	uint32_t g = lane / 4;
	bool first = selected >> (4 + g) & 1, second = selected >> (12 + g) & 1, above = false;
#pragma unroll
	for (int n = 0; n < NT; n++)
#pragma unroll
		for (int i = 0; i < 4; i++) {
			d[n][i] = (i < 2 ? first : second) ? d[n][i] : -INFINITY;
			above |= d[n][i] > a.room;
		}
	if (__any_sync(~0u, above)) {
#pragma unroll
		for (int n = 0; n < NT; n++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				s[n][i] = d[n][i] == -INFINITY ? d[n][i] : s[n][i] * by[n][i];
		raise_top<KT, H>(a, s);
#pragma unroll
		for (int n = 0; n < NT; n++)
#pragma unroll
			for (int i = 0; i < 4; i++)
				d[n][i] = s[n][i] - a.top[n][i % 2];
	}
	if (SCALED && __any_sync(~0u, a.room != ROOM || large_scales(scales)))
		limit_weights<KT, H>(scales, a, d);
}

// Scores s times `by` to weights 2^(score - top), in s; unselected tokens get none. `scales`: as in limit_weights.
template <bool SCALED, int KT, int H>
DEVICE void weigh(uint32_t selected, uint32_t lane, __half2 scales, sums<KT, H> &a, float s[query<KT, H>::NT][4],
		  const float by[query<KT, H>::NT][4])
{
	constexpr int NT = query<KT, H>::NT;
	float d[NT][4];
	bool rare = selected != SELECTED_ALL;
	if (SCALED)
		rare = rare | (a.room != ROOM) | large_scales(scales);
#pragma unroll
	for (int n = 0; n < NT; n++)
#pragma unroll
		for (int i = 0; i < 4; i++) {
			d[n][i] = fmaf(s[n][i], by[n][i], -a.top[n][i % 2]);
			rare |= d[n][i] > a.room;
		}
	if (__any_sync(~0u, rare))
		weigh_rarely<SCALED, KT, H>(selected, lane, scales, a, s, by, d);
#pragma unroll
	for (int n = 0; n < NT; n++) {
#pragma unroll
		for (int i = 0; i < 4; i++)
			s[n][i] = exp2_fast(d[n][i]);
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

template <int H> DEVICE void weights_operand(const float w[4], uint32_t lane, uint32_t high[2], uint32_t low[2])
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		__half2 x = __floats2half2_rn(w[2 * i], w[2 * i + 1]);
		float2 y = __half22float2(x);
		__half2 rest = __floats2half2_rn(w[2 * i] - y.x, w[2 * i + 1] - y.y);
		if constexpr (H == 4) {
			high[i] = transpose(lane & 2 ? half2_bits(rest) : half2_bits(x));
		} else {
			high[i] = transpose(half2_bits(x));
			low[i] = transpose(half2_bits(rest));
		}
	}
}

DEVICE uint32_t times(uint32_t a, uint32_t b)
{
	return half2_bits(__hmul2(bits_half2(a), bits_half2(b)));
}

// ONCE: heads that have two columns get no weight in the second.
template <bool ONCE> DEVICE void take_weights(const float p[4], uint32_t lane, float w[4])
{
#pragma unroll
	for (int i = 0; i < 4; i++)
		w[i] = ONCE && lane & 2 ? 0 : p[i];
}

// Of scaled formats heads that have two columns have the same in both if all tiles are in one format, else one is zero.
template <bool MIXED, int H> constexpr bool once = MIXED && H == 4;

// The scales of V that a lane has, the larger ones of pairs of tokens; the lanes together have all.
template <int F, int KT> DEVICE __half2 value_scales(uint32_t tile, uint32_t lane)
{
	constexpr int groups = (KT + 1) / 2;
	uint32_t params = tile + (int)tile_bytes(F, KT) - 64 * groups, own[2] = {0, 0};
	if constexpr (F == IKV_FMT_FP8 || F == IKV_FMT_INT8) {
		uint2 scale = load8(tile + 512 * KT + 32 + lane % 4 * 8);
		return __hmax2(bits_half2(scale.x), bits_half2(scale.y));
	}
	if (8 * groups >= 32 || lane < 8 * groups)
		own[0] = load4(params + 4 * lane);
	if (8 * groups > 32)
		own[1] = load4(params + 4 * lane + 128);
	return 8 * groups > 32 ? __hmax2(bits_half2(own[0]), bits_half2(own[1])) : bits_half2(own[0]);
}

// out += V · weights, for formats without groups.
template <int F, bool MIXED, int KT, int H>
DEVICE void gather(uint32_t tile, uint32_t lane, const float p[query<KT, H>::NT][4], sums<KT, H> &a)
{
	constexpr int NT = query<KT, H>::NT;
	reader<F, KT, true> v;
	constexpr bool scaled = F == IKV_FMT_FP8 || F == IKV_FMT_INT8;
	uint32_t high[NT][2], low[NT][2], plane = tile + (int)tile_bytes(F, KT) / 2;
	uint2 scale = {0, 0};
	if constexpr (scaled) {
		plane = tile + 256 * KT;
		scale = load8(tile + 512 * KT + 32 + lane % 4 * 8);
	}
#pragma unroll
	for (int n = 0; n < NT; n++) {
		float w[4];
		if constexpr (!scaled) {
			weights_operand<H>(p[n], lane, high[n], low[n]);
		} else {
			take_weights<once<MIXED, H>>(p[n], lane, w);
			weights_operand(w, high[n]);
			high[n][0] = times(high[n][0], scale.x);
			high[n][1] = times(high[n][1], scale.y);
		}
		if constexpr (F == IKV_FMT_INT8) {
			const uint32_t bias[4] = {0xd800d800, 0xd800d800, 0xd800d800, 0xd800d800}; // -128
			matrix_add(a.zero[n], bias, high[n][0], high[n][1]);
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
			if constexpr (!scaled && H != 4)
				matrix_add(a.out[n][m], x, low[n][0], low[n][1]);
		}
	}
}

// The same for codes in groups of 32 channels. Zeros, and the 7.5 that remainders have too much, are summed by group.
template <int F, bool MIXED, int KT, int H>
DEVICE void gather_groups(uint32_t tile, uint32_t lane, const float p[query<KT, H>::NT][4], sums<KT, H> &a)
{
	constexpr int groups = (KT + 1) / 2, NT = query<KT, H>::NT;
	constexpr bool residual = F == IKV_FMT_INT4_RESIDUAL;
	reader<F, KT> v;
	constexpr int bytes = F == IKV_FMT_INT4 || residual ? 128 : (int)tile_kivi(F); // of the codes of a step
	uint32_t g = lane / 4, t = lane % 4, plane = tile + bytes * KT, remainders = tile + 384 * KT;
	uint32_t params = tile + (int)tile_bytes(F, KT) - 64 * groups;
	uint32_t scale[2 * groups], weights[NT][2], zeros[4];
	load_words<2 * groups>(params + keep(t) * (8 * groups), scale);
	uint2 z = load8(params + 32 * groups + (groups == 4 ? keep(lane % 16) : groups == 8 || g < groups ? lane : t) * 8);
	zeros[0] = z.x; // rows beyond the groups are not used
	zeros[2] = z.y;
	zeros[1] = any_bits();
	zeros[3] = any_bits();
#pragma unroll
	for (int n = 0; n < NT; n++) {
		float w[4];
		take_weights<once<MIXED, H>>(p[n], lane, w);
		weights_operand(w, weights[n]);
		matrix_add(a.zero[n], zeros, weights[n][0], weights[n][1]);
	}
#pragma unroll
	for (int j = 0; j < groups; j++) {
		uint32_t of[NT][2], less[NT][2];
#pragma unroll
		for (int n = 0; n < NT; n++) {
			of[n][0] = times(weights[n][0], scale[2 * j]);
			of[n][1] = times(weights[n][1], scale[2 * j + 1]);
			if constexpr (residual) {
				uint32_t excess = g == j ? 0xb800b800 : 0, row[4] = {excess, 0, excess, 0}; // -1/2
				matrix_add(a.zero[n], row, of[n][0], of[n][1]);
				less[n][0] = times(of[n][0], 0x2c442c44); // 1/15
				less[n][1] = times(of[n][1], 0x2c442c44);
			}
		}
#pragma unroll
		for (int m = 2 * j; m < 2 * j + 2 && m < KT; m++) {
			uint32_t x[4];
			v.load(plane, remainders, m, lane);
			v.operand(m, x);
#pragma unroll
			for (int n = 0; n < NT; n++)
				matrix_add(a.out[n][m], x, of[n][0], of[n][1]);
			if constexpr (residual) {
				v.remainder(m, x);
#pragma unroll
				for (int n = 0; n < NT; n++)
					matrix_add(a.out[n][m], x, less[n][0], less[n][1]);
			}
		}
	}
}

#endif
