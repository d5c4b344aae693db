// The queries of a job as operands of the matrix instruction.
#ifndef GPU_ATTEND_QUERY_CUH
#define GPU_ATTEND_QUERY_CUH

#include "gpu/attend.h"
#include "gpu/attend_tile.cuh"

#define LOG2E 1.4426950408889634f
#define LN2   0.6931471805599453f

// The head whose query a column of the matrix instruction holds.
template <int H> DEVICE uint32_t head_of(uint32_t column)
{
	return H == 4 ? column % 4 : column;
}

// The values of a segment's queries that this lane's operands hold; columns beyond its heads repeat the last one, and
// nobody reads them. `rows`: the job's rows, `stride` apart, in global or shared memory.
template <int KT, int H>
DEVICE void fetch_query(const float *rows, uint32_t stride, uint32_t d_qk, uint32_t heads, uint32_t lane,
			float x[query<KT, H>::NT][KT][4])
{
#pragma unroll
	for (int n = 0; n < query<KT, H>::NT; n++) {
		uint32_t row = min(head_of<H>(n * 8 + lane / 4), heads - 1), column = 2 * (lane % 4);
		const float *from = rows + row * stride + column;
		if (d_qk == 16 * KT) {
#pragma unroll
			for (int i = 0; i < KT * 2; i++)
				asm volatile("ld.v2.f32 {%0, %1}, [%2];"
					     : "=f"(x[n][i / 2][i % 2 * 2]), "=f"(x[n][i / 2][i % 2 * 2 + 1])
					     : "l"(from + i * 8));
		} else {
#pragma unroll
			for (int i = 0; i < KT * 4; i++)
				x[n][i / 4][i % 4] = column + i / 2 * 8 + i % 2 < d_qk ? from[i / 2 * 8 + i % 2] : 0;
		}
	}
}

// Rows in shared memory are so far apart that lanes of different heads read different banks.
#define QUERY_STRIDE(d_qk) ((d_qk) + 8)

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

template <int KT, int H>
DEVICE void put_step(query<KT, H> &q, int n, int k, uint32_t lane, uint32_t warp, uint32_t warps, const uint4 &f)
{
	if constexpr (query<KT, H>::in_registers) {
		own_parts<H>(f, lane, q.frag[n][k]);
	} else if (k % warps == warp) {
		uint32_t part[4];
		own_parts<H>(f, lane, part);
		for (int i = 0; i < query<KT, H>::words; i++)
			store4(q.shared + (((k * query<KT, H>::NT + n) * 32 + lane) * query<KT, H>::words + i) * 4, part[i]);
	}
}

// The queries, scaled by a power of two to fill FP16's range.
template <int KT, int H, uint32_t WARPS>
DEVICE void make_query(float scale, float values[query<KT, H>::NT][KT][4], uint32_t shared, uint32_t warp, uint32_t lane,
		       query<KT, H> &q)
{
	uint32_t t = lane % 4;
	q.shared = shared;
#pragma unroll
	for (int n = 0; n < query<KT, H>::NT; n++) {
		float(&x)[KT][4] = values[n], most = 0, sum[2] = {0, 0}, all = 0; // sums over groups t and t + 4, and all
#pragma unroll
		for (int i = 0; i < KT * 4; i++)
			most = fmaxf(most, fabsf(x[i / 4][i % 4]));
		most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
		most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
		int exponent = most > 0 ? (int)(__float_as_uint(most) >> 23) - 127 : 0;
		exponent = max(-120, min(120, exponent));
		float down = __uint_as_float((127 - exponent) << 23), up = __uint_as_float((127 + exponent) << 23);
#pragma unroll
		for (int k = 0; k < KT; k++) {
#pragma unroll
			for (int i = 0; i < 4; i++)
				x[k][i] *= down;
			put_step<KT, H>(q, n, k, lane, warp, WARPS, two_parts(x[k]));
		}
#pragma unroll
		for (int j = 0; j < (KT + 1) / 2; j++) {
			float of = x[2 * j][0] + x[2 * j][1] + x[2 * j][2] + x[2 * j][3];
			if (2 * j + 1 < KT)
				of += x[2 * j + 1][0] + x[2 * j + 1][1] + x[2 * j + 1][2] + x[2 * j + 1][3];
			of += __shfl_xor_sync(~0u, of, 1);
			of += __shfl_xor_sync(~0u, of, 2);
			sum[j / 4] = j % 4 == t ? of : sum[j / 4];
			all += of;
		}
		float zeros[4] = {-0.5f * sum[0], sum[0], -0.5f * sum[1], sum[1]};
		own_parts<H>(two_parts(zeros), lane, q.zeros[n]);
		float factor = scale * up * LOG2E, biased = H == 4 && lane >= 16 ? 0 : -128 * all;
#pragma unroll
		for (int h = 0; h < 2; h++) {
			q.factor[n][h] = __shfl_sync(~0u, factor, (2 * t + h) * 4);
			q.biased[n][h] = __shfl_sync(~0u, biased, (2 * t + h) * 4);
		}
	}
	if constexpr (!query<KT, H>::in_registers)
		__syncthreads();
}

#endif
