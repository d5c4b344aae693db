/* INT8, INT4 and INT4_RESIDUAL for AVX-512 with VNNI.
 *
 * Scores: the query is three signed 8-bit digits a channel (23 bits, as exact as float; 15 bits and two where no
 * token stands out), so sums of products of codes are exact integers; 16 tokens lie across the lanes and nothing is
 * summed across them. Weighted sums: weights times scales of a block become integers of two bytes (three, if fine),
 * the largest of a head and group 65535; the error of each is at most 2^-17 (2^-25) of the largest. */
#include "quant/kernels_avx512.h"

#define RUN 128 /* channels whose sums fit int32: 128 · 255 · 128 · 256 < 2^31 */

enum kind { BYTES, PAIRS, JOINED };

/* 15 code + code2 of the low or high halves. */
INLINE __m512i joined(__m512i a, __m512i b, bool high)
{
	const __m512i low = _mm512_set1_epi8(15);
	__m512i times16 = high ? _mm512_andnot_si512(low, a) : _mm512_slli_epi16(_mm512_and_si512(a, low), 4);
	__m512i code = _mm512_and_si512(high ? _mm512_srli_epi16(a, 4) : a, low);
	__m512i rest = _mm512_and_si512(high ? _mm512_srli_epi16(b, 4) : b, low);
	return _mm512_add_epi8(_mm512_sub_epi8(times16, code), rest);
}

INLINE __m512i nibbles(__m512i a, bool high)
{
	return _mm512_and_si512(high ? _mm512_srli_epi16(a, 4) : a, _mm512_set1_epi8(15));
}

struct four_bytes {
	uint8_t b[4];
};

/* Four bytes in every lane. */
INLINE __m512i four(const void *p)
{
	int32_t x;
	memcpy(&x, p, sizeof x);
	return _mm512_set1_epi32(x);
}

/* sum += a · b, four unsigned times four signed bytes a lane. Written out, because GCC 12 copies both sums and
 * factors around the intrinsic, which costs a third of the speed. */
INLINE __m512i add_dots(__m512i sum, __m512i a, __m512i b)
{
	__asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
	return sum;
}

/* Four channels' digits of the query times codes of 16 tokens. */
INLINE void dot4(__m512i codes, const int8_t *digits, const bool fine, __m512i *sums)
{
	UNROLL for (int i = fine ? 0 : 1; i < 3; i++) __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sums[i]) :
							      "v"(codes),
							      "m"(*(const struct four_bytes *)(digits + 4 * i)));
}

INLINE __m512 whole(const __m512i *sums)
{
	__m512i low = _mm512_add_epi32(_mm512_slli_epi32(sums[1], 8), sums[0]);
	return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[2]), _mm512_set1_ps(65536), _mm512_cvtepi32_ps(low));
}

/* Scores of a tile of INT8, by runs of channels. */
INLINE void qk_bytes(const struct tile_shape *shape, const struct tile *t, const struct forms *q, const bool fine,
		     const int heads, float *s)
{
	const uint32_t padded = tile_padded(shape->d_qk);
	const int8_t *digits[4];
	__m512 total[4];
	UNROLL for (int h = 0; h < heads; h++)
	{
		total[h] = _mm512_setzero_ps();
		digits[h] = q[h].digits;
	}
	for (uint32_t c = 0; c < padded; c += RUN) {
		uint32_t end = padded - c > RUN ? c + RUN : padded;
		__m512i sums[4][3];
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < 3; i++) sums[h][i] =
		    fine || i ? _mm512_set1_epi32(-q[h].bias[c / RUN * 4 + (uint32_t)i]) : _mm512_setzero_si512();
		for (size_t d = c; d < end; d += 4) {
			__m512i codes = _mm512_loadu_si512(t->k + d * TILE_TOKENS);
			fetch(t->k + d * TILE_TOKENS, t->ahead);
			UNROLL for (int h = 0; h < heads; h++) dot4(codes, digits[h] + 4 * d, fine, sums[h]);
		}
		UNROLL for (int h = 0; h < heads; h++) total[h] = _mm512_add_ps(total[h], whole(sums[h]));
	}
	__m512 scale = halves16(t->k + shape->k_params_at);
	fetch(t->k + shape->k_params_at, t->ahead);
	UNROLL for (int h = 0; h < heads; h++) _mm512_storeu_ps(
	    s + h * MICRO_BLOCK, _mm512_mul_ps(_mm512_mul_ps(total[h], _mm512_set1_ps(*q[h].step)), scale));
}

/* Of a tile of INT4 or INT4_RESIDUAL, by groups. */
INLINE void qk_pairs(const enum kind kind, const struct tile_shape *shape, const struct tile *t,
		     const struct forms *q, const bool fine, const int heads, float *s)
{
	const size_t group_bytes = kind == JOINED ? 512 : 256;
	const int8_t *digits[4];
	__m512 total[4], step[4];
	UNROLL for (int h = 0; h < heads; h++)
	{
		total[h] = _mm512_setzero_ps();
		step[h] = _mm512_set1_ps(*q[h].step);
		digits[h] = q[h].digits;
	}
	for (size_t g = 0; g < codec_groups(shape->d_qk); g++) {
		const uint8_t *p = t->k + g * group_bytes, *param = t->k + shape->k_params_at + g * 64;
		__m512i sums[4][3];
		UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < 3; i++) sums[h][i] =
		    _mm512_setzero_si512();
		for (size_t j = 0; j < 4; j++) {
			__m512i a = _mm512_loadu_si512(p + 64 * j), low, high;
			fetch(p + 64 * j, t->ahead);
			if (kind == JOINED) {
				__m512i b = _mm512_loadu_si512(p + 64 * j + 256);
				fetch(p + 64 * j + 256, t->ahead);
				low = joined(a, b, false);
				high = joined(a, b, true);
			} else {
				low = nibbles(a, false);
				high = nibbles(a, true);
			}
			UNROLL for (int h = 0; h < heads; h++)
			{
				dot4(low, digits[h] + 128 * g + 16 * j, fine, sums[h]);
				dot4(high, digits[h] + 128 * g + 16 * j + 64, fine, sums[h]);
			}
		}
		__m512 scale = halves16(param), zero = halves16(param + 32);
		fetch(param, t->ahead);
		if (kind == JOINED) {
			zero = _mm512_fnmadd_ps(scale, _mm512_set1_ps(0.5f), zero);
			scale = _mm512_mul_ps(scale, _mm512_set1_ps(1 / 15.0f));
		}
		UNROLL for (int h = 0; h < heads; h++)
		{
			/* What the query lost to rounding, times the middle code: else an error that all tokens
			 * share. */
			__m512 rest = fine ? _mm512_setzero_ps()
					   : _mm512_set1_ps(q[h].rests[g] * (kind == JOINED ? 120 : 7.5f));
			total[h] = _mm512_fmadd_ps(_mm512_fmadd_ps(whole(sums[h]), step[h], rest), scale, total[h]);
			total[h] = _mm512_fmadd_ps(_mm512_set1_ps(q[h].sums[g]), zero, total[h]);
		}
	}
	UNROLL for (int h = 0; h < heads; h++) _mm512_storeu_ps(s + h * MICRO_BLOCK, total[h]);
}

INLINE void qk(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const struct micro_query *q, uint32_t heads, float *s)
{
#define TILES(n)                                                                                                     \
	do {                                                                                                         \
		struct forms f[n];                                                                                   \
		for (uint32_t k = 0; k < n; k++)                                                                     \
			f[k] = forms_of(q->forms + (h + k) * q->forms_stride, shape->d_qk);                          \
		for (uint32_t i = 0; i < count; i++) {                                                               \
			float *to = s + h * MICRO_BLOCK + i * TILE_TOKENS;                                           \
			if (kind == BYTES && q->fine)                                                                \
				qk_bytes(shape, tiles + i, f, true, n, to);                                          \
			else if (kind == BYTES)                                                                      \
				qk_bytes(shape, tiles + i, f, false, n, to);                                         \
			else if (q->fine)                                                                            \
				qk_pairs(kind, shape, tiles + i, f, true, n, to);                                    \
			else                                                                                         \
				qk_pairs(kind, shape, tiles + i, f, false, n, to);                                   \
		}                                                                                                    \
	} while (0)
	BY_FOUR(heads, TILES)
#undef TILES
}

struct weights { /* of one head and group: highest bytes first; dword 4 j + i is quad j of tile i */
	uint8_t bytes[3][64];
};

/* Weights of four tiles as integers. Returns what one unit of the second byte is worth. */
INLINE float to_bytes(const __m512 *w, const bool fine, struct weights *out)
{
	__m512 most = _mm512_max_ps(_mm512_max_ps(w[0], w[1]), _mm512_max_ps(w[2], w[3]));
	float top = _mm512_reduce_max_ps(most);
	const float most_units = fine ? 65535 * 256.0f : 65535;
	__m512 factor = _mm512_set1_ps(top > 1e-30f ? most_units / top : 0);
	__m512i n[4];
	UNROLL for (int i = 0; i < 4; i++) n[i] = _mm512_cvtps_epi32(_mm512_mul_ps(w[i], factor));
	const __m512i low = _mm512_set1_epi16(255);
	if (fine) {
		const __m512i lowest = _mm512_set1_epi32(255);
		__m512i rest[4];
		UNROLL for (int i = 0; i < 4; i++)
		{
			rest[i] = _mm512_and_si512(n[i], lowest);
			n[i] = _mm512_srli_epi32(n[i], 8);
		}
		_mm512_storeu_si512(out->bytes[2], _mm512_packus_epi16(_mm512_packus_epi32(rest[0], rest[1]),
								       _mm512_packus_epi32(rest[2], rest[3])));
	}
	__m512i a = _mm512_packus_epi32(n[0], n[1]), b = _mm512_packus_epi32(n[2], n[3]);
	_mm512_storeu_si512(out->bytes[0], _mm512_packus_epi16(_mm512_srli_epi16(a, 8), _mm512_srli_epi16(b, 8)));
	_mm512_storeu_si512(out->bytes[1], _mm512_packus_epi16(_mm512_and_si512(a, low), _mm512_and_si512(b, low)));
	return top > 1e-30f ? top / 65535 : 0;
}

/* Weights times scales as integers; where there are zeros, their weighted sum. */
INLINE void weigh(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		  const float *w, bool fine, uint32_t heads, struct weights *out, float *units, float *zeros)
{
	uint32_t groups = kind == BYTES ? 1 : codec_groups(shape->d_v);
	for (uint32_t g = 0; g < groups; g++) {
		__m512 scale[4], zero[4];
		UNROLL for (uint32_t i = 0; i < 4; i++)
		{
			scale[i] = zero[i] = _mm512_setzero_ps();
			if (i >= count)
				continue;
			const uint8_t *param = tiles[i].k + shape->v_params_at + g * 64;
			scale[i] = halves16(param);
			fetch(param, tiles[i].ahead);
			if (kind == BYTES)
				continue;
			zero[i] = halves16(param + 32);
			if (kind == PAIRS) /* codes are taken less 8: smaller ones lose less to rounded weights */
				zero[i] = _mm512_fmadd_ps(scale[i], _mm512_set1_ps(8), zero[i]);
			if (kind == JOINED) { /* less 128, to be signed bytes */
				zero[i] = _mm512_fmadd_ps(scale[i], _mm512_set1_ps(128 / 15.0f - 0.5f), zero[i]);
				scale[i] = _mm512_mul_ps(scale[i], _mm512_set1_ps(1 / 15.0f));
			}
		}
		for (uint32_t h = 0; h < heads; h++) {
			__m512 x[4], sum = _mm512_setzero_ps();
			UNROLL for (uint32_t i = 0; i < 4; i++)
			{
				x[i] = _mm512_setzero_ps();
				if (i >= count)
					continue;
				__m512 y = _mm512_loadu_ps(w + h * MICRO_BLOCK + i * TILE_TOKENS);
				x[i] = _mm512_mul_ps(y, scale[i]);
				if (kind != BYTES)
					sum = _mm512_fmadd_ps(y, zero[i], sum);
			}
			units[g * heads + h] =
			    fine ? to_bytes(x, true, &out[g * heads + h]) : to_bytes(x, false, &out[g * heads + h]);
			if (kind != BYTES)
				zeros[g * heads + h] = _mm512_reduce_add_ps(sum);
		}
	}
}

INLINE void add_sums(__m512i sums[3][2], const int run, const int bytes, float unit, float zero, float *to)
{
	__m512 x = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_slli_epi32(sums[0][run], 8), sums[1][run]));
	if (bytes == 3)
		x = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[2][run]), _mm512_set1_ps(1 / 256.0f), x);
	__m512 y = _mm512_add_ps(_mm512_loadu_ps(to), _mm512_set1_ps(zero));
	_mm512_storeu_ps(to, _mm512_fmadd_ps(x, _mm512_set1_ps(unit), y));
}

/* Channels [c, c + 32): two runs of 16, which are both halves of a group's pairs. */
INLINE void pv_columns(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		       uint32_t c, const struct weights *w, const int bytes, const float *units, const float *zeros,
		       const int heads, float *acc, size_t acc_stride)
{
	const size_t padded = tile_padded(shape->d_v);
	const size_t quad_bytes = kind == PAIRS ? 2 * padded : 4 * padded;
	__m512i sums[4][3][2]; /* [head][byte][run] */
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int i = 0; i < 2 * bytes; i++) sums[h][i / 2][i % 2] =
	    _mm512_setzero_si512();
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *p = tiles[i].v + (kind == PAIRS ? 2 : 4) * c;
		for (uint32_t j = 0; j < 4; j++, p += quad_bytes) {
			__m512i a = _mm512_loadu_si512(p), v[2];
			fetch(p, tiles[i].ahead);
			if (kind == PAIRS) {
				v[0] = _mm512_add_epi8(nibbles(a, false), _mm512_set1_epi8(-8));
				v[1] = _mm512_add_epi8(nibbles(a, true), _mm512_set1_epi8(-8));
			} else {
				__m512i b = _mm512_loadu_si512(p + 64);
				fetch(p + 64, tiles[i].ahead);
				v[0] =
				    kind == BYTES ? a : _mm512_add_epi8(joined(a, b, false), _mm512_set1_epi8(-128));
				v[1] =
				    kind == BYTES ? b : _mm512_add_epi8(joined(a, b, true), _mm512_set1_epi8(-128));
			}
			UNROLL for (int h = 0; h < heads; h++) UNROLL for (int k = 0; k < bytes; k++)
			{
				__m512i x = four(w[h].bytes[k] + 16 * j + 4 * i);
				sums[h][k][0] = add_dots(sums[h][k][0], x, v[0]);
				sums[h][k][1] = add_dots(sums[h][k][1], x, v[1]);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int r = 0; r < 2; r++) add_sums(
	    sums[h], r, bytes, units[h], kind == BYTES ? 0 : zeros[h], acc + (size_t)h * acc_stride + c + 16 * r);
}

INLINE void pv(const enum kind kind, const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
	       const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	uint32_t groups = kind == BYTES ? 1 : codec_groups(shape->d_v), all = groups * heads;
	struct weights *bytes = (struct weights *)scratch; /* [groups][heads] */
	float *units = (float *)(bytes + all), *zeros = units + all;
	if (shape->alias) {
		avx512_pv_decoded(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
	weigh(kind, shape, tiles, count, w, fine, heads, bytes, units, zeros);
	for (uint32_t c = 0; c < shape->d_v; c += 32) {
		uint32_t g = kind == BYTES ? 0 : c / CODEC_GROUP * heads;
#define HEADS(n)                                                                                                     \
	if (fine)                                                                                                    \
		pv_columns(kind, shape, tiles, count, c, bytes + g + h, 3, units + g + h, zeros + g + h, n,          \
			   acc + h * acc_stride, acc_stride);                                                        \
	else                                                                                                         \
		pv_columns(kind, shape, tiles, count, c, bytes + g + h, 2, units + g + h, zeros + g + h, n,          \
			   acc + h * acc_stride, acc_stride)
		BY_FOUR(heads, HEADS)
#undef HEADS
	}
}

#define KERNELS(name, kind)                                                                                          \
	void avx512_qk_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const struct micro_query *q, uint32_t heads, float *s, float *scratch)                 \
	{                                                                                                            \
		(void)scratch;                                                                                       \
		qk(kind, shape, tiles, count, q, heads, s);                                                          \
	}                                                                                                            \
	void avx512_pv_##name(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,              \
			      const float *w, bool fine, uint32_t heads, float *acc, size_t acc_stride,              \
			      float *scratch)                                                                        \
	{                                                                                                            \
		pv(kind, shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);                             \
	}
KERNELS(int8, BYTES)
KERNELS(int4, PAIRS)
KERNELS(int4r, JOINED)
