/* How latent pages lie in device memory: groups of 8 tokens, each value where the matrix units find it once the
 * group is copied to shared memory, so that a group is one copy. docs/gpu.md.
 *
 * A row is padded with zeros to 576 channels, 9 chunks of 64. Inside 16 channels the order is 0 1 4 5 8 9 12 13 2 3
 * 6 7 10 11 14 15: a lane then holds four neighbouring channels of an answer. Of a chunk, per token:
 *   FP16           128 bytes; the 16-byte unit u of token t is at place u xor t (the units' 128-byte swizzle)
 *   FP8, INT8      64 bytes (INT8 codes biased by 128); before the first chunk the scales of the 8 tokens
 *   INT4           32 bytes, 16 of them a group of 32 channels; before the codes {scale, zero} [8 tokens][2]
 *   INT4_RESIDUAL  the same with 32 bytes of remainders after the codes of all tokens
 * A code of 4 bits: place i of 16 is in byte i % 8, its low half where i < 8. */
#ifndef GPU_MLA_TILE_H
#define GPU_MLA_TILE_H

#include <stdint.h>
#include "gpu/gpu_tile.h"

#define MLA_DIM    576u
#define MLA_CHUNKS 9u
#define MLA_GROUP  8u /* tokens */

/* The formats that the kernels of latents read: those below this one, and not SKIP. */
#define MLA_FORMATS (IKV_FMT_INT4_RESIDUAL + 1)

/* Bytes of a group in its FP16 form, which is also its place in shared memory. */
#define MLA_GROUP_BYTES (MLA_CHUNKS * 1024u)

TILE_INLINE uint32_t mla_chunk_bytes(uint32_t format)
{
	return format == IKV_FMT_FP16                            ? 1024
	       : format == IKV_FMT_FP8 || format == IKV_FMT_INT8 ? 512
	       : format == IKV_FMT_INT4                          ? 320
	       : format == IKV_FMT_INT4_RESIDUAL                 ? 576
								 : 0;
}

TILE_INLINE uint32_t mla_head_bytes(uint32_t format)
{
	return format == IKV_FMT_FP8 || format == IKV_FMT_INT8 ? 16 : 0;
}

TILE_INLINE uint32_t mla_group_bytes(uint32_t format)
{
	return mla_head_bytes(format) + MLA_CHUNKS * mla_chunk_bytes(format);
}

/* Channel at place `i` of 16, and the place of channel `i`. */
TILE_INLINE uint32_t mla_channel(uint32_t i)
{
	return i % 8 / 2 * 4 + i / 8 * 2 + i % 2;
}

TILE_INLINE uint32_t mla_place(uint32_t i)
{
	return i / 4 * 2 + i % 4 / 2 * 8 + i % 2;
}

/* Where a value is: the byte in its group, and for codes of 4 bits the shift (remainders: 256 bytes on). */
struct mla_at {
	uint32_t byte, shift;
};

TILE_INLINE struct mla_at mla_value_at(uint32_t format, uint32_t token, uint32_t channel)
{
	uint32_t piece = channel % 64 / 16, i = mla_place(channel % 16), unit = piece * 2 + i / 8,
		 base = mla_head_bytes(format) + channel / 64 * mla_chunk_bytes(format);
	struct mla_at fp16 = {base + token * 128 + (unit ^ token) * 16 + i % 8 * 2, 0};
	struct mla_at codes8 = {base + token * 64 + piece * 16 + i, 0};
	struct mla_at codes4 = {base + 64 + token * 32 + piece * 8 + i % 8, i / 8 * 4};
	return format == IKV_FMT_FP16                                   ? fp16
	       : format == IKV_FMT_FP8 || format == IKV_FMT_INT8 ? codes8
									 : codes4;
}

/* Byte of the scale of a group of 32 channels; its zero follows. */
TILE_INLINE uint32_t mla_param_at(uint32_t format, uint32_t token, uint32_t group)
{
	return group / 2 * mla_chunk_bytes(format) + token * 8 + group % 2 * 4;
}

#ifndef __CUDACC__
#include <stddef.h>

/* One page of one KV head between the engine's stored form and groups. k is what ikv_format_encode wrote for
 * `tokens` rows of `dim` values; `groups` is two groups for each 16 tokens. */
void mla_tile_pack(enum ikv_format format, uint32_t tokens, uint32_t dim, const uint8_t *k, uint8_t *groups);
void mla_tile_unpack(enum ikv_format format, uint32_t tokens, uint32_t dim, const uint8_t *groups, uint8_t *k);
#endif
#endif
