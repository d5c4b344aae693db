// Re-encoding of pages and appending of rows. A block takes a tile of 16 tokens of one KV head, K and V: the stored form
// comes to shared memory, becomes FP16 rows there, then the new form, and goes out in one piece.
//
// Same bits as the engine's codecs: their operations in their order, each rounded (no fused multiply-add but inside a
// division, which is to nearest), as engine/quant/*.c have them.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include "gpu/encode.h"
#include "gpu/mla_tile.h"
#include "gpu/tile_place.h"

namespace {

constexpr uint32_t THREADS = 256, WARPS = THREADS / 32;

__host__ __device__ constexpr uint32_t groups_of(uint32_t width)
{
	return (width + 31) / 32;
}

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

// 0 <= x <= 448.
__device__ uint32_t e4m3_code(float x)
{
	uint32_t u = __float_as_uint(x);
	if (x < 0x1p-6f)
		return __float2int_rn(__fmul_rn(x, 0x1p9f));
	u += 0x7ffff + (u >> 20 & 1);
	u = (u >> 20) - (120u << 3);
	return u > 0x7e ? 0x7e : u;
}

__device__ uint32_t code4(float x)
{
	int n = __float2int_rn(x);
	return n < 0 ? 0 : n > 15 ? 15 : n;
}

// x/y to nearest, `r` being 1/y to nearest: Markstein's correction, twice since the first guess may be 1.5 ulp off.
// Exact where nothing under- or overflows: here x and y are sums of few FP16 numbers.
__device__ float divide(float x, float y, float r)
{
	float q = __fmul_rn(x, r);
	q = __fmaf_rn(__fmaf_rn(-y, q, x), r, q);
	return __fmaf_rn(__fmaf_rn(-y, q, x), r, q);
}

// FP16 numbers as integers in the same order; both zeros are 0.
__device__ int key_of(uint16_t h)
{
	int m = h & 0x7fff;
	return h & 0x8000 ? -m : m;
}

__device__ float key_float(int key)
{
	return half_float(key < 0 ? 0x8000 | -key : key);
}

// Where values and parameters of a tile lie: the layout of heads, whose rows are padded to STEPS steps of 16 channels,
// and that of latent rows (STEPS of 36).
constexpr uint32_t LATENT_STEPS = MLA_DIM / 16;

template <uint32_t STEPS> struct layout {
	static constexpr bool LATENT = false;
	static constexpr uint32_t MOST = tile_bytes(IKV_FMT_FP16, STEPS);
	__device__ static uint32_t bytes(uint32_t f)
	{
		return tile_bytes(f, STEPS);
	}
	__device__ static uint32_t at16(bool v, uint32_t token, uint32_t c)
	{
		return tile_planes_of(IKV_FMT_FP16, STEPS, v).codes + tile_at16(c / 16, tile_place_in(v, token, c));
	}
	__device__ static uint32_t at8(bool v, uint32_t token, uint32_t c)
	{
		return tile_planes_of(IKV_FMT_INT8, STEPS, v).codes + tile_at8(STEPS, c / 16, tile_place_in(v, token, c));
	}
	// Bit of the code, and of its remainder.
	__device__ static uint32_t bit4(uint32_t f, bool v, uint32_t token, uint32_t c, bool rest)
	{
		tile_planes at = tile_planes_of(f, STEPS, v);
		return 8 * (rest ? at.remainders : at.codes) + tile_bit4(STEPS, c / 16, tile_place_in(v, token, c));
	}
	// Of the code whose place in word `word` of a side's codes is `i`.
	__device__ static void coded(bool v, uint32_t word, uint32_t i, uint32_t *token, uint32_t *c)
	{
		uint32_t lane = word % 32, row = lane / 4 + i / 2 % 2 * 8, col = lane % 4 * 2 + i % 2 + i / 4 * 8;
		*token = v ? col : row;
		*c = word / 32 * 16 + (v ? row : col);
	}
	__device__ static uint32_t scale8(bool v, uint32_t token)
	{
		return tile_planes_of(IKV_FMT_INT8, STEPS, v).params + 2 * (v ? tile_v_token(token) : token);
	}
	__device__ static uint32_t param4(uint32_t f, bool v, uint32_t token, uint32_t group, bool zero)
	{
		constexpr uint32_t groups = tile_groups(STEPS);
		return tile_planes_of(f, STEPS, v).params + 2 * (!v     ? 2 * (token * groups + group) + zero
								 : zero ? tile_v_zero(groups, token, group)
									: tile_v_scale(groups, token, group));
	}
};

template <> struct layout<LATENT_STEPS> {
	static constexpr bool LATENT = true;
	static constexpr uint32_t MOST = 2 * MLA_GROUP_BYTES;
	__device__ static uint32_t base(uint32_t f, uint32_t token)
	{
		return token / MLA_GROUP * mla_group_bytes(f);
	}
	__device__ static uint32_t bytes(uint32_t f)
	{
		return 2 * mla_group_bytes(f);
	}
	__device__ static uint32_t at16(bool, uint32_t token, uint32_t c)
	{
		return base(IKV_FMT_FP16, token) + mla_value_at(IKV_FMT_FP16, token % MLA_GROUP, c).byte;
	}
	__device__ static uint32_t at8(bool, uint32_t token, uint32_t c)
	{
		return base(IKV_FMT_INT8, token) + mla_value_at(IKV_FMT_INT8, token % MLA_GROUP, c).byte;
	}
	__device__ static uint32_t bit4(uint32_t f, bool, uint32_t token, uint32_t c, bool rest)
	{
		mla_at at = mla_value_at(f, token % MLA_GROUP, c);
		return 8 * (base(f, token) + at.byte + 256 * rest) + at.shift;
	}
	__device__ static void coded(bool, uint32_t word, uint32_t i, uint32_t *token, uint32_t *c)
	{
		uint32_t place = word % 2 * 4 + i / 2 % 4 + i % 2 * 8; // i: of the word's 4-bit codes from the lowest
		*token = word / (2 * LATENT_STEPS);
		*c = word / 2 % LATENT_STEPS * 16 + mla_channel(place);
	}
	__device__ static uint32_t scale8(bool, uint32_t token)
	{
		return base(IKV_FMT_INT8, token) + 2 * (token % MLA_GROUP);
	}
	__device__ static uint32_t param4(uint32_t f, bool, uint32_t token, uint32_t group, bool zero)
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
template <class AT> __device__ uint16_t value_of(uint8_t *tile, uint32_t f, bool v, uint32_t token, uint32_t c)
{
	if (f == IKV_FMT_FP16)
		return half_at(tile, AT::at16(v, token, c));
	if (f == IKV_FMT_FP8 || f == IKV_FMT_INT8) {
		uint8_t code = tile[AT::at8(v, token, c)];
		float scale = half_float(half_at(tile, AT::scale8(v, token)));
		return half_saturated(__fmul_rn(f == IKV_FMT_FP8 ? e4m3_value(code) : (float)(int8_t)(code ^ 0x80), scale));
	}
	float scale = half_float(half_at(tile, AT::param4(f, v, token, c / 32, false)));
	float zero = half_float(half_at(tile, AT::param4(f, v, token, c / 32, true)));
	uint32_t bit = AT::bit4(f, v, token, c, false);
	float x = __fadd_rn(zero, __fmul_rn((float)(tile[bit / 8] >> bit % 8 & 15), scale));
	if (f == IKV_FMT_INT4_RESIDUAL) {
		bit = AT::bit4(f, v, token, c, true);
		float rest = __fsub_rn((float)(tile[bit / 8] >> bit % 8 & 15), 7.5f);
		x = __fadd_rn(x, __fmul_rn(rest, divide(scale, 15, 1 / 15.f)));
	}
	return half_saturated(x);
}

// The tile's rows, each padded to the layout's width; of what lies beyond `tokens` and `dim` nothing is said.
template <uint32_t STEPS>
__device__ void decode_side(uint8_t *tile, uint32_t f, bool v, uint32_t tokens, uint32_t dim, uint16_t *rows)
{
	constexpr uint32_t WIDTH = 16 * STEPS;
	for (uint32_t i = threadIdx.x; i < tokens * WIDTH; i += THREADS)
		if (i % WIDTH < dim)
			rows[i] = value_of<layout<STEPS>>(tile, f, v, i / WIDTH, i % WIDTH);
}

template <uint32_t STEPS>
__device__ void encode_row8(uint8_t *tile, uint32_t f, bool v, uint32_t token, uint32_t dim, const uint16_t *row)
{
	using at = layout<STEPS>;
	constexpr uint32_t GROUPS = groups_of(16 * STEPS);
	uint32_t lane = threadIdx.x % 32, most = 0;
	uint16_t x[GROUPS];
#pragma unroll
	for (uint32_t g = 0; g < GROUPS; g++) {
		x[g] = 32 * g + lane < dim ? row[32 * g + lane] : 0;
		most = max(most, x[g] & 0x7fff);
	}
	most = __reduce_max_sync(~0u, most);
	uint16_t h = half_up(__fdiv_rn(half_float(most), f == IKV_FMT_FP8 ? 448.f : 127.f));
	float scale = h ? half_float(h) : 1, inverse = __frcp_rn(scale);
	if (lane == 0)
		half_at(tile, at::scale8(v, token)) = h;
#pragma unroll
	for (uint32_t g = 0; g < GROUPS; g++) {
		float y = divide(half_float(x[g] & 0x7fff), scale, inverse);
		bool minus = x[g] & 0x8000; /* also of a zero */
		int n = __float2int_rn(y);
		if (32 * g + lane < dim)
			tile[at::at8(v, token, 32 * g + lane)] =
			    f == IKV_FMT_FP8 ? e4m3_code(y) | minus << 7 : (uint8_t)(minus ? -n : n) ^ 0x80;
	}
}

// Codes (and remainders, eight bits up) take the place of the row's values; zeros beyond `dim`.
template <uint32_t STEPS>
__device__ void encode_row4(uint8_t *tile, uint32_t f, bool v, uint32_t token, uint32_t dim, uint16_t *row)
{
	using at = layout<STEPS>;
	constexpr uint32_t WIDTH = 16 * STEPS;
	uint32_t lane = threadIdx.x % 32;
#pragma unroll
	for (uint32_t g = 0; g < groups_of(WIDTH); g++) {
		uint32_t c = 32 * g + lane, codes = 0;
		bool there = c < dim;
		if (32 * g < dim) {
			uint16_t half = row[there ? c : 32 * g];
			int key = key_of(half), low_key = __reduce_min_sync(~0u, key), high_key = __reduce_max_sync(~0u, key);
			// The first of the least values gives its bits: zeros have two forms.
			uint32_t first = __ffs(__ballot_sync(~0u, there && key == low_key)) - 1;
			uint16_t zero = __shfl_sync(~0u, half, first);
			float low = half_float(zero), y = __fsub_rn(half_float(half), low);
			uint16_t h = half_up(__fdiv_rn(fabsf(__fsub_rn(key_float(high_key), low)), 15));
			float scale = h ? half_float(h) : 1, inverse = __frcp_rn(scale);
			if (lane == 0) {
				half_at(tile, at::param4(f, v, token, g, false)) = h;
				half_at(tile, at::param4(f, v, token, g, true)) = zero;
			}
			codes = code4(divide(y, scale, inverse));
			if (f == IKV_FMT_INT4_RESIDUAL) {
				float r = __fsub_rn(y, __fmul_rn((float)codes, scale));
				codes |= code4(__fadd_rn(__fmul_rn(divide(r, scale, inverse), 15), 7.5f)) << 8;
			}
		}
		if (c < WIDTH)
			row[c] = there ? codes : 0;
	}
}

// Codes of 4 bits to their words.
template <uint32_t STEPS> __device__ void pack4(uint8_t *tile, uint32_t f, bool v, uint32_t tokens, const uint16_t *rows)
{
	using at = layout<STEPS>;
	constexpr uint32_t WIDTH = 16 * STEPS, WORDS = TILE_TOKENS * WIDTH / 8;
	for (uint32_t i = threadIdx.x; i < WORDS; i += THREADS) {
		uint32_t codes = 0, rest = 0, token, c, first, first_c;
#pragma unroll
		for (uint32_t k = 0; k < 8; k++) {
			at::coded(v, i, k, &token, &c);
			uint32_t x = token < tokens ? rows[token * WIDTH + c] : 0, shift = at::bit4(f, v, token, c, false) % 32;
			codes |= (x & 15) << shift;
			rest |= (x >> 8) << shift;
		}
		at::coded(v, i, 0, &first, &first_c);
		*reinterpret_cast<uint32_t *>(tile + at::bit4(f, v, first, first_c, false) / 32 * 4) = codes;
		if (f == IKV_FMT_INT4_RESIDUAL)
			*reinterpret_cast<uint32_t *>(tile + at::bit4(f, v, first, first_c, true) / 32 * 4) = rest;
	}
}

template <uint32_t STEPS>
__device__ void encode_side(uint8_t *tile, uint32_t f, bool v, uint32_t tokens, uint32_t dim, uint16_t *rows)
{
	constexpr uint32_t WIDTH = 16 * STEPS;
	if (f == IKV_FMT_FP16) {
		for (uint32_t i = threadIdx.x; i < tokens * WIDTH; i += THREADS)
			if (i % WIDTH < dim)
				half_at(tile, layout<STEPS>::at16(v, i / WIDTH, i % WIDTH)) = rows[i];
		return;
	}
	for (uint32_t token = threadIdx.x / 32; token < tokens; token += WARPS) {
		if (f == IKV_FMT_FP8 || f == IKV_FMT_INT8)
			encode_row8<STEPS>(tile, f, v, token, dim, rows + token * WIDTH);
		else
			encode_row4<STEPS>(tile, f, v, token, dim, rows + token * WIDTH);
	}
}

// INT4 is INT4_RESIDUAL without its second plane.
template <uint32_t STEPS> __device__ void drop_rest(const uint8_t *from, uint8_t *to)
{
	constexpr uint32_t codes = 256 * STEPS;
	for (uint32_t i = threadIdx.x * 16; i < layout<STEPS>::bytes(IKV_FMT_INT4); i += THREADS * 16) {
		uint32_t at = i < codes ? i : i + codes;
		if (layout<STEPS>::LATENT)
			at = i / mla_chunk_bytes(IKV_FMT_INT4) * mla_chunk_bytes(IKV_FMT_INT4_RESIDUAL) +
			     i % mla_chunk_bytes(IKV_FMT_INT4);
		*reinterpret_cast<uint4 *>(to + i) = *reinterpret_cast<const uint4 *>(from + at);
	}
}

template <uint32_t STEPS>
__global__ void __launch_bounds__(THREADS) encode_pages(const __grid_constant__ encode_shape shape,
							 const encode_pair *pairs)
{
	using at = layout<STEPS>;
	constexpr uint32_t SIDE = TILE_TOKENS * 16 * STEPS, SIDES = at::LATENT ? 1 : 2;
	__shared__ __align__(16) uint8_t tile[at::MOST];
	__shared__ uint16_t rows[SIDES * SIDE];
	encode_pair pair = pairs[blockIdx.x];
	uint32_t f = pair.from & 15, t = pair.to & 15, first = blockIdx.y * TILE_TOKENS;
	uint32_t from_bytes = at::bytes(f), to_bytes = at::bytes(t), tokens = min(shape.page_tokens - first, TILE_TOKENS);
	const uint8_t *from = reinterpret_cast<const uint8_t *>(pair.from & ~15ull) + (uint64_t)blockIdx.y * from_bytes;
	uint8_t *to = reinterpret_cast<uint8_t *>(pair.to & ~15ull) + (uint64_t)blockIdx.y * to_bytes;
	if (f == IKV_FMT_INT4_RESIDUAL && t == IKV_FMT_INT4) {
		drop_rest<STEPS>(from, to);
		return;
	}
	copy16(tile, from, from_bytes);
	__syncthreads();
	for (uint32_t v = 0; v < SIDES; v++)
		decode_side<STEPS>(tile, f, v, tokens, v ? shape.d_v : shape.d_qk, rows + v * SIDE);
	__syncthreads();
	for (uint32_t i = threadIdx.x * 16; i < to_bytes; i += THREADS * 16)
		*reinterpret_cast<uint4 *>(tile + i) = make_uint4(0, 0, 0, 0);
	__syncthreads();
	for (uint32_t v = 0; v < SIDES; v++)
		encode_side<STEPS>(tile, t, v, tokens, v ? shape.d_v : shape.d_qk, rows + v * SIDE);
	__syncthreads();
	if (t == IKV_FMT_INT4 || t == IKV_FMT_INT4_RESIDUAL) {
		for (uint32_t v = 0; v < SIDES; v++)
			pack4<STEPS>(tile, t, v, tokens, rows + v * SIDE);
		__syncthreads();
	}
	copy16(to, tile, to_bytes);
}

// The rows of an item's tokens, and zeros up to the end of the last tile and of the padded row.
template <uint32_t STEPS> __device__ void append_side(const encode_shape &s, const append_item &x, bool v)
{
	constexpr uint32_t width = 16 * STEPS;
	uint32_t dim = v ? s.d_v : s.d_qk, stride = v ? x.v_stride : x.k_stride;
	uint32_t end = (x.first + x.tokens + TILE_TOKENS - 1) / TILE_TOKENS * TILE_TOKENS;
	const uint16_t *rows = reinterpret_cast<const uint16_t *>(v ? x.v : x.k);
	for (uint32_t i = threadIdx.x; i < (end - x.first) * width; i += THREADS) {
		uint32_t row = i / width, c = i % width, token = x.first + row;
		uint8_t *tile = reinterpret_cast<uint8_t *>(x.to) +
				(uint64_t)(token / TILE_TOKENS) * layout<STEPS>::bytes(IKV_FMT_FP16);
		uint16_t value = row < x.tokens && c < dim ? rows[(uint64_t)row * stride + c] : 0;
		half_at(tile, layout<STEPS>::at16(v, token % TILE_TOKENS, c)) = value;
	}
}

template <uint32_t STEPS>
__global__ void __launch_bounds__(THREADS) append_rows(const __grid_constant__ encode_shape shape, const append_item *items)
{
	append_item x = items[blockIdx.x];
	append_side<STEPS>(shape, x, false);
	if (!layout<STEPS>::LATENT)
		append_side<STEPS>(shape, x, true);
}

template <uint32_t STEPS>
void launch(const encode_shape *shape, const encode_pair *pairs, const append_item *items, uint32_t count, cudaStream_t stream)
{
	dim3 tiles(count, (shape->page_tokens + TILE_TOKENS - 1) / TILE_TOKENS);
	if (pairs)
		encode_pages<STEPS><<<tiles, THREADS, 0, stream>>>(*shape, pairs);
	else
		append_rows<STEPS><<<count, THREADS, 0, stream>>>(*shape, items);
}

int launch_any(const encode_shape *shape, const encode_pair *pairs, const append_item *items, uint32_t count, void *s)
{
	cudaStream_t stream = (cudaStream_t)s;
	switch (shape->latent ? LATENT_STEPS : shape->steps) {
	case 4:
		launch<4>(shape, pairs, items, count, stream);
		break;
	case 5:
		launch<5>(shape, pairs, items, count, stream);
		break;
	case 6:
		launch<6>(shape, pairs, items, count, stream);
		break;
	case 8:
		launch<8>(shape, pairs, items, count, stream);
		break;
	case 16:
		launch<16>(shape, pairs, items, count, stream);
		break;
	case LATENT_STEPS:
		launch<LATENT_STEPS>(shape, pairs, items, count, stream);
		break;
	default:
		return cudaErrorInvalidValue;
	}
	return cudaGetLastError();
}

} // namespace

int encode_launch(const encode_shape *shape, const encode_pair *pairs, uint32_t count, void *stream)
{
	return launch_any(shape, pairs, nullptr, count, stream);
}

int append_launch(const encode_shape *shape, const append_item *items, uint32_t count, void *stream)
{
	return launch_any(shape, nullptr, items, count, stream);
}
