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

template <uint32_t format, bool clamp> DEVICE void expand_codes(uint32_t to, uint32_t from, __half2 scale, uint32_t lane)
{
	uint32_t token = lane / 4, unit = lane % 4 * 2;
	uint32_t low = to + token * 128 + (unit ^ token) * 16, high = to + token * 128 + ((unit + 1) ^ token) * 16;
	from += lane * 16;
#pragma unroll 1
	for (uint32_t first = 0; first < MLA_CHUNKS; first += 3) {
		uint4 x[3];
#pragma unroll
		for (uint32_t i = 0; i < 3; i++)
			x[i] = load16(from + (first + i) * 512);
		__syncwarp(); // before the codes are overwritten
#pragma unroll
		for (uint32_t i = 0; i < 3; i++) {
			store16(low + (first + i) * 1024, widen8<format, clamp>(x[i].x, x[i].y, scale));
			store16(high + (first + i) * 1024, widen8<format, clamp>(x[i].z, x[i].w, scale));
		}
	}
}

// Few scales are so large that values can be beyond FP16's range.
template <uint32_t format> DEVICE void expand8(uint32_t group, uint32_t raw, uint32_t lane)
{
	uint32_t bits = load4(raw + lane / 8 * 4) >> lane / 4 % 2 * 16 & 0xffff;
	__half2 scale = bits_half2(bits | bits << 16);
	if (__any_sync(~0u, __half2float(__low2half(scale)) >= 146))
		expand_codes<format, true>(group, raw + 16, scale, lane);
	else
		expand_codes<format, false>(group, raw + 16, scale, lane);
}

DEVICE void expand4(uint32_t group, uint32_t raw, uint32_t lane, bool residual)
{
	uint32_t token = lane / 4, piece = lane % 4, to = group + token * 128, bytes = residual ? 576 : 320;
	for (uint32_t c = 0; c < MLA_CHUNKS; c++) {
		uint32_t from = raw + c * bytes;
		__half2 param = bits_half2(load4(from + token * 8 + piece / 2 * 4));
		uint2 x = load8(from + 64 + lane * 8), r = residual ? load8(from + 320 + lane * 8) : make_uint2(0, 0);
		float scale = __low2float(param), zero = __high2float(param);
		if (residual) {
			zero -= scale / 2;
			scale /= 15;
		}
		uint2 x_low = make_uint2(x.x & 0x0f0f0f0fu, x.y & 0x0f0f0f0fu), x_high = make_uint2(x.x >> 4 & 0x0f0f0f0fu, x.y >> 4 & 0x0f0f0f0fu);
		uint2 r_high = make_uint2(r.x >> 4 & 0x0f0f0f0fu, r.y >> 4 & 0x0f0f0f0fu);
		__syncwarp();
		store16(to + c * 1024 + ((piece * 2) ^ token) * 16, widen4(x_low, r, scale, zero, residual));
		store16(to + c * 1024 + ((piece * 2 + 1) ^ token) * 16, widen4(x_high, r_high, scale, zero, residual));
	}
}

// Where a group's stored bytes wait in its place in shared memory: at the end, so that widening it chunk by chunk
// from the front never reaches codes that are still to be read.
DEVICE uint32_t raw_offset(uint32_t format)
{
	return MLA_GROUP_BYTES - mla_group_bytes(format);
}

// A warp widens a group in place.
DEVICE void expand_group(uint32_t group, uint32_t format, uint32_t lane)
{
	uint32_t raw = group + raw_offset(format);
	if (format == IKV_FMT_FP8)
		expand8<IKV_FMT_FP8>(group, raw, lane);
	else if (format == IKV_FMT_INT8)
		expand8<IKV_FMT_INT8>(group, raw, lane);
	else
		expand4(group, raw, lane, format == IKV_FMT_INT4_RESIDUAL);
}

DEVICE void clear_group(uint32_t group, uint32_t lane)
{
#pragma unroll 2
	for (uint32_t i = lane * 16; i < MLA_GROUP_BYTES; i += 512)
		store16(group + i, make_uint4(0, 0, 0, 0));
}

#endif
