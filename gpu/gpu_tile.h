/* How pages lie in device memory: tiles of 16 tokens, each value where the lane that feeds it to a
 * 16x8x16 matrix instruction reads it, so that a lane loads whole words and nothing is shuffled.
 * Codes and scales are the engine's (docs/formats.md); only the order of the bytes differs. docs/gpu.md.
 *
 * A tile holds, with KT = steps of 16 channels and G = ⌈KT/2⌉ groups of 32:
 *   FP16           K [KT][512], V [KT][512]
 *   FP8, INT8      K [KT][256], V [KT][256], scales K [16], V [16]          (INT8 codes biased by 128)
 *   INT4           K [KT][128], V [KT][128], {scale, zero} K [16][G], scales V [G][16], zeros V [G][16]
 *   INT4_RESIDUAL  K, V, remainders of K and V [KT][128] each, then the same
 *   BF16           as FP16, in FP16 numbers: those of a page come from FP16 numbers and are FP16 numbers themselves
 *                  but for 65536; pages with that value are BF16_WIDE, BF16 numbers in the same places
 *   KIVI8, 4, 2    K [KT][n], V [KT][n], n = 256, 128, 64; floats {1/u, u, 0, 0}, u a power of two near the largest
 *                  scale of K; scales K [16 KT], zeros K [16 KT], scales V [G][16], zeros V [G][16]. A group of 32
 *                  tokens of K has its scales and zeros in both of its tiles
 *   SPARSE         bitmap K [16][KT], values K [16][4 KT], then V's
 * Channels are padded with zeros to one of the widths below. */
#ifndef GPU_TILE_H
#define GPU_TILE_H

#include <stdbool.h>
#include <stdint.h>
#include "intentkv/format.h"

#define TILE_TOKENS    16u
#define TILE_DIM_MAX   256u
#define TILE_BYTES_MAX (1024u * (TILE_DIM_MAX / 16))

#ifdef __CUDACC__
#define TILE_INLINE __host__ __device__ static constexpr inline
#else
#define TILE_INLINE static inline
#endif

/* Steps of 16 channels that rows of `dim` values are padded to: the kernels are compiled for these. */
TILE_INLINE uint32_t tile_steps(uint32_t dim)
{
	return dim <= 64 ? 4 : dim <= 80 ? 5 : dim <= 96 ? 6 : dim <= 128 ? 8 : 16;
}

TILE_INLINE uint32_t tile_groups(uint32_t steps)
{
	return (steps + 1) / 2;
}

/* What an entry of a page table says for a BF16 page that the formats' own tile cannot hold. */
#define TILE_BF16_WIDE 11u

TILE_INLINE uint32_t tile_format(uint32_t entry)
{
	return entry == TILE_BF16_WIDE ? IKV_FMT_BF16 : entry;
}

/* Bytes of KIVI's codes of a step of K or V; 0 for other formats. */
TILE_INLINE uint32_t tile_kivi(uint32_t format)
{
	return format == IKV_FMT_KIVI8 ? 256 : format == IKV_FMT_KIVI4 ? 128 : format == IKV_FMT_KIVI2 ? 64 : 0;
}

TILE_INLINE uint32_t tile_bytes(uint32_t format, uint32_t steps)
{
	return format == IKV_FMT_FP16 || tile_format(format) == IKV_FMT_BF16 ? 1024 * steps
	       : tile_kivi(format)   ? (2 * tile_kivi(format) + 64) * steps + 16 + 64 * tile_groups(steps)
	       : format == IKV_FMT_SPARSE                        ? 320 * steps
	       : format == IKV_FMT_FP8 || format == IKV_FMT_INT8 ? 512 * steps + 64
	       : format == IKV_FMT_INT4                          ? 256 * steps + 128 * tile_groups(steps)
	       : format == IKV_FMT_INT4_RESIDUAL                 ? 512 * steps + 128 * tile_groups(steps)
								 : 0;
}

/* Bytes of shared memory for a tile that lies in them as it lies in memory, in lines of 128 bytes: a copy between lines
 * that begin at different places takes each of them twice. Pools begin with a line. */
TILE_INLINE uint32_t tile_room(uint32_t bytes)
{
	uint32_t step = bytes & -bytes; /* of the tiles' places in a line */
	return step >= 128 ? bytes : (bytes + 128 - step + 127) & ~127u;
}

/* The formats that the kernels of heads read: those below this one, and not SKIP. */
#define GPU_FORMATS IKV_FMT_COUNT

/* Steps whose codes a lane loads as one word of up to 16 bytes, for codes of 8 and 4 bits. */
TILE_INLINE uint32_t tile_join8(uint32_t steps)
{
	return steps % 2 == 0 ? 2 : 1;
}

TILE_INLINE uint32_t tile_join4(uint32_t steps)
{
	return steps % 4 == 0 ? 4 : steps % 2 == 0 ? 2 : 1;
}

#ifndef __CUDACC__
#include <stddef.h>

/* One page of one KV head between the engine's stored form and tiles. `format`: of the entry. k and v are what ikv_format_encode wrote
 * for `tokens` rows; `tiles` is ⌈tokens/16⌉ tiles of tile_bytes. */
/* Does a page of BF16 hold a number that FP16 does not? Then it is packed as TILE_BF16_WIDE. */
int gpu_tile_wide(const uint8_t *stored, size_t values);
void gpu_tile_pack(uint32_t format, uint32_t tokens, uint32_t d_qk, uint32_t d_v, uint32_t steps,
		   const uint8_t *k, const uint8_t *v, uint8_t *tiles);
void gpu_tile_unpack(uint32_t format, uint32_t tokens, uint32_t d_qk, uint32_t d_v, uint32_t steps,
		     const uint8_t *tiles, uint8_t *k, uint8_t *v);
#endif
#endif
