// What both kernels of latent attention do alike: find a group of tokens, and widen its codes to FP16.
#ifndef GPU_MLA_PART_CUH
#define GPU_MLA_PART_CUH

#include "gpu/attend_ptx.cuh"
#include "gpu/mla.h"

#define LOG2E 1.4426950408889634f
#define LN2   0.6931471805599453f

struct group_note {
	uint64_t at;   // address, with the format in the low four bits; 0: no token of it takes part
	uint32_t mask; // bit t: token t takes part
};

DEVICE group_note find_group(const mla_segment &s, uint32_t group, uint32_t page_groups)
{
	group_note note = {0, 0};
	if (group >= s.end)
		return note;
	uint32_t page = group / page_groups, in = group % page_groups, t = in * MLA_GROUP;
	ikv_page_ref ref = s.refs[page];
	attend_entry entry = s.table[(uint64_t)ref.page * s.stride];
	uint32_t format = (uint32_t)entry & 15;
	uint32_t from = ref.lo > t ? ref.lo - t : 0, to = ref.hi > t ? ref.hi - t : 0;
	from = from < MLA_GROUP ? from : MLA_GROUP;
	to = to < MLA_GROUP ? to : MLA_GROUP;
	note.mask = to > from ? (0xffu >> (MLA_GROUP - to)) & (0xffu << from) : 0;
	if (note.mask && ref.mask != IKV_NO_MASK)
		note.mask &= (uint32_t)(s.masks[ref.mask + t / 64] >> t % 64) & 0xff;
	if (note.mask)
		note.at = entry + (uint64_t)in * mla_group_bytes(format);
	return note;
}

DEVICE void store16(uint32_t at, uint4 x)
{
	asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(at), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w) : "memory");
}

// Two E4M3 codes, times 1: exact.
DEVICE __half2 widen_fp8(uint32_t word, bool upper)
{
#if HAS_BULK
	uint32_t y;
	asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(y) : "h"((uint16_t)(upper ? word >> 16 : word)));
	return bits_half2(y);
#else
	uint32_t x = __byte_perm(word, 0, upper ? 0x3424 : 0x1404);
	return __hmul2(bits_half2((x & 0x80008000u) | (x >> 1 & 0x3f803f80u)), __float2half2_rn(256));
#endif
}

DEVICE __half2 widen_int8(uint32_t word, bool upper)
{
	uint32_t x = __byte_perm(word, 0x64646464u, upper ? 0x4342 : 0x4140); // 1024 + biased code
	return __hsub2(bits_half2(x), __float2half2_rn(1152));
}

// A value beyond FP16's range by the rounding of its scale is the largest number.
DEVICE __half2 saturate(__half2 x)
{
	const __half2 most = __float2half2_rn(65504);
	return __hmax2(__hmin2(x, most), __hneg2(most));
}

template <uint32_t format, bool clamp> DEVICE uint4 widen8(uint32_t a, uint32_t b, __half2 scale)
{
	__half2 x[4];
#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint32_t word = i < 2 ? a : b;
		x[i] = __hmul2(format == IKV_FMT_FP8 ? widen_fp8(word, i % 2) : widen_int8(word, i % 2), scale);
		if (clamp)
			x[i] = saturate(x[i]);
	}
	return make_uint4(half2_bits(x[0]), half2_bits(x[1]), half2_bits(x[2]), half2_bits(x[3]));
}

// 8 codes of 4 bits, in the low halves of the bytes, with their remainders if `step` is a fifteenth of the scale.
DEVICE uint4 widen4(uint2 codes, uint2 remainders, float step, float zero, bool residual)
{
	uint32_t y[4];
#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint32_t c = (i < 2 ? codes.x : codes.y) >> i % 2 * 16, r = (i < 2 ? remainders.x : remainders.y) >> i % 2 * 16;
		float c0 = (float)(c & 15), c1 = (float)(c >> 8 & 15);
		if (residual) {
			c0 = 15 * c0 + (float)(r & 15);
			c1 = 15 * c1 + (float)(r >> 8 & 15);
		}
		y[i] = half2_bits(saturate(__floats2half2_rn(fmaf(c0, step, zero), fmaf(c1, step, zero))));
	}
	return make_uint4(y[0], y[1], y[2], y[3]);
}

// What a lane holds of a group between memory and its place in shared memory: the whole of it where it is codes, so that
// they are widened on the way, in FP16 the first HELD_CHUNKS chunks.
#define HELD_CHUNKS 4u

struct held {
	uint32_t x[41];
};

// 16 bytes that no other load of this block reads.
DEVICE void load_once16(uint32_t *x, uint64_t from, uint64_t policy)
{
	asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0,%1,%2,%3}, [%4], %5;"
		     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
		     : "l"(from), "l"(policy));
}

DEVICE void load_once8(uint32_t *x, uint64_t from, uint64_t policy)
{
	asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v2.u32 {%0,%1}, [%2], %3;"
		     : "=r"(x[0]), "=r"(x[1])
		     : "l"(from), "l"(policy));
}

DEVICE uint32_t load_param(uint64_t from)
{
	uint32_t x;
	asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(x) : "l"(from));
	return x;
}

// Ask for a group's bytes; nothing waits for them before hand_chunks. `at`: as in a group_note.
DEVICE void ask_group(held &h, uint64_t at, uint32_t lane, uint64_t policy)
{
	uint32_t format = (uint32_t)at & 15;
	at &= ~(uint64_t)15;
	if (format == IKV_FMT_FP16) {
#pragma unroll
		for (uint32_t i = 0; i < HELD_CHUNKS * 2; i++)
			load_once16(&h.x[4 * i], at + i * 512 + lane * 16, policy);
	} else if (format == IKV_FMT_FP8 || format == IKV_FMT_INT8) {
#pragma unroll
		for (uint32_t c = 0; c < MLA_CHUNKS; c++)
			load_once16(&h.x[4 * c], at + 16 + c * 512 + lane * 16, policy);
		h.x[36] = load_param(at + lane / 8 * 4);
	} else if (at) {
		bool residual = format == IKV_FMT_INT4_RESIDUAL;
		uint32_t step = mla_chunk_bytes(format);
#pragma unroll
		for (uint32_t i = 0; i < 5; i++) // {scale, zero} of chunks 2i and 2i + 1, 16 lanes each
			h.x[36 + i] = load_param(at + (2 * i + (i < 4 ? lane / 16 : 0)) * step + lane % 16 * 4);
#pragma unroll
		for (uint32_t c = 0; c < MLA_CHUNKS; c++) {
			load_once8(&h.x[2 * c], at + c * step + 64 + lane * 8, policy);
			if (residual)
				load_once8(&h.x[18 + 2 * c], at + c * step + 320 + lane * 8, policy);
		}
	}
}

template <uint32_t format, bool clamp>
DEVICE void widen_chunks8(const held &h, __half2 scale, uint32_t to, uint32_t lane, uint32_t first, uint32_t end)
{
	uint32_t token = lane / 4, unit = lane % 4 * 2;
#pragma unroll
	for (uint32_t c = 0; c < MLA_CHUNKS; c++) {
		if (c < first || c >= end)
			continue;
		const uint32_t *x = &h.x[4 * c];
		uint32_t row = to + token * 128 + c * 1024;
		store16(row + ((unit ^ token) * 16), widen8<format, clamp>(x[0], x[1], scale));
		store16(row + (((unit + 1) ^ token) * 16), widen8<format, clamp>(x[2], x[3], scale));
	}
}

// Few scales are so large that values can be beyond FP16's range.
template <uint32_t format> DEVICE void widen_chunks8(const held &h, uint32_t to, uint32_t lane, uint32_t first, uint32_t end)
{
	uint32_t bits = h.x[36] >> lane / 4 % 2 * 16 & 0xffff;
	__half2 scale = bits_half2(bits | bits << 16);
	if (__any_sync(~0u, __half2float(__low2half(scale)) >= 146))
		widen_chunks8<format, true>(h, scale, to, lane, first, end);
	else
		widen_chunks8<format, false>(h, scale, to, lane, first, end);
}

DEVICE void widen_chunks4(const held &h, uint32_t to, uint32_t lane, uint32_t first, uint32_t end, bool residual)
{
	uint32_t token = lane / 4, unit = lane % 4 * 2;
#pragma unroll
	for (uint32_t c = 0; c < MLA_CHUNKS; c++) {
		if (c < first || c >= end)
			continue;
		__half2 param = bits_half2(__shfl_sync(~0u, h.x[36 + c / 2], c % 2 * 16 + token * 2 + lane % 4 / 2));
		float scale = __low2float(param), zero = __high2float(param);
		uint2 low[2], high[2]; // of codes, and of remainders
#pragma unroll
		for (int i = 0; i < 2; i++) {
			uint32_t a = i && !residual ? 0 : h.x[18 * i + 2 * c], b = i && !residual ? 0 : h.x[18 * i + 2 * c + 1];
			low[i] = make_uint2(a & 0x0f0f0f0fu, b & 0x0f0f0f0fu);
			high[i] = make_uint2(a >> 4 & 0x0f0f0f0fu, b >> 4 & 0x0f0f0f0fu);
		}
		if (residual) {
			zero -= scale / 2;
			scale /= 15;
		}
		uint32_t row = to + token * 128 + c * 1024;
		store16(row + ((unit ^ token) * 16), widen4(low[0], low[1], scale, zero, residual));
		store16(row + (((unit + 1) ^ token) * 16), widen4(high[0], high[1], scale, zero, residual));
	}
}

// Chunks [first, end) of what ask_group asked for, as FP16, to the group's place in shared memory.
DEVICE void hand_chunks(const held &h, uint32_t format, uint32_t to, uint32_t lane, uint32_t first, uint32_t end)
{
	if (format == IKV_FMT_FP16) {
#pragma unroll
		for (uint32_t i = 0; i < HELD_CHUNKS * 2; i++)
			if (i >= 2 * first && i < 2 * end)
				store16(to + i * 512 + lane * 16, make_uint4(h.x[4 * i], h.x[4 * i + 1], h.x[4 * i + 2], h.x[4 * i + 3]));
	} else if (format == IKV_FMT_FP8) {
		widen_chunks8<IKV_FMT_FP8>(h, to, lane, first, end);
	} else if (format == IKV_FMT_INT8) {
		widen_chunks8<IKV_FMT_INT8>(h, to, lane, first, end);
	} else {
		widen_chunks4(h, to, lane, first, end, format == IKV_FMT_INT4_RESIDUAL);
	}
}

DEVICE void clear_group(uint32_t group, uint32_t lane)
{
	for (uint32_t i = lane * 16; i < MLA_GROUP_BYTES; i += 512)
		store16(group + i, make_uint4(0, 0, 0, 0));
}

#endif
