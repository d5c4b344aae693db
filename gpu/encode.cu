// Re-encoding of pages and appending of rows. A block takes a tile of 16 tokens of one KV head, K and V. Threads read its
// values in the order in which they lie, eight at a time, make FP16 rows of them in shared memory, find the scales row by
// row, and write the new form in the order in which that lies.
//
// Same bits as the engine's codecs: their operations in their order, each rounded (no fused multiply-add but inside a
// division, which is to nearest), as engine/quant/*.c have them.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include "gpu/encode.h"
#include "gpu/mla_tile.h"
#include "gpu/tile_place.h"

namespace {

constexpr uint32_t THREADS = 256, EIGHT = 8; // EIGHT: values of a unit

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

// The layout of heads, whose rows are padded to STEPS steps of 16 channels, and that of latent rows (STEPS of 36): units
// of eight values that lie side by side, and where scales and zeros are.
constexpr uint32_t LATENT_STEPS = MLA_DIM / 16;

template <uint32_t STEPS> struct layout {
	static constexpr bool LATENT = false;
	static constexpr uint32_t SIDES = 2, WIDTH = 16 * STEPS, GROUPS = tile_groups(STEPS), UNITS = TILE_TOKENS * WIDTH / EIGHT;
	__device__ static uint32_t bytes(uint32_t f)
	{
		return tile_bytes(f, STEPS);
	}
	// Token and channel of value k of unit i.
	__device__ static void place(bool v, uint32_t i, uint32_t k, uint32_t *token, uint32_t *c)
	{
		uint32_t lane = i % 32, row = lane / 4 + k / 2 % 2 * 8, col = lane % 4 * 2 + k % 2 + k / 4 * 8;
		*token = v ? col : row;
		*c = i / 32 * 16 + (v ? row : col);
	}
	// The same of the 4-bit code whose shift in the unit's word is 4k.
	__device__ static void place4(bool v, uint32_t i, uint32_t k, uint32_t *token, uint32_t *c)
	{
		place(v, i, k % 4 * 2 + k / 4, token, c);
	}
	__device__ static uint32_t at16(bool v, uint32_t i)
	{
		return tile_planes_of(IKV_FMT_FP16, STEPS, v).codes + 16 * i;
	}
	__device__ static uint32_t at8(bool v, uint32_t i)
	{
		return tile_planes_of(IKV_FMT_INT8, STEPS, v).codes + tile_at8(STEPS, i / 32, tile_place{i % 32, 0});
	}
	__device__ static uint32_t at4(uint32_t f, bool v, uint32_t i, bool rest)
	{
		tile_planes at = tile_planes_of(f, STEPS, v);
		return (rest ? at.remainders : at.codes) + tile_bit4(STEPS, i / 32, tile_place{i % 32, 0}) / 8;
	}
	__device__ static uint32_t scale8(bool v, uint32_t token)
	{
		return tile_planes_of(IKV_FMT_INT8, STEPS, v).params + 2 * (v ? tile_v_token(token) : token);
	}
	__device__ static uint32_t param4(uint32_t f, bool v, uint32_t token, uint32_t group, bool zero)
	{
		return tile_planes_of(f, STEPS, v).params + 2 * (!v     ? 2 * (token * GROUPS + group) + zero
								 : zero ? tile_v_zero(GROUPS, token, group)
									: tile_v_scale(GROUPS, token, group));
	}
	// A value by itself, in an FP16 tile.
	__device__ static uint32_t value16(bool v, uint32_t token, uint32_t c)
	{
		return tile_planes_of(IKV_FMT_FP16, STEPS, v).codes + tile_at16(c / 16, tile_place_in(v, token, c));
	}
};

template <> struct layout<LATENT_STEPS> {
	static constexpr bool LATENT = true;
	static constexpr uint32_t SIDES = 1, WIDTH = MLA_DIM, GROUPS = MLA_DIM / 32, UNITS = TILE_TOKENS * MLA_DIM / EIGHT;
	static constexpr uint32_t ROW = MLA_DIM / EIGHT; // units of a row: 16 channels have two of them
	__device__ static uint32_t bytes(uint32_t f)
	{
		return 2 * mla_group_bytes(f);
	}
	__device__ static uint32_t base(uint32_t f, uint32_t token)
	{
		return token / MLA_GROUP * mla_group_bytes(f);
	}
	__device__ static void place(bool, uint32_t i, uint32_t k, uint32_t *token, uint32_t *c)
	{
		*token = i / ROW;
		*c = i % ROW / 2 * 16 + mla_channel(i % 2 * 8 + k);
	}
	__device__ static void place4(bool, uint32_t i, uint32_t k, uint32_t *token, uint32_t *c)
	{
		*token = i / ROW;
		*c = i % ROW / 2 * 16 + mla_channel(i % 2 * 4 + k / 2 + k % 2 * 8);
	}
	__device__ static uint32_t of(uint32_t f, uint32_t i, uint32_t first)
	{
		uint32_t token = i / ROW, c = i % ROW / 2 * 16 + mla_channel(first);
		return base(f, token) + mla_value_at(f, token % MLA_GROUP, c).byte;
	}
	__device__ static uint32_t at16(bool, uint32_t i)
	{
		return of(IKV_FMT_FP16, i, i % 2 * 8);
	}
	__device__ static uint32_t at8(bool, uint32_t i)
	{
		return of(IKV_FMT_INT8, i, i % 2 * 8);
	}
	__device__ static uint32_t at4(uint32_t f, bool, uint32_t i, bool rest)
	{
		return of(f, i, i % 2 * 4) + 256 * rest;
	}
	__device__ static uint32_t scale8(bool, uint32_t token)
	{
		return base(IKV_FMT_INT8, token) + 2 * (token % MLA_GROUP);
	}
	__device__ static uint32_t param4(uint32_t f, bool, uint32_t token, uint32_t group, bool zero)
	{
		return base(f, token) + mla_param_at(f, token % MLA_GROUP, group) + 2 * zero;
	}
	__device__ static uint32_t value16(bool, uint32_t token, uint32_t c)
	{
		return base(IKV_FMT_FP16, token) + mla_value_at(IKV_FMT_FP16, token % MLA_GROUP, c).byte;
	}
};

// What a block has in shared memory. Rows are padded so that neither rows nor columns meet in a bank.
template <uint32_t STEPS> struct room {
	using at = layout<STEPS>;
	static constexpr uint32_t STRIDE = at::WIDTH + 8;
	__align__(16) uint16_t rows[at::SIDES][TILE_TOKENS][STRIDE];
	// Of groups of 32 channels; formats with a scale a token use the first.
	float scale[at::SIDES][TILE_TOKENS][at::GROUPS], zero[at::SIDES][TILE_TOKENS][at::GROUPS];
	float inverse[at::SIDES][TILE_TOKENS][at::GROUPS]; // of the scale, where one is made
};

__device__ bool is8(uint32_t f)
{
	return f == IKV_FMT_FP8 || f == IKV_FMT_INT8;
}

__device__ uint16_t stored_half(const uint8_t *tile, uint32_t byte)
{
	return *reinterpret_cast<const uint16_t *>(tile + byte);
}

__device__ void store_half(uint8_t *tile, uint32_t byte, uint16_t h)
{
	*reinterpret_cast<uint16_t *>(tile + byte) = h;
}

template <uint32_t STEPS> __device__ void read_params(room<STEPS> &m, uint32_t f, const uint8_t *tile)
{
	using at = layout<STEPS>;
	uint32_t groups = is8(f) ? 1 : at::GROUPS;
	for (uint32_t i = threadIdx.x; i < at::SIDES * TILE_TOKENS * groups; i += THREADS) {
		uint32_t g = i % groups, token = i / groups % TILE_TOKENS, v = i / groups / TILE_TOKENS;
		m.scale[v][token][g] = half_float(stored_half(tile, is8(f) ? at::scale8(v, token) : at::param4(f, v, token, g, false)));
		if (!is8(f))
			m.zero[v][token][g] = half_float(stored_half(tile, at::param4(f, v, token, g, true)));
	}
}

// Units to rows; zeros for what is no value of the page.
template <uint32_t STEPS>
__device__ void decode_units(room<STEPS> &m, uint32_t f, const encode_shape &s, uint32_t tokens, const uint8_t *tile)
{
	using at = layout<STEPS>;
	for (uint32_t u = threadIdx.x; u < at::SIDES * at::UNITS; u += THREADS) {
		uint32_t v = u / at::UNITS, i = u % at::UNITS, dim = v ? s.d_v : s.d_qk, token, c;
		uint4 raw = make_uint4(0, 0, 0, 0);
		if (f == IKV_FMT_FP16) {
			raw = *reinterpret_cast<const uint4 *>(tile + at::at16(v, i));
		} else if (is8(f)) {
			uint2 two = *reinterpret_cast<const uint2 *>(tile + at::at8(v, i));
			raw.x = two.x;
			raw.y = two.y;
		} else {
			raw.x = *reinterpret_cast<const uint32_t *>(tile + at::at4(f, v, i, false));
			if (f == IKV_FMT_INT4_RESIDUAL)
				raw.y = *reinterpret_cast<const uint32_t *>(tile + at::at4(f, v, i, true));
		}
		uint32_t word[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
		for (uint32_t k = 0; k < EIGHT; k++) {
			uint16_t h;
			if (f == IKV_FMT_FP16) {
				at::place(v, i, k, &token, &c);
				h = word[k / 2] >> k % 2 * 16;
			} else if (is8(f)) {
				at::place(v, i, k, &token, &c);
				uint8_t code = word[k / 4] >> k % 4 * 8;
				float x = f == IKV_FMT_FP8 ? e4m3_value(code) : (float)(int8_t)(code ^ 0x80);
				h = half_saturated(__fmul_rn(x, m.scale[v][token][0]));
			} else {
				at::place4(v, i, k, &token, &c);
				float scale = m.scale[v][token][c / 32];
				float x = __fadd_rn(m.zero[v][token][c / 32], __fmul_rn((float)(word[0] >> 4 * k & 15), scale));
				if (f == IKV_FMT_INT4_RESIDUAL) {
					float rest = __fsub_rn((float)(word[1] >> 4 * k & 15), 7.5f);
					x = __fadd_rn(x, __fmul_rn(rest, divide(scale, 15, 1 / 15.f)));
				}
				h = half_saturated(x);
			}
			m.rows[v][token][c] = token < tokens && c < dim ? h : 0;
		}
	}
}

// A scale a token, by THREADS / rows neighbouring threads.
template <uint32_t STEPS> __device__ void scale_rows(room<STEPS> &m, uint32_t f, uint8_t *tile)
{
	using at = layout<STEPS>;
	constexpr uint32_t MEMBERS = THREADS / (at::SIDES * TILE_TOKENS);
	uint32_t row = threadIdx.x / MEMBERS, member = threadIdx.x % MEMBERS, token = row % TILE_TOKENS, v = row / TILE_TOKENS;
	const uint32_t *pairs = reinterpret_cast<const uint32_t *>(m.rows[v][token]);
	uint32_t low = 0, high = 0; // magnitudes of FP16 numbers are in the order of their bits
	for (uint32_t i = member; i < at::WIDTH / 2; i += MEMBERS) {
		low = max(low, pairs[i] & 0x7fff);
		high = max(high, pairs[i] >> 16 & 0x7fff);
	}
	uint32_t most = max(low, high);
	for (uint32_t i = MEMBERS / 2; i; i /= 2)
		most = max(most, __shfl_xor_sync(~0u, most, i));
	uint16_t h = half_up(__fdiv_rn(half_float(most), f == IKV_FMT_FP8 ? 448.f : 127.f));
	if (member)
		return;
	store_half(tile, at::scale8(v, token), h);
	m.scale[v][token][0] = h ? half_float(h) : 1;
	m.inverse[v][token][0] = __frcp_rn(m.scale[v][token][0]);
}

// Least and largest value of a group; of equal ones the first gives its bits, since zeros have two forms.
__device__ void group_range(const uint16_t *x, uint32_t width, uint16_t *least, float *high)
{
	uint32_t first = 0;
	float low = half_float(x[0]), top = low;
	for (uint32_t c = 1; c < width; c++) {
		float y = half_float(x[c]);
		first = y < low ? c : first;
		low = fminf(low, y);
		top = fmaxf(top, y);
	}
	*least = x[first];
	*high = top;
}

// The same of 32 values, two at a time.
__device__ void whole_group_range(const uint16_t *x, uint16_t *least, float *high)
{
	const __half2 *pairs = reinterpret_cast<const __half2 *>(x);
	__half2 low = pairs[0], top = low;
#pragma unroll
	for (uint32_t i = 1; i < 16; i++) {
		low = __hmin2(low, pairs[i]);
		top = __hmax2(top, pairs[i]);
	}
	__half l = __hmin(__low2half(low), __high2half(low)), t = __hmax(__low2half(top), __high2half(top));
	*least = __half_as_ushort(l);
	*high = __half2float(t);
	if ((*least & 0x7fff) == 0)
		group_range(x, 32, least, high);
}

// Scale and zero a group, a thread each.
template <uint32_t STEPS>
__device__ void scale_groups(room<STEPS> &m, uint32_t f, const encode_shape &s, uint32_t tokens, uint8_t *tile)
{
	using at = layout<STEPS>;
	for (uint32_t i = threadIdx.x; i < at::SIDES * TILE_TOKENS * at::GROUPS; i += THREADS) {
		uint32_t token = i % TILE_TOKENS, g = i / TILE_TOKENS % at::GROUPS, v = i / TILE_TOKENS / at::GROUPS;
		uint32_t dim = v ? s.d_v : s.d_qk;
		uint16_t zero = 0, h = 0;
		if (token < tokens && 32 * g < dim) {
			const uint16_t *x = m.rows[v][token] + 32 * g;
			float high;
			if (dim - 32 * g >= 32)
				whole_group_range(x, &zero, &high);
			else
				group_range(x, dim - 32 * g, &zero, &high);
			h = half_up(__fdiv_rn(fabsf(__fsub_rn(high, half_float(zero))), 15));
		}
		store_half(tile, at::param4(f, v, token, g, false), h);
		store_half(tile, at::param4(f, v, token, g, true), zero);
		m.scale[v][token][g] = h ? half_float(h) : 1;
		m.inverse[v][token][g] = __frcp_rn(m.scale[v][token][g]);
		m.zero[v][token][g] = half_float(zero);
	}
}

__device__ uint32_t code8(uint32_t f, uint16_t h, float scale, float inverse)
{
	float y = divide(half_float(h & 0x7fff), scale, inverse);
	uint32_t minus = h >> 15; // also of a zero
	int n = __float2int_rn(y);
	return f == IKV_FMT_FP8 ? e4m3_code(y) | minus << 7 : (uint32_t)((minus ? -n : n) & 0xff) ^ 0x80;
}

// The code, and its remainder's eight bits up.
__device__ uint32_t codes4(uint32_t f, uint16_t h, float scale, float inverse, float zero)
{
	float y = __fsub_rn(half_float(h), zero);
	uint32_t code = code4(divide(y, scale, inverse));
	if (f != IKV_FMT_INT4_RESIDUAL)
		return code;
	float r = __fsub_rn(y, __fmul_rn((float)code, scale));
	return code | code4(__fadd_rn(__fmul_rn(divide(r, scale, inverse), 15), 7.5f)) << 8;
}

// Rows to units; zeros for what is no value of the page.
template <uint32_t STEPS>
__device__ void encode_units(const room<STEPS> &m, uint32_t f, const encode_shape &s, uint32_t tokens, uint8_t *tile)
{
	using at = layout<STEPS>;
	for (uint32_t u = threadIdx.x; u < at::SIDES * at::UNITS; u += THREADS) {
		uint32_t v = u / at::UNITS, i = u % at::UNITS, dim = v ? s.d_v : s.d_qk, token, c, word[4] = {0, 0, 0, 0};
#pragma unroll
		for (uint32_t k = 0; k < EIGHT; k++) {
			if (f == IKV_FMT_FP16 || is8(f))
				at::place(v, i, k, &token, &c);
			else
				at::place4(v, i, k, &token, &c);
			uint16_t h = m.rows[v][token][c];
			bool there = token < tokens && c < dim;
			if (f == IKV_FMT_FP16) {
				word[k / 2] |= (uint32_t)h << k % 2 * 16;
			} else if (is8(f)) {
				uint32_t code = code8(f, h, m.scale[v][token][0], m.inverse[v][token][0]);
				word[k / 4] |= (there ? code : 0) << k % 4 * 8;
			} else {
				uint32_t g = c / 32;
				uint32_t code = codes4(f, h, m.scale[v][token][g], m.inverse[v][token][g], m.zero[v][token][g]);
				code = there ? code : 0;
				word[0] |= (code & 15) << 4 * k;
				word[1] |= (code >> 8) << 4 * k;
			}
		}
		if (f == IKV_FMT_FP16) {
			*reinterpret_cast<uint4 *>(tile + at::at16(v, i)) = make_uint4(word[0], word[1], word[2], word[3]);
		} else if (is8(f)) {
			*reinterpret_cast<uint2 *>(tile + at::at8(v, i)) = make_uint2(word[0], word[1]);
		} else {
			*reinterpret_cast<uint32_t *>(tile + at::at4(f, v, i, false)) = word[0];
			if (f == IKV_FMT_INT4_RESIDUAL)
				*reinterpret_cast<uint32_t *>(tile + at::at4(f, v, i, true)) = word[1];
		}
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
	__shared__ room<STEPS> m;
	encode_pair pair = pairs[blockIdx.x];
	uint32_t f = pair.from & 15, t = pair.to & 15, tokens = min(shape.page_tokens - blockIdx.y * TILE_TOKENS, TILE_TOKENS);
	const uint8_t *from = reinterpret_cast<const uint8_t *>(pair.from & ~15ull) + (uint64_t)blockIdx.y * at::bytes(f);
	uint8_t *to = reinterpret_cast<uint8_t *>(pair.to & ~15ull) + (uint64_t)blockIdx.y * at::bytes(t);
	if (f == IKV_FMT_INT4_RESIDUAL && t == IKV_FMT_INT4) {
		drop_rest<STEPS>(from, to);
		return;
	}
	if (f != IKV_FMT_FP16) {
		read_params<STEPS>(m, f, from);
		__syncthreads();
	}
	decode_units<STEPS>(m, f, shape, tokens, from);
	__syncthreads();
	if (t != IKV_FMT_FP16) {
		if (is8(t))
			scale_rows<STEPS>(m, t, to);
		else
			scale_groups<STEPS>(m, t, shape, tokens, to);
		__syncthreads();
	}
	encode_units<STEPS>(m, t, shape, tokens, to);
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
		store_half(tile, layout<STEPS>::value16(v, token % TILE_TOKENS, c), value);
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
