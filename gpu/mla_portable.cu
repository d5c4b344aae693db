// Latent attention on any device from compute capability 8.0 on: plain, for devices without warpgroup instructions. A
// block takes 16 heads of a list's segments, 64 tokens at a time: each of 8 warps brings a group of 8 tokens and scores
// it, then adds 64 channels of the answer.
#include <cuda_runtime.h>
#include "gpu/mla_part.cuh"

#define WARPS 8u
#define ROWS  16u
#define PITCH 144u // bytes of a row of weights

#define AT_QUERY   (WARPS * MLA_GROUP_BYTES)     // two groups of 8 heads, like keys
#define AT_WEIGHTS (AT_QUERY + 2 * MLA_GROUP_BYTES)
#define AT_MOST    (AT_WEIGHTS + ROWS * PITCH)   // [WARPS][16]
#define SHARED     (AT_MOST + WARPS * ROWS * 4)

struct rows { // of the two heads a thread has in every product: lane/4 and 8 more
	float factor[2], top[2], sum[2];
};

DEVICE void load_matrices(uint32_t (&x)[4], uint32_t at, bool transposed)
{
	if (transposed)
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
			     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
			     : "r"(at));
	else
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
			     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
			     : "r"(at));
}

DEVICE void load_queries(const mla_args &args, uint32_t shared, uint32_t row, uint32_t heads)
{
	for (uint32_t i = threadIdx.x; i < ROWS * MLA_CHUNKS * 4; i += WARPS * 32) {
		uint32_t piece = i % (MLA_CHUNKS * 4), h = i / (MLA_CHUNKS * 4);
		uint4 a = make_uint4(0, 0, 0, 0), b = a;
		if (h < heads) {
			const uint4 *from = (const uint4 *)(args.q + (uint64_t)(row + h) * MLA_DIM + piece * 16);
			a = from[0];
			b = from[1];
		}
		uint32_t to = shared + AT_QUERY + h / 8 * MLA_GROUP_BYTES + piece / 4 * 1024 + h % 8 * 128, unit = piece % 4 * 2;
		store16(to + ((unit ^ h % 8) * 16), make_uint4(a.x, a.z, b.x, b.z));
		store16(to + (((unit + 1) ^ h % 8) * 16), make_uint4(a.y, a.w, b.y, b.w));
	}
}

// A warp brings its group, in FP16.
DEVICE void bring_group(uint32_t group, group_note note, uint32_t lane, uint64_t policy)
{
	uint32_t format = note_format(note);
	if (!note) {
		clear_group(group, lane);
	} else if (format == IKV_FMT_FP16) {
		for (uint32_t i = lane * 16; i < MLA_GROUP_BYTES; i += 512)
			copy16(group + i, note_address(note) + i);
		copies_wait();
	} else if (has_bytes(format)) {
		codes held;
		take_codes(held, note_address(note), lane, policy);
		if (format == IKV_FMT_FP8)
			put_bytes<IKV_FMT_FP8>(group, held, lane);
		else
			put_bytes<IKV_FMT_INT8>(group, held, lane);
	} else if (format == IKV_FMT_INT4) {
		put_nibbles<IKV_FMT_INT4>(group, note_address(note), lane, policy);
	} else {
		put_nibbles<IKV_FMT_INT4_RESIDUAL>(group, note_address(note), lane, policy);
	}
	__syncwarp();
}

// 16 heads times a group's 8 tokens.
DEVICE void score_group(uint32_t shared, uint32_t group, uint32_t lane, float (&s)[4])
{
	uint32_t in = lane % 8, place = lane / 8;
	uint32_t q = shared + AT_QUERY + place % 2 * MLA_GROUP_BYTES + in * 128, k = group + in * 128;
	for (uint32_t c = 0; c < MLA_CHUNKS; c++)
#pragma unroll
		for (uint32_t i = 0; i < 2; i++) { // 32 channels
			uint32_t key[4];
			load_matrices(key, k + c * 1024 + (((4 * i + place) ^ in) * 16), false);
#pragma unroll
			for (uint32_t j = 0; j < 2; j++) {
				uint32_t query[4];
				load_matrices(query, q + c * 1024 + (((4 * i + 2 * j + place / 2) ^ in) * 16), false);
				matrix_add(s, query, key[2 * j], key[2 * j + 1]);
			}
		}
}

// Channels [64 · warp, 64 · warp + 64) of the answer.
DEVICE void add_output(uint32_t shared, uint32_t warp, uint32_t lane, float (&o)[8][4])
{
	uint32_t in = lane % 8, place = lane / 8;
	for (uint32_t k = 0; k < 4; k++) { // 16 tokens
		uint32_t p[4];
		load_matrices(p, shared + AT_WEIGHTS + (place % 2 * 8 + in) * PITCH + (2 * k + place / 2) * 16, false);
#pragma unroll
		for (uint32_t i = 0; i < 4; i++) { // 16 channels
			uint32_t v[4];
			load_matrices(v,
				      shared + (2 * k + place % 2) * MLA_GROUP_BYTES + warp * 1024 + in * 128 +
					  (((2 * i + place / 2) ^ in) * 16),
				      true);
			matrix_add(o[2 * i], p, v[0], v[1]);
			matrix_add(o[2 * i + 1], p, v[2], v[3]);
		}
	}
}

// Highest score of each head among all warps' tokens, and what it does to the references.
DEVICE void move_tops(uint32_t shared, uint32_t warp, uint32_t lane, const float (&s)[4], rows &r, float (&shrink)[2])
{
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float most = fmaxf(s[2 * h], s[2 * h + 1]);
		most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
		most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
		if (lane % 4 == 0)
			asm volatile("st.shared.f32 [%0], %1;" ::"r"(shared + AT_MOST + (warp * ROWS + lane / 4 + 8 * h) * 4), "f"(most)
				     : "memory");
	}
	__syncthreads();
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float most = -INFINITY;
		for (uint32_t w = 0; w < WARPS; w++)
			most = fmaxf(most, __uint_as_float(load4(shared + AT_MOST + (w * ROWS + lane / 4 + 8 * h) * 4)));
		float top = fmaxf(r.top[h], most * r.factor[h]);
		shrink[h] = exp2_fast(r.top[h] - top);
		r.sum[h] *= shrink[h];
		r.top[h] = top;
	}
}

DEVICE void put_weights(uint32_t shared, uint32_t warp, uint32_t lane, float (&s)[4], rows &r)
{
#pragma unroll
	for (int h = 0; h < 2; h++) {
#pragma unroll
		for (int i = 0; i < 2; i++)
			s[2 * h + i] = exp2_fast(fmaf(s[2 * h + i], r.factor[h], -r.top[h]));
		r.sum[h] += s[2 * h] + s[2 * h + 1];
		asm volatile("st.shared.u32 [%0], %1;" ::"r"(shared + AT_WEIGHTS + (lane / 4 + 8 * h) * PITCH + warp * 16 + lane % 4 * 4),
			     "r"(half2_bits(__floats2half2_rn(s[2 * h], s[2 * h + 1])))
			     : "memory");
	}
}

DEVICE void note_mass(const mla_args &args, const mla_segment &seg, const float (&s)[4], const rows &r, uint32_t group,
		      uint32_t rank, uint32_t heads, uint32_t lane)
{
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float sum = s[2 * h] + s[2 * h + 1];
		sum += __shfl_xor_sync(~0u, sum, 1);
		sum += __shfl_xor_sync(~0u, sum, 2);
		uint32_t head = lane / 4 + 8 * h;
		if (lane % 4 == 0 && head < heads && group < seg.end)
			((float2 *)args.group_mass)[seg.group_mass + (uint64_t)(rank * ROWS + head) * seg.groups + group] =
			    make_float2(sum, r.top[h]);
	}
}

// All warps' sums, then the answer or this part of it.
DEVICE void finish(const mla_args &args, const mla_segment &seg, uint32_t shared, uint32_t warp, uint32_t lane, rows &r,
		   const float (&o)[8][4], uint32_t rank, uint32_t heads)
{
	__syncthreads();
#pragma unroll
	for (int h = 0; h < 2; h++) {
		float sum = r.sum[h];
		sum += __shfl_xor_sync(~0u, sum, 1);
		sum += __shfl_xor_sync(~0u, sum, 2);
		if (lane % 4 == 0)
			asm volatile("st.shared.f32 [%0], %1;" ::"r"(shared + AT_MOST + (warp * ROWS + lane / 4 + 8 * h) * 4), "f"(sum)
				     : "memory");
	}
	__syncthreads();
#pragma unroll
	for (int h = 0; h < 2; h++) {
		uint32_t head = lane / 4 + 8 * h, row = seg.row + rank * ROWS + head;
		uint64_t part = ((uint64_t)seg.part * args.width + rank) * ROWS + head;
		bool whole = seg.parts == 1;
		float sum = 0;
		for (uint32_t w = 0; w < WARPS; w++)
			sum += __uint_as_float(load4(shared + AT_MOST + (w * ROWS + head) * 4));
		if (head >= heads)
			continue;
		float scale = !whole ? 1 : sum > 0 ? 1 / sum : 0, *to = whole ? args.out + (uint64_t)row * args.d_v : args.parts + part * MLA_OUT;
		if (warp == 0 && lane % 4 == 0) {
			if (!whole)
				((float2 *)args.part_sums)[part] = make_float2(r.top[h], sum);
			else
				args.lse[row] = sum > 0 ? (r.top[h] + log2f(sum)) * LN2 : -INFINITY;
			if (whole && args.sums)
				((float2 *)args.sums)[row] = make_float2(r.top[h], sum);
		}
#pragma unroll
		for (uint32_t j = 0; j < 8; j++) // places 2t and 2t + 1 of 8: channels 4t and 4t + 1, or 2 more
#pragma unroll
			for (uint32_t i = 0; i < 2; i++) {
				uint32_t channel = warp * 64 + j / 2 * 16 + mla_channel(j % 2 * 8 + lane % 4 * 2 + i);
				if (channel < (whole ? args.d_v : MLA_OUT))
					to[channel] = o[j][2 * h + i] * scale;
			}
	}
	__syncthreads();
}

__global__ void __launch_bounds__(WARPS * 32) mla_portable(const mla_args args)
{
	extern __shared__ uint8_t memory[];
	uint32_t shared = shared_address(memory), list = blockIdx.x / args.width, rank = blockIdx.x % args.width;
	uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = shared + warp * MLA_GROUP_BYTES;
	uint64_t policy = args.keep ? read_again() : read_once();
	for (uint32_t k = list; k != ATTEND_NONE; k = args.segments[k].next) {
		const mla_segment &seg = args.segments[k];
		uint32_t heads = seg.heads > rank * ROWS ? seg.heads - rank * ROWS : 0;
		heads = heads < ROWS ? heads : ROWS;
		if (!heads)
			continue;
		float o[8][4] = {};
		rows r;
		for (int h = 0; h < 2; h++) {
			uint32_t head = lane / 4 + 8 * h;
			r.factor[h] = head < heads ? args.factor[seg.row + rank * ROWS + head] : 1;
			r.top[h] = MLA_FLOOR;
			r.sum[h] = 0;
		}
		load_queries(args, shared, seg.row + rank * ROWS, heads);
		__syncthreads();
		for (uint32_t first = seg.first; first < seg.end; first += WARPS) {
			float s[4] = {}, shrink[2];
			group_note note = find_group(seg, first + warp, args.page_groups);
			bring_group(group, note, lane, policy);
			score_group(shared, group, lane, s);
			for (int i = 0; i < 4; i++)
				if (!(note_mask(note) >> (lane % 4 * 2 + i % 2) & 1))
					s[i] = -INFINITY;
			move_tops(shared, warp, lane, s, r, shrink);
			put_weights(shared, warp, lane, s, r);
			if (args.group_mass && seg.group_mass != UINT64_MAX)
				note_mass(args, seg, s, r, first + warp, rank, heads, lane);
			__syncthreads();
#pragma unroll
			for (int i = 0; i < 32; i++)
				o[i / 4][i % 4] *= shrink[i / 2 % 2];
			add_output(shared, warp, lane, o);
			__syncthreads();
		}
		finish(args, seg, shared, warp, lane, r, o, rank, heads);
	}
}

int mla_portable_prepare(void)
{
	return cudaFuncSetAttribute(mla_portable, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED);
}

int mla_portable_launch(const mla_args *args, const mla_config *c, void *stream)
{
	mla_portable<<<c->lists * c->width, WARPS * 32, SHARED, (cudaStream_t)stream>>>(*args);
	return cudaGetLastError();
}
