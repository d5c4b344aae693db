// Tiles of the formats whose numbers are no operands as they lie: KIVI, SPARSE, and BF16 beyond FP16's range.
//
// K of KIVI has a scale and a zero for each channel. Scales go into the query, which is split in two FP16 numbers anew for
// each tile; zeros are a matrix of equal rows. V has them by token and group, as INT4 has.
#ifndef GPU_ATTEND_MORE_CUH
#define GPU_ATTEND_MORE_CUH

#include "gpu/attend_query.cuh"

// SPARSE: the lane finds its values by counting the bits before them. K: rows are tokens; V: rows are channels.
template <int KT, bool VALUES> struct reader<IKV_FMT_SPARSE, KT, VALUES> {
	static constexpr int tokens = VALUES ? 4 : 2;
	uint32_t before[tokens]; // values of each of the lane's tokens in the steps before
	uint32_t a[4];

	DEVICE static constexpr float unit(int)
	{
		return 1;
	}

	// The value of a channel of 16, where its bit is set.
	DEVICE static uint32_t value(uint32_t values, uint32_t map, uint32_t channel)
	{
		uint32_t below = __popc(map & ((1u << channel) - 1));
		return map >> channel & 1 ? load_shared<uint16_t>(values + 2 * below) : 0;
	}

	DEVICE void load(uint32_t plane, uint32_t, int step, uint32_t lane)
	{
		uint32_t g = lane / 4, t = lane % 4;
#pragma unroll
		for (int i = 0; i < 4; i++)
			a[i] = 0;
#pragma unroll
		for (int i = 0; i < tokens; i++) {
			uint32_t token = VALUES ? 2 * t + i % 2 + i / 2 * 8 : g + 8 * i;
			before[i] = step ? before[i] : 0;
			uint32_t map = load_shared<uint16_t>(plane + (token * KT + step) * 2);
			uint32_t values = plane + 32 * KT + 2 * (token * (4 * KT) + before[i]);
			before[i] += __popc(map);
#pragma unroll
			for (int j = 0; j < (VALUES ? 2 : 4); j++) {
				if constexpr (VALUES)
					a[j + i / 2 * 2] |= value(values, map, g + 8 * j) << i % 2 * 16;
				else
					a[i + j / 2 * 2] |= value(values, map, 2 * t + j % 2 + j / 2 * 8) << j % 2 * 16;
			}
		}
	}

	DEVICE void operand(int, uint32_t to[4]) const
	{
#pragma unroll
		for (int i = 0; i < 4; i++)
			to[i] = a[i];
	}
};

// A query's operand of a step as numbers: channels 2t, 2t + 1, 2t + 8 and 2t + 9.
template <int KT, int H> DEVICE void query_values(const uint32_t b[query<KT, H>::words], float x[4])
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		float2 y = __half22float2(bits_half2(b[i])), z;
		if constexpr (H == 4) {
			z.x = __shfl_xor_sync(~0u, y.x, 16);
			z.y = __shfl_xor_sync(~0u, y.y, 16);
		} else {
			z = __half22float2(bits_half2(b[i + 2]));
		}
		x[2 * i] = y.x + z.x;
		x[2 * i + 1] = y.y + z.y;
	}
}

// Scores of a tile of KIVI.
template <int F, int KT, int H>
DEVICE void score_channels(uint32_t tile, uint32_t lane, const query<KT, H> &q, float s[query<KT, H>::NT][4],
			   float by[query<KT, H>::NT][4])
{
	constexpr int NT = query<KT, H>::NT;
	reader<F, KT> k;
	uint32_t params = tile + 2 * tile_kivi(F) * KT + 16, t = lane % 4;
	float c[NT][4] = {}, low[NT][4] = {}, zero[NT][4] = {}, zero_low[NT][4] = {};
	float down = load_shared<float>(params - 16), up = load_shared<float>(params - 12);
#pragma unroll
	for (int step = 0; step < KT; step++) {
		uint32_t a[4];
		k.load(tile, 0, step, lane);
		k.operand(step, a);
		uint2 scales = load8(params + 32 * step + 8 * t), zeros = load8(params + 32 * KT + 32 * step + 8 * t);
		const uint32_t rows[4] = {zeros.x, zeros.x, zeros.y, zeros.y};
		float2 first = __half22float2(bits_half2(scales.x)), second = __half22float2(bits_half2(scales.y));
		const float scale[4] = {first.x * down, first.y * down, second.x * down, second.y * down};
#pragma unroll
		for (int n = 0; n < NT; n++) {
			uint32_t b[query<KT, H>::words];
			float x[4];
			multiply<KT, H>(zero[n], zero_low[n], rows, q, n, step, lane);
			q.step(n, step, lane, b);
			query_values<KT, H>(b, x);
#pragma unroll
			for (int i = 0; i < 4; i++)
				x[i] *= scale[i];
			own_parts<H>(two_parts(x), lane, b);
			matrix_add(c[n], a, b[0], b[1]);
			if constexpr (H != 4)
				matrix_add(low[n], a, b[2], b[3]);
		}
	}
#pragma unroll
	for (int n = 0; n < NT; n++)
#pragma unroll
		for (int i = 0; i < 4; i++) {
			float of = up / reader<F, KT>::unit(i / 2);
			float x = H == 4 ? fmaf(c[n][i], of, zero[n][i])
					 : fmaf(c[n][i] + low[n][i], of, zero[n][i] + zero_low[n][i]);
			s[n][i] = both_parts<H>(x);
			by[n][i] = q.factor[n][i % 2];
		}
}

// BF16 numbers as the sum of two FP16 operands: those from 1 on, halved, and the others.
DEVICE void split_wide(const uint32_t words[4], uint32_t large[4], uint32_t small[4])
{
#pragma unroll
	for (int i = 0; i < 4; i++) {
		float x = __uint_as_float(words[i] << 16), y = __uint_as_float(words[i] & 0xffff0000);
		bool big_x = fabsf(x) >= 1, big_y = fabsf(y) >= 1;
		large[i] = half2_bits(__floats2half2_rn(big_x ? 0.5f * x : 0, big_y ? 0.5f * y : 0));
		small[i] = half2_bits(__floats2half2_rn(big_x ? 0 : x, big_y ? 0 : y));
	}
}

template <int KT, int H>
DEVICE void score_wide(uint32_t tile, uint32_t lane, const query<KT, H> &q, float s[query<KT, H>::NT][4],
		       float by[query<KT, H>::NT][4])
{
	constexpr int NT = query<KT, H>::NT;
	reader<IKV_FMT_FP16, KT> k;
	float c[NT][4][4] = {};
#pragma unroll
	for (int step = 0; step < KT; step++) {
		uint32_t large[4], small[4];
		k.load(tile, 0, step, lane);
		split_wide(k.codes, large, small);
#pragma unroll
		for (int n = 0; n < NT; n++) {
			multiply<KT, H>(c[n][0], c[n][1], large, q, n, step, lane);
			multiply<KT, H>(c[n][2], c[n][3], small, q, n, step, lane);
		}
	}
#pragma unroll
	for (int n = 0; n < NT; n++)
#pragma unroll
		for (int i = 0; i < 4; i++) {
			s[n][i] = both_parts<H>(fmaf(2, c[n][0][i] + c[n][1][i], c[n][2][i] + c[n][3][i]));
			by[n][i] = q.factor[n][i % 2];
		}
}

// Weights are at most 2^14: twice that is an FP16 number.
template <int KT, int H>
DEVICE void gather_wide(uint32_t tile, uint32_t lane, const float p[query<KT, H>::NT][4], sums<KT, H> &a)
{
	constexpr int NT = query<KT, H>::NT;
	reader<IKV_FMT_FP16, KT> v;
	uint32_t high[NT][2], low[NT][2];
#pragma unroll
	for (int n = 0; n < NT; n++) {
		weights_operand<H>(p[n], lane, high[n], low[n]);
	}
#pragma unroll
	for (int m = 0; m < KT; m++) {
		uint32_t large[4], small[4];
		v.load(tile + 512 * KT, 0, m, lane);
		split_wide(v.codes, large, small);
#pragma unroll
		for (int n = 0; n < NT; n++) {
#pragma unroll
			for (int i = 0; i < 2; i++) {
				matrix_add(a.out[n][m], i ? large : small, i ? times(high[n][0], 0x40004000) : high[n][0],
					   i ? times(high[n][1], 0x40004000) : high[n][1]);
				if constexpr (H != 4)
					matrix_add(a.out[n][m], i ? large : small,
						   i ? times(low[n][0], 0x40004000) : low[n][0],
						   i ? times(low[n][1], 0x40004000) : low[n][1]);
			}
		}
	}
}

// Attend to one tile; p receives the weights. MIXED: tiles before it may have been in another format.
template <int F, bool MIXED, int KT, int H>
DEVICE void attend_tile(uint32_t tile, uint32_t selected, uint32_t lane, const query<KT, H> &q, sums<KT, H> &a,
			float p[query<KT, H>::NT][4])
{
	constexpr bool four = F == IKV_FMT_INT4 || F == IKV_FMT_INT4_RESIDUAL, kivi = tile_kivi(F) != 0;
	constexpr bool wide = F == TILE_BF16_WIDE, scaled = four || kivi || F == IKV_FMT_FP8 || F == IKV_FMT_INT8;
	float by[query<KT, H>::NT][4];
	if constexpr (wide)
		score_wide<KT, H>(tile, lane, q, p, by);
	else if constexpr (kivi)
		score_channels<F, KT, H>(tile, lane, q, p, by);
	else if constexpr (four)
		score_groups<F, MIXED, KT, H>(tile, lane, q, p, by);
	else
		score<F, KT, H>(tile, lane, q, p, by);
	__half2 scales = bits_half2(0);
	if constexpr (scaled)
		scales = value_scales<F, KT>(tile, lane);
	weigh<scaled>(selected, lane, scales, a, p, by);
	if constexpr (MIXED)
		a.template change_unit<wide ? IKV_FMT_FP16 : F>();
	if constexpr (wide)
		gather_wide<KT, H>(tile, lane, p, a);
	else if constexpr (four || kivi)
		gather_groups<F, MIXED, KT, H>(tile, lane, p, a);
	else
		gather<F, MIXED, KT, H>(tile, lane, p, a);
}

#endif
