// Re-encoding of pages and appending of rows. A block takes a tile of 16 tokens of one KV head, K and V: the stored form
// comes to shared memory, becomes FP16 rows there, then the new form, and goes out in one piece.
//
// Same bits as the engine's codecs: their operations in their order, each rounded (no fused multiply-add, divisions to
// nearest), as engine/quant/*.c have them.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include "gpu/encode.h"
#include "gpu/mla_tile.h"
#include "gpu/tile_place.h"

namespace {

constexpr uint32_t THREADS = 256, WARPS = THREADS / 32;
// Of the widest rows: 2 · 256 channels of K and V, 576 of a latent row.
constexpr uint32_t ROWS = TILE_TOKENS * (2 * TILE_DIM_MAX > MLA_DIM ? 2 * TILE_DIM_MAX : MLA_DIM);
constexpr uint32_t BYTES = 2 * MLA_GROUP_BYTES > TILE_BYTES_MAX ? 2 * MLA_GROUP_BYTES : TILE_BYTES_MAX;

struct work {
	const encode_shape &shape;
	uint8_t *tile;  // stored form
	uint16_t *rows; // [tokens][d_qk], then [tokens][d_v] of V
	uint32_t tokens;
};

__device__ float half_float(uint16_t h)
{
	return __half2float(__ushort_as_half(h));
}

__device__ uint16_t float_half(float x)
{
	return __half_as_ushort(__float2half_rn(x));
}

__device__ uint16_t half_saturated(float x)
{
	return float_half(fminf(fmaxf(x, -65504.f), 65504.f));
}

// Smallest FP16 number not below x >= 0.
__device__ uint16_t half_up(float x)
{
	uint16_t h = float_half(x);
	return half_float(h) < x ? h + 1 : h;
}

__device__ float e4m3_value(uint8_t code)
{
	return __fmul_rn(half_float((code & 0x80) << 8 | (code & 0x7f) << 7), 256);
}

__device__ uint8_t e4m3_code(float x)
{
	float a = fabsf(x);
	uint32_t sign = __float_as_uint(x) >> 24 & 0x80, u = __float_as_uint(a);
	if (a < 0x1p-6f)
		return sign | (uint32_t)__float2int_rn(__fmul_rn(a, 0x1p9f));
	u += 0x7ffff + (u >> 20 & 1);
	u = (u >> 20) - (120u << 3);
	return sign | (u > 0x7e ? 0x7e : u);
}

__device__ uint32_t code4(float x)
{
	int n = __float2int_rn(x);
	return n < 0 ? 0 : n > 15 ? 15 : n;
}

// Where values and parameters of a tile lie; one of the two layouts.
template <bool LATENT> struct layout;

template <> struct layout<false> {
	__device__ static uint32_t bytes(uint32_t f, const encode_shape &s)
	{
		return tile_bytes(f, s.steps);
	}
	__device__ static uint32_t at16(const encode_shape &s, bool v, uint32_t token, uint32_t c)
	{
		return tile_planes_of(IKV_FMT_FP16, s.steps, v).codes + tile_at16(c / 16, tile_place_in(v, token, c));
	}
	__device__ static uint32_t at8(const encode_shape &s, bool v, uint32_t token, uint32_t c)
	{
		return tile_planes_of(IKV_FMT_INT8, s.steps, v).codes +
		       tile_at8(s.steps, c / 16, tile_place_in(v, token, c));
	}
	// Bit of the code, and of its remainder.
	__device__ static uint32_t bit4(uint32_t f, const encode_shape &s, bool v, uint32_t token, uint32_t c, bool rest)
	{
		tile_planes at = tile_planes_of(f, s.steps, v);
		return 8 * (rest ? at.remainders : at.codes) + tile_bit4(s.steps, c / 16, tile_place_in(v, token, c));
	}
	__device__ static uint32_t scale8(const encode_shape &s, bool v, uint32_t token)
	{
		return tile_planes_of(IKV_FMT_INT8, s.steps, v).params + 2 * (v ? tile_v_token(token) : token);
	}
	__device__ static uint32_t param4(uint32_t f, const encode_shape &s, bool v, uint32_t token, uint32_t group, bool zero)
	{
		uint32_t groups = tile_groups(s.steps);
		return tile_planes_of(f, s.steps, v).params + 2 * (!v     ? 2 * (token * groups + group) + zero
								   : zero ? tile_v_zero(groups, token, group)
									  : tile_v_scale(groups, token, group));
	}
};

template <> struct layout<true> {
	__device__ static uint32_t base(uint32_t f, uint32_t token)
	{
		return token / MLA_GROUP * mla_group_bytes(f);
	}
	__device__ static uint32_t bytes(uint32_t f, const encode_shape &)
	{
		return 2 * mla_group_bytes(f);
	}
	__device__ static uint32_t at16(const encode_shape &, bool, uint32_t token, uint32_t c)
	{
		return base(IKV_FMT_FP16, token) + mla_value_at(IKV_FMT_FP16, token % MLA_GROUP, c).byte;
	}
	__device__ static uint32_t at8(const encode_shape &, bool, uint32_t token, uint32_t c)
	{
		return base(IKV_FMT_INT8, token) + mla_value_at(IKV_FMT_INT8, token % MLA_GROUP, c).byte;
	}
	__device__ static uint32_t bit4(uint32_t f, const encode_shape &, bool, uint32_t token, uint32_t c, bool rest)
	{
		mla_at at = mla_value_at(f, token % MLA_GROUP, c);
		return 8 * (base(f, token) + at.byte + 256 * rest) + at.shift;
	}
	__device__ static uint32_t scale8(const encode_shape &, bool, uint32_t token)
	{
		return base(IKV_FMT_INT8, token) + 2 * (token % MLA_GROUP);
	}
	__device__ static uint32_t param4(uint32_t f, const encode_shape &, bool, uint32_t token, uint32_t group, bool zero)
	{
		return base(f, token) + mla_param_at(f, token % MLA_GROUP, group) + 2 * zero;
	}
};

__device__ void copy16(uint8_t *to, const uint8_t *from, uint32_t bytes)
{
	for (uint32_t i = threadIdx.x * 16; i < bytes; i += THREADS * 16)
		*reinterpret_cast<uint4 *>(to + i) = *reinterpret_cast<const uint4 *>(from + i);
}

__device__ uint16_t &half_at(uint8_t *tile, uint32_t byte)
{
	return *reinterpret_cast<uint16_t *>(tile + byte);
}

// One value of a stored tile as an FP16 number.
template <bool LATENT>
__device__ uint16_t value_of(const work &w, uint32_t f, bool v, uint32_t token, uint32_t c)
{
	using at = layout<LATENT>;
	const encode_shape &s = w.shape;
	if (f == IKV_FMT_FP16)
		return half_at(w.tile, at::at16(s, v, token, c));
	if (f == IKV_FMT_FP8 || f == IKV_FMT_INT8) {
		uint8_t code = w.tile[at::at8(s, v, token, c)];
		float scale = half_float(half_at(w.tile, at::scale8(s, v, token)));
		return half_saturated(__fmul_rn(f == IKV_FMT_FP8 ? e4m3_value(code) : (float)(int8_t)(code ^ 0x80), scale));
	}
	float scale = half_float(half_at(w.tile, at::param4(f, s, v, token, c / 32, false)));
	float zero = half_float(half_at(w.tile, at::param4(f, s, v, token, c / 32, true)));
	uint32_t bit = at::bit4(f, s, v, token, c, false);
	float x = __fadd_rn(zero, __fmul_rn((float)(w.tile[bit / 8] >> bit % 8 & 15), scale));
	if (f == IKV_FMT_INT4_RESIDUAL) {
		bit = at::bit4(f, s, v, token, c, true);
		float rest = __fsub_rn((float)(w.tile[bit / 8] >> bit % 8 & 15), 7.5f);
		x = __fadd_rn(x, __fmul_rn(rest, __fdiv_rn(scale, 15)));
	}
	return half_saturated(x);
}

template <bool LATENT> __device__ void decode_side(const work &w, uint32_t f, bool v, uint32_t dim, uint16_t *rows)
{
	for (uint32_t i = threadIdx.x; i < w.tokens * dim; i += THREADS)
		rows[i] = value_of<LATENT>(w, f, v, i / dim, i % dim);
}

template <bool LATENT> __device__ void encode_row8(const work &w, uint32_t f, bool v, uint32_t token, uint32_t dim, const uint16_t *row)
{
	using at = layout<LATENT>;
	uint32_t lane = threadIdx.x % 32;
	float most = 0;
	for (uint32_t c = lane; c < dim; c += 32)
		most = fmaxf(most, fabsf(half_float(row[c])));
	for (uint32_t i = 16; i; i /= 2)
		most = fmaxf(most, __shfl_xor_sync(~0u, most, i));
	uint16_t h = half_up(__fdiv_rn(most, f == IKV_FMT_FP8 ? 448.f : 127.f));
	float scale = h ? half_float(h) : 1;
	if (lane == 0)
		half_at(w.tile, at::scale8(w.shape, v, token)) = h;
	for (uint32_t c = lane; c < dim; c += 32) {
		float x = __fdiv_rn(half_float(row[c]), scale);
		w.tile[at::at8(w.shape, v, token, c)] = f == IKV_FMT_FP8 ? e4m3_code(x) : (uint8_t)__float2int_rn(x) ^ 0x80;
	}
}

__device__ void put4(uint8_t *tile, uint32_t bit, uint32_t code)
{
	atomicOr(reinterpret_cast<uint32_t *>(tile) + bit / 32, code << bit % 32); // neighbours write the same word
}

template <bool LATENT> __device__ void encode_row4(const work &w, uint32_t f, bool v, uint32_t token, uint32_t dim, const uint16_t *row)
{
	using at = layout<LATENT>;
	uint32_t lane = threadIdx.x % 32;
	for (uint32_t g = 0; 32 * g < dim; g++) {
		uint32_t c = 32 * g + lane;
		bool there = c < dim;
		uint16_t half = row[there ? c : 32 * g];
		float x = half_float(half), low = x, high = x;
		for (uint32_t i = 16; i; i /= 2) {
			low = fminf(low, __shfl_xor_sync(~0u, low, i));
			high = fmaxf(high, __shfl_xor_sync(~0u, high, i));
		}
		// The first of the least values gives its bits: zeros have two forms.
		uint32_t first = __ffs(__ballot_sync(~0u, there && x == low)) - 1;
		uint16_t zero = __shfl_sync(~0u, half, first);
		low = half_float(zero);
		uint16_t h = half_up(__fdiv_rn(fabsf(__fsub_rn(high, low)), 15));
		float scale = h ? half_float(h) : 1, y = __fsub_rn(x, low);
		if (lane == 0) {
			half_at(w.tile, at::param4(f, w.shape, v, token, g, false)) = h;
			half_at(w.tile, at::param4(f, w.shape, v, token, g, true)) = zero;
		}
		if (!there)
			continue;
		uint32_t code = code4(__fdiv_rn(y, scale));
		put4(w.tile, at::bit4(f, w.shape, v, token, c, false), code);
		if (f == IKV_FMT_INT4_RESIDUAL) {
			float r = __fsub_rn(y, __fmul_rn((float)code, scale));
			put4(w.tile, at::bit4(f, w.shape, v, token, c, true),
			     code4(__fadd_rn(__fmul_rn(__fdiv_rn(r, scale), 15), 7.5f)));
		}
	}
}

template <bool LATENT> __device__ void encode_side(const work &w, uint32_t f, bool v, uint32_t dim, const uint16_t *rows)
{
	if (f == IKV_FMT_FP16) {
		for (uint32_t i = threadIdx.x; i < w.tokens * dim; i += THREADS)
			half_at(w.tile, layout<LATENT>::at16(w.shape, v, i / dim, i % dim)) = rows[i];
		return;
	}
	for (uint32_t token = threadIdx.x / 32; token < w.tokens; token += WARPS) {
		const uint16_t *row = rows + token * dim;
		if (f == IKV_FMT_FP8 || f == IKV_FMT_INT8)
			encode_row8<LATENT>(w, f, v, token, dim, row);
		else
			encode_row4<LATENT>(w, f, v, token, dim, row);
	}
}

// INT4 is INT4_RESIDUAL without its second plane.
template <bool LATENT> __device__ void drop_rest(const encode_shape &s, const uint8_t *from, uint8_t *to)
{
	uint32_t bytes = layout<LATENT>::bytes(IKV_FMT_INT4, s), codes = 256 * s.steps;
	for (uint32_t i = threadIdx.x * 16; i < bytes; i += THREADS * 16) {
		uint32_t at = i < codes ? i : i + codes;
		if (LATENT)
			at = i / mla_chunk_bytes(IKV_FMT_INT4) * mla_chunk_bytes(IKV_FMT_INT4_RESIDUAL) +
			     i % mla_chunk_bytes(IKV_FMT_INT4);
		*reinterpret_cast<uint4 *>(to + i) = *reinterpret_cast<const uint4 *>(from + at);
	}
}

template <bool LATENT>
__global__ void __launch_bounds__(THREADS) encode_pages(const __grid_constant__ encode_shape shape,
							 const encode_pair *pairs)
{
	__shared__ __align__(16) uint8_t tile[BYTES];
	__shared__ uint16_t rows[ROWS];
	encode_pair pair = pairs[blockIdx.x];
	uint32_t f = pair.from & 15, t = pair.to & 15, first = blockIdx.y * TILE_TOKENS;
	uint32_t from_bytes = layout<LATENT>::bytes(f, shape), to_bytes = layout<LATENT>::bytes(t, shape);
	const uint8_t *from = reinterpret_cast<const uint8_t *>(pair.from & ~15ull) + (uint64_t)blockIdx.y * from_bytes;
	uint8_t *to = reinterpret_cast<uint8_t *>(pair.to & ~15ull) + (uint64_t)blockIdx.y * to_bytes;
	if (f == IKV_FMT_INT4_RESIDUAL && t == IKV_FMT_INT4) {
		drop_rest<LATENT>(shape, from, to);
		return;
	}
	work w = {shape, tile, rows, min(shape.page_tokens - first, TILE_TOKENS)};
	copy16(tile, from, from_bytes);
	__syncthreads();
	decode_side<LATENT>(w, f, false, shape.d_qk, rows);
	if (!LATENT)
		decode_side<LATENT>(w, f, true, shape.d_v, rows + w.tokens * shape.d_qk);
	__syncthreads();
	for (uint32_t i = threadIdx.x * 16; i < to_bytes; i += THREADS * 16)
		*reinterpret_cast<uint4 *>(tile + i) = make_uint4(0, 0, 0, 0);
	__syncthreads();
	encode_side<LATENT>(w, t, false, shape.d_qk, rows);
	if (!LATENT)
		encode_side<LATENT>(w, t, true, shape.d_v, rows + w.tokens * shape.d_qk);
	__syncthreads();
	copy16(to, tile, to_bytes);
}

// The rows of an item's tokens, and zeros up to the end of the last tile and of the padded row.
template <bool LATENT> __device__ void append_side(const encode_shape &s, const append_item &x, bool v)
{
	uint32_t dim = v ? s.d_v : s.d_qk, width = LATENT ? MLA_DIM : 16 * s.steps, stride = v ? x.v_stride : x.k_stride;
	uint32_t end = (x.first + x.tokens + TILE_TOKENS - 1) / TILE_TOKENS * TILE_TOKENS;
	const uint16_t *rows = reinterpret_cast<const uint16_t *>(v ? x.v : x.k);
	for (uint32_t i = threadIdx.x; i < (end - x.first) * width; i += THREADS) {
		uint32_t row = i / width, c = i % width, token = x.first + row;
		uint8_t *tile = reinterpret_cast<uint8_t *>(x.to) +
				(uint64_t)(token / TILE_TOKENS) * layout<LATENT>::bytes(IKV_FMT_FP16, s);
		uint16_t value = row < x.tokens && c < dim ? rows[(uint64_t)row * stride + c] : 0;
		half_at(tile, layout<LATENT>::at16(s, v, token % TILE_TOKENS, c)) = value;
	}
}

template <bool LATENT>
__global__ void __launch_bounds__(THREADS) append_rows(const __grid_constant__ encode_shape shape, const append_item *items)
{
	append_item x = items[blockIdx.x];
	append_side<LATENT>(shape, x, false);
	if (!LATENT)
		append_side<LATENT>(shape, x, true);
}

} // namespace

int encode_launch(const encode_shape *shape, const encode_pair *pairs, uint32_t count, void *stream)
{
	dim3 grid(count, (shape->page_tokens + TILE_TOKENS - 1) / TILE_TOKENS);
	if (shape->latent)
		encode_pages<true><<<grid, THREADS, 0, (cudaStream_t)stream>>>(*shape, pairs);
	else
		encode_pages<false><<<grid, THREADS, 0, (cudaStream_t)stream>>>(*shape, pairs);
	return cudaGetLastError();
}

int append_launch(const encode_shape *shape, const append_item *items, uint32_t count, void *stream)
{
	if (shape->latent)
		append_rows<true><<<count, THREADS, 0, (cudaStream_t)stream>>>(*shape, items);
	else
		append_rows<false><<<count, THREADS, 0, (cudaStream_t)stream>>>(*shape, items);
	return cudaGetLastError();
}
