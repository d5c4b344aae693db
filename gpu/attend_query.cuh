// The queries of a job as operands of the matrix instruction.
#ifndef GPU_ATTEND_QUERY_CUH
#define GPU_ATTEND_QUERY_CUH

#include "gpu/attend.h"
#include "gpu/attend_tile.cuh"

#define LOG2E 1.4426950408889634f
#define LN2   0.6931471805599453f

DEVICE uint4 two_parts(const float x[4])
{
	__half2 high[2], low[2];
#pragma unroll
	for (int i = 0; i < 2; i++) {
		high[i] = __floats2half2_rn(x[2 * i], x[2 * i + 1]);
		float2 y = __half22float2(high[i]);
		low[i] = __floats2half2_rn(x[2 * i] - y.x, x[2 * i + 1] - y.y);
	}
	return {half2_bits(high[0]), half2_bits(high[1]), half2_bits(low[0]), half2_bits(low[1])};
}

// The words that this lane's column takes of the two parts.
template <int H> DEVICE void own_parts(const uint4 &f, uint32_t lane, uint32_t *to)
{
	if constexpr (H == 4) {
		bool low = lane >= 16;
		to[0] = low ? f.z : f.x;
		to[1] = low ? f.w : f.y;
	} else {
		to[0] = f.x, to[1] = f.y, to[2] = f.z, to[3] = f.w;
	}
}

// A head's parts of four channels (or of two groups' sums) to its columns of an operand.
template <int KT, int H> DEVICE void put_parts(uint32_t to, uint32_t step, uint32_t head, uint32_t t, const uint4 &f)
{
	using q = query<KT, H>;
	uint32_t at = to + q::at(head / 8, step, head % 8 * 4 + t);
	store8(at, f.x, f.y);
	store8(at + (q::paired ? q::at(0, 0, 16) : 8), f.z, f.w);
}

// A head's query as operands in shared memory, by a warp: scaled by a power of two to fill FP16's range. A head that the job
// has not is zero.
template <int F, int KT, int H>
DEVICE void put_query(uint32_t to, const float *row, bool there, uint32_t d_qk, float scale, uint32_t head, uint32_t lane)
{
	constexpr uint32_t units = (4 * KT + 31) / 32; // of four channels, that a lane takes
	constexpr bool any = F == 0 || F == ATTEND_ANY;
	constexpr bool groups = any || F == IKV_FMT_INT4 || F == IKV_FMT_INT4_RESIDUAL;
	float x[units][4], most = 0, sum[2] = {0, 0}, all = 0;
#pragma unroll
	for (uint32_t u = 0; u < units; u++)
#pragma unroll
		for (uint32_t i = 0; i < 4; i++) {
			uint32_t c = (lane + 32 * u) / 4 * 16 + lane % 4 * 2 + i / 2 * 8 + i % 2;
			x[u][i] = there && c < d_qk ? row[c] : 0;
			most = fmaxf(most, fabsf(x[u][i]));
		}
	most = __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(most)));
	int exponent = most > 0 ? (int)(__float_as_uint(most) >> 23) - 127 : 0;
	exponent = max(-120, min(120, exponent));
	float down = __uint_as_float((127 - exponent) << 23), up = __uint_as_float((127 + exponent) << 23);
#pragma unroll
	for (uint32_t u = 0; u < units; u++) {
#pragma unroll
		for (uint32_t i = 0; i < 4; i++)
			x[u][i] *= down;
		if (lane + 32 * u < 4 * KT)
			put_parts<KT, H>(to, (lane + 32 * u) / 4, head, lane % 4, two_parts(x[u]));
		if constexpr (!groups && F != IKV_FMT_INT8)
			continue;
		float of = x[u][0] + x[u][1] + x[u][2] + x[u][3];
		of += __shfl_xor_sync(~0u, of, 1);
		of += __shfl_xor_sync(~0u, of, 2);
		of += __shfl_xor_sync(~0u, of, 4); // of 32 channels
		if constexpr (groups)
			sum[u] = __shfl_sync(~0u, of, lane % 4 * 8);
		of += __shfl_xor_sync(~0u, of, 8);
		all += of + __shfl_xor_sync(~0u, of, 16);
	}
	if (groups && lane < 4) {
		constexpr float of_scales = F == IKV_FMT_INT4 ? 0 : -0.5f;
		const float zeros[4] = {of_scales * sum[0], sum[0], of_scales * sum[1], sum[1]};
		put_parts<KT, H>(to, KT, head, lane, two_parts(zeros));
	}
	if (lane == 0)
		store8(to + query<KT, H>::scales + head * 8, __float_as_uint(scale * up * LOG2E), __float_as_uint(-128 * all));
}

// Take what put_query has put.
template <int KT, int H> DEVICE void get_query(uint32_t from, uint32_t lane, query<KT, H> &q)
{
	uint32_t t = lane % 4;
	q.shared = from;
#pragma unroll
	for (int n = 0; n < query<KT, H>::NT; n++) {
		if constexpr (query<KT, H>::in_registers) {
#pragma unroll
			for (int k = 0; k < KT; k++)
				q.load(n, k, lane, q.frag[n][k]);
		}
		q.load(n, KT, lane, q.zeros[n]);
		uint4 x = load16(from + query<KT, H>::scales + (n * 8 + (H == 4 ? t % 2 : t) * 2) * 8);
		q.factor[n][0] = __uint_as_float(x.x), q.factor[n][1] = __uint_as_float(x.z);
		bool none = H == 4 && t >= 2; // the low parts' columns
		q.biased[n][0] = none ? 0 : __uint_as_float(x.y), q.biased[n][1] = none ? 0 : __uint_as_float(x.w);
	}
}

#endif
