// Codes of a tile in shared memory as operands of the matrix instruction.
//
// An FP16 number whose highest five bits are zero is a multiple of 2^-24, its bits the multiple, up to 2^11 (where the
// exponent is 1 the step is the same). So integers need no conversion: bits 0 to 3 of a half are a 4-bit code in the
// unit 2^-24, bits 4 to 7 one in the unit 2^-20. The first kind has rows g of an operand, the second rows g + 8, so that
// the unit belongs to the row. Products with such numbers are exact, but their sums have the bits that the least
// exponent gives them: codes of 2 bits, which would have few, are moved to the highest places, bits 6 to 9.
#ifndef GPU_ATTEND_CODE_CUH
#define GPU_ATTEND_CODE_CUH

#include "gpu/attend_ptx.cuh"
#include "gpu/gpu_tile.h"

// `count` words from `at`, as wide as it divides.
template <int count> DEVICE void load_words(uint32_t at, uint32_t w[count])
{
#pragma unroll
	for (int i = 0; i < count;) {
		if constexpr (count % 4 == 0) {
			uint4 x = load16(at + 4 * i);
			w[i] = x.x, w[i + 1] = x.y, w[i + 2] = x.z, w[i + 3] = x.w;
			i += 4;
		} else if constexpr (count % 2 == 0) {
			uint2 x = load8(at + 4 * i);
			w[i] = x.x, w[i + 1] = x.y;
			i += 2;
		} else {
			w[i] = load4(at + 4 * i);
			i++;
		}
	}
}

// Codes of K or V in steps of 16 channels: FP16 and FP8 as numbers, INT8 as biased codes, codes of fewer bits and KIVI's
// as they are. VALUES: those of V, where that makes a difference.
template <int F, int KT, bool VALUES = false> struct reader {
	static constexpr bool four = F == IKV_FMT_INT4 || F == IKV_FMT_INT4_RESIDUAL || F == IKV_FMT_KIVI4;
	static constexpr bool eight = F == IKV_FMT_INT8 || F == IKV_FMT_KIVI8;
	static constexpr bool two = F == IKV_FMT_KIVI2;
	static constexpr int join = F == IKV_FMT_FP16 || two ? 1 : four ? (int)tile_join4(KT) : (int)tile_join8(KT);
	static constexpr int count = (F == IKV_FMT_FP16 ? 4 : four || two ? 1 : 2) * join; // words that a lane loads at once
	uint32_t codes[count], remainders[count];

	// What 1 is in an operand's rows g (0) and g + 8 (1).
	DEVICE static constexpr float unit(int half)
	{
		return two ? (half ? 0x1p-16f : 0x1p-18f) : eight || (four && half == 0) ? 0x1p-24f : four ? 0x1p-20f : 1.0f;
	}

	DEVICE void load(uint32_t plane, uint32_t remainder_plane, int step, uint32_t lane)
	{
		if (step % join)
			return;
		if constexpr (two) {
			codes[0] = load_shared<uint16_t>(plane + step * 64 + lane * 2);
			return;
		}
		uint32_t at = step / join * (count * 128) + lane * (count * 4);
		load_words<count>(plane + at, codes);
		if constexpr (F == IKV_FMT_INT4_RESIDUAL)
			load_words<count>(remainder_plane + at, remainders);
	}

	DEVICE static void four_bits(uint32_t word, uint32_t a[4])
	{
		uint32_t upper = word >> 8;
		a[0] = word & 0x000f000f;
		a[1] = word & 0x00f000f0;
		a[2] = upper & 0x000f000f;
		a[3] = upper & 0x00f000f0;
	}

	DEVICE static uint32_t two_fp8(uint32_t word, bool upper)
	{
#if HAS_BULK
		uint32_t y;
		asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(y) : "h"((uint16_t)(upper ? word >> 16 : word)));
		return y;
#else
		// In FP16's place the code is its value times 2^-8.
		uint32_t x = __byte_perm(word, 0, upper ? 0x3424 : 0x1404);
		x = (x & 0x80008000) | ((x >> 1) & 0x3f803f80);
		return half2_bits(__hmul2(bits_half2(x), bits_half2(0x5c005c00)));
#endif
	}

	DEVICE void operand(int step, uint32_t a[4]) const
	{
		if constexpr (F == IKV_FMT_FP16) {
#pragma unroll
			for (int i = 0; i < 4; i++)
				a[i] = codes[i];
		} else if constexpr (F == IKV_FMT_FP8) {
#pragma unroll
			for (int i = 0; i < 4; i++)
				a[i] = two_fp8(codes[step % join * 2 + i / 2], i % 2);
		} else if constexpr (two) {
			uint32_t w = __byte_perm(codes[0], 0, 0x4140);
			a[0] = w << 6 & 0x00c000c0;
			a[1] = w << 6 & 0x03000300;
			a[2] = w << 2 & 0x00c000c0;
			a[3] = w << 2 & 0x03000300;
		} else if constexpr (eight) {
#pragma unroll
			for (int i = 0; i < 4; i++)
				a[i] = __byte_perm(codes[step % join * 2 + i / 2], 0, i % 2 ? 0x4342 : 0x4140);
		} else {
			four_bits(codes[step % join], a);
		}
	}

	DEVICE void remainder(int step, uint32_t a[4]) const
	{
		four_bits(remainders[step % join], a);
	}
};

#endif
