// What both kernels of latent attention do alike: find a group of tokens, and widen its codes to FP16.
#ifndef GPU_MLA_PART_CUH
#define GPU_MLA_PART_CUH

#include "gpu/attend_ptx.cuh"
#include "gpu/mla.h"

#define LOG2E 1.4426950408889634f
#define LN2   0.6931471805599453f

// Address of a group's stored bytes, with its format in the low four bits and in the top eight a bit for each token that takes
// part. 0: none does.
typedef uint64_t group_note;

DEVICE uint32_t note_format(group_note note)
{
	return (uint32_t)note & 15;
}

DEVICE uint64_t note_address(group_note note)
{
	return note << 8 >> 12 << 4;
}

DEVICE uint32_t note_mask(group_note note)
{
	return (uint32_t)(note >> 56);
}

DEVICE group_note find_group(const mla_segment &s, uint32_t group, uint32_t page_groups)
{
	if (group >= s.end)
		return 0;
	uint32_t page = group / page_groups, in = group % page_groups, t = in * MLA_GROUP;
	ikv_page_ref ref = s.refs[page];
	attend_entry entry = s.table[(uint64_t)ref.page * s.stride];
	uint32_t from = ref.lo > t ? ref.lo - t : 0, to = ref.hi > t ? ref.hi - t : 0;
	from = from < MLA_GROUP ? from : MLA_GROUP;
	to = to < MLA_GROUP ? to : MLA_GROUP;
	uint32_t mask = to > from ? (0xffu >> (MLA_GROUP - to)) & (0xffu << from) : 0;
	if (mask && ref.mask != IKV_NO_MASK)
		mask &= (uint32_t)(s.masks[ref.mask + t / 64] >> t % 64) & 0xff;
	return mask ? entry + (uint64_t)in * mla_group_bytes((uint32_t)entry & 15) + ((uint64_t)mask << 56) : 0;
}

// Policy for what other blocks read soon.
DEVICE uint64_t read_again()
{
	uint64_t policy;
	asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
	return policy;
}

// Loads that are asked for where they are written.
DEVICE uint4 read16(uint64_t at, uint64_t policy)
{
	uint4 x;
	asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0,%1,%2,%3}, [%4], %5;"
		     : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
		     : "l"(at), "l"(policy));
	return x;
}

DEVICE uint2 read8(uint64_t at, uint64_t policy)
{
	uint2 x;
	asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v2.u32 {%0,%1}, [%2], %3;"
		     : "=r"(x.x), "=r"(x.y)
		     : "l"(at), "l"(policy));
	return x;
}

DEVICE uint32_t read4(uint64_t at, uint64_t policy)
{
	uint32_t x;
	asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.u32 %0, [%1], %2;" : "=r"(x) : "l"(at), "l"(policy));
	return x;
}

DEVICE uint32_t read2(uint64_t at, uint64_t policy)
{
	uint16_t x;
	asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.u16 %0, [%1], %2;" : "=h"(x) : "l"(at), "l"(policy));
	return x;
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

#define THOUSANDS 0x64646464u // a byte below one of these is an FP16 number: 1024 more than the byte

// Two bytes, less `bias` - 1024.
template <int bias> DEVICE __half2 widen_bytes(uint32_t word, bool upper, uint32_t thousands)
{
	uint32_t x = __byte_perm(word, thousands, upper ? 0x4342 : 0x4140);
	return __hsub2(bits_half2(x), __float2half2_rn(bias));
}

// A value beyond FP16's range by the rounding of its scale is the largest number.
DEVICE __half2 saturate(__half2 x)
{
	const __half2 most = __float2half2_rn(65504);
	return __hmax2(__hmin2(x, most), __hneg2(most));
}

DEVICE void saturate16(uint32_t at)
{
	uint4 x = load16(at);
	store16(at, make_uint4(half2_bits(saturate(bits_half2(x.x))), half2_bits(saturate(bits_half2(x.y))),
			       half2_bits(saturate(bits_half2(x.z))), half2_bits(saturate(bits_half2(x.w)))));
}

// Codes of 8 bits, four a word; of 4 bits in the low halves of the bytes. `scale` and `zero` are for both of a pair.
template <uint32_t format> DEVICE uint4 widen8(uint2 words, __half2 scale, __half2 zero, uint32_t thousands)
{
	uint32_t y[4];
#pragma unroll
	for (int i = 0; i < 4; i++) {
		uint32_t word = i < 2 ? words.x : words.y;
		if (format == IKV_FMT_FP8)
			y[i] = half2_bits(__hmul2(widen_fp8(word, i % 2), scale));
		else if (format == IKV_FMT_INT8)
			y[i] = half2_bits(__hmul2(widen_bytes<1152>(word, i % 2, thousands), scale));
		else
			y[i] = half2_bits(saturate(__hfma2(widen_bytes<1024>(word & 0x0f0f0f0f, i % 2, thousands), scale, zero)));
	}
	return make_uint4(y[0], y[1], y[2], y[3]);
}

// 8 codes of 4 bits with their remainders: 15 codes and a remainder times `step`.
DEVICE uint4 widen_residual(uint2 codes, uint2 remainders, float step, float zero, uint32_t thousands)
{
	uint32_t y[4];
#pragma unroll
	for (int i = 0; i < 4; i++) {
		__half2 c = widen_bytes<1024>((i < 2 ? codes.x : codes.y) & 0x0f0f0f0f, i % 2, thousands);
		__half2 r = widen_bytes<1024>((i < 2 ? remainders.x : remainders.y) & 0x0f0f0f0f, i % 2, thousands);
		float2 n = __half22float2(__hfma2(c, __float2half2_rn(15), r)); // exact
		y[i] = half2_bits(saturate(__floats2half2_rn(fmaf(n.x, step, zero), fmaf(n.y, step, zero))));
	}
	return make_uint4(y[0], y[1], y[2], y[3]);
}

// What a lane holds of a group's codes of 8 bits: its 16 channels of a token in each chunk, and the token's scale.
struct codes {
	uint4 x[MLA_CHUNKS];
	uint32_t scale;
};

DEVICE bool has_bytes(uint32_t format)
{
	return format == IKV_FMT_FP8 || format == IKV_FMT_INT8;
}

// Ask for a group's codes; nothing waits for them before they are used.
DEVICE void take_codes(codes &c, uint64_t from, uint32_t lane, uint64_t policy)
{
	c.scale = read2(from + lane / 4 * 2, policy);
#pragma unroll
	for (uint32_t i = 0; i < MLA_CHUNKS; i++)
		c.x[i] = read16(from + mla_head_bytes(IKV_FMT_FP8) + i * 512 + lane * 16, policy);
}

// Where a lane's 16 channels of its token lie in the first chunk of a group: 8 of them each.
DEVICE uint2 lane_places(uint32_t group, uint32_t lane)
{
	uint32_t token = lane / 4, unit = lane % 4 * 2;
	return make_uint2(group + token * 128 + (unit ^ token) * 16, group + token * 128 + ((unit + 1) ^ token) * 16);
}

// A warp puts a group's values into its place in shared memory, in FP16.
template <uint32_t format> DEVICE void put_bytes(uint32_t group, const codes &c, uint32_t lane)
{
	uint2 to = lane_places(group, lane);
	uint32_t thousands = in_register<THOUSANDS>();
	__half2 scale = bits_half2(c.scale | c.scale << 16);
#pragma unroll
	for (uint32_t i = 0; i < MLA_CHUNKS; i++) {
		uint4 x = c.x[i], a = widen8<format>(make_uint2(x.x, x.y), scale, scale, thousands),
		      b = widen8<format>(make_uint2(x.z, x.w), scale, scale, thousands);
		store16(to.x + i * 1024, a);
		store16(to.y + i * 1024, b);
	}
	if (__low2float(scale) < 146) // few are so large that values can be beyond FP16's range
		return;
#pragma unroll 1
	for (uint32_t i = 0; i < MLA_CHUNKS * 1024; i += 1024) {
		saturate16(to.x + i);
		saturate16(to.y + i);
	}
}

// The same for codes of 4 bits, which are waited for here, three chunks at a time.
template <uint32_t format> DEVICE void put_nibbles(uint32_t group, uint64_t from, uint32_t lane, uint64_t policy)
{
	const uint32_t bytes = format == IKV_FMT_INT4 ? 320 : 576;
	uint2 to = lane_places(group, lane);
	uint32_t thousands = in_register<THOUSANDS>();
#pragma unroll 1
	for (uint32_t first = 0; first < MLA_CHUNKS; first += 3) {
		uint2 x[3], r[3];
		uint32_t params[3];
#pragma unroll
		for (uint32_t i = 0; i < 3; i++) {
			params[i] = read4(from + i * bytes + lane / 2 * 4, policy);
			x[i] = read8(from + i * bytes + 64 + lane * 8, policy);
			r[i] = format == IKV_FMT_INT4 ? make_uint2(0, 0) : read8(from + i * bytes + 320 + lane * 8, policy);
		}
#pragma unroll
		for (uint32_t i = 0; i < 3; i++) {
			__half2 param = bits_half2(params[i]), scale = __low2half2(param), zero = __high2half2(param);
			float step = __low2float(param) * (1.0f / 15), low = __high2float(param) - __low2float(param) / 2;
			uint2 upper = make_uint2(x[i].x >> 4, x[i].y >> 4), upper_r = make_uint2(r[i].x >> 4, r[i].y >> 4);
			bool plain = format == IKV_FMT_INT4;
			store16(to.x + i * 1024, plain ? widen8<format>(x[i], scale, zero, thousands)
						       : widen_residual(x[i], r[i], step, low, thousands));
			store16(to.y + i * 1024, plain ? widen8<format>(upper, scale, zero, thousands)
						       : widen_residual(upper, upper_r, step, low, thousands));
		}
		from += 3 * bytes;
		to.x += 3 * 1024;
		to.y += 3 * 1024;
	}
}

DEVICE void clear_group(uint32_t group, uint32_t lane)
{
#pragma unroll 2
	for (uint32_t i = lane * 16; i < MLA_GROUP_BYTES; i += 512)
		store16(group + i, make_uint4(0, 0, 0, 0));
}

#endif
