/* Where in a tile of gpu/gpu_tile.h a value, a scale or a zero lies; for the host and the device. */
#ifndef GPU_TILE_PLACE_H
#define GPU_TILE_PLACE_H

#include "gpu/gpu_tile.h"

/* Where the matrix instruction wants a value: the operand A of m16n8k16 has, in lane 4g + t, rows g and g + 8 and
 * columns 2t, 2t + 1, 2t + 8, 2t + 9. Rows are K's tokens or V's channels. */
struct tile_place {
	uint32_t lane, value; /* value: 0..7 of the lane */
};

TILE_INLINE struct tile_place tile_place_of(uint32_t row, uint32_t col)
{
	struct tile_place p = {row % 8 * 4 + col % 8 / 2, col / 8 * 4 + row / 8 * 2 + col % 2};
	return p;
}

TILE_INLINE struct tile_place tile_place_in(bool is_v, uint32_t token, uint32_t channel)
{
	return is_v ? tile_place_of(channel % 16, token) : tile_place_of(token, channel % 16);
}

/* Bytes from the beginning of a plane of 16-bit values and of 8-bit codes. */
TILE_INLINE uint32_t tile_at16(uint32_t step, struct tile_place p)
{
	return 512 * step + 16 * p.lane + 2 * p.value;
}

TILE_INLINE uint32_t tile_at8(uint32_t steps, uint32_t step, struct tile_place p)
{
	uint32_t join = tile_join8(steps);
	return step / join * (join * 256) + 8 * join * p.lane + step % join * 8 + p.value;
}

/* Bit of a plane of 4-bit codes where this code begins. In a lane's word the codes of rows g lie in the lowest four
 * bits of its bytes and those of rows g + 8 above them (bits 0, 16, 4, 20, 8, 24, 12, 28): gpu/attend_code.cuh says
 * why. */
TILE_INLINE uint32_t tile_bit4(uint32_t steps, uint32_t step, struct tile_place p)
{
	uint32_t join = tile_join4(steps);
	return 8 * (step / join * (join * 128) + 4 * join * p.lane + step % join * 4) + p.value % 2 * 16 +
	       p.value / 2 * 4;
}

/* Bit of a plane of 2-bit codes. In a lane's half word the codes of rows g have bits 0, 1 (columns 2t, 2t + 1) and 4,
 * 5 (2t + 8, 2t + 9) of each byte, those of rows g + 8 bits 2, 3 and 6, 7; the low byte has the even columns. */
TILE_INLINE uint32_t tile_bit2(uint32_t step, struct tile_place p)
{
	return 8 * (64 * step + 2 * p.lane) + p.value % 2 * 8 + p.value / 4 * 4 + p.value / 2 % 2 * 2;
}

/* Where V's scales and zeros lie, in halves: the operand of weights has, in lane 4g + t, tokens 2t, 2t + 1, 2t + 8
 * and 2t + 9, and so have the scales they are multiplied by; zeros are an operand like codes, groups its rows. */
TILE_INLINE uint32_t tile_v_token(uint32_t token)
{
	return token % 8 / 2 * 4 + token / 8 * 2 + token % 2;
}

TILE_INLINE uint32_t tile_v_scale(uint32_t groups, uint32_t token, uint32_t group)
{
	return tile_v_token(token) / 4 * 4 * groups + 4 * group + tile_v_token(token) % 4;
}

TILE_INLINE uint32_t tile_v_zero(uint32_t groups, uint32_t token, uint32_t group)
{
	return 16 * groups + 16 * group + tile_v_token(token);
}

/* Offsets of K's (0) or V's (1) codes, remainders and parameters in a tile. */
struct tile_planes {
	uint32_t codes, remainders, params;
};

TILE_INLINE struct tile_planes tile_planes_of(uint32_t format, uint32_t steps, bool is_v)
{
	uint32_t v = is_v, params = 64 * tile_groups(steps);
	struct tile_planes fp16 = {512 * steps * v, 0, 0};
	struct tile_planes int4 = {128 * steps * v, 0, 256 * steps + params * v};
	struct tile_planes residual = {128 * steps * v, 256 * steps + 128 * steps * v, 512 * steps + params * v};
	struct tile_planes codes8 = {256 * steps * v, 0, 512 * steps + 32 * v};
	uint32_t kivi = tile_kivi(format) * steps;
	struct tile_planes kivis = {kivi * v, 0, 2 * kivi + 16 + 64 * steps * v};
	struct tile_planes sparse = {160 * steps * v, 160 * steps * v + 32 * steps, 0}; /* bitmap, values */
	return kivi                                                            ? kivis
	       : format == IKV_FMT_SPARSE                                      ? sparse
	       : tile_format(format) == IKV_FMT_BF16 || format == IKV_FMT_FP16 ? fp16
	       : format == IKV_FMT_INT4                                        ? int4
	       : format == IKV_FMT_INT4_RESIDUAL                               ? residual
									       : codes8;
}

#endif
