/* FP8 for AVX2: a dword holds four codes, of channels (scores) or of tokens (weighted sums). A code's bits in the place of a
 * float's are its value times 2^-120: what they are multiplied with makes up for it, so that taking a code apart is two
 * shifts and an `and`. */
#include "quant/kernels_avx2.h"

#define LARGE 0x1p60f /* queries with a channel of this size are not lifted: some would become infinite */
#define LIFT  0x1p64f /* queries times this: sums of products with 2^-120 stay far from what has no exponent */

/* Code b of eight dwords, times 2^-120. */
INLINE __m256 code_value(__m256i x, const int b)
{
	x = b < 3 ? _mm256_slli_epi32(x, 24 - 8 * b) : x;
	return _mm256_castsi256_ps(_mm256_and_si256(_mm256_srai_epi32(x, 4), _mm256_set1_epi32((int)0x87f00000)));
}

/* Scores of a tile; q lifted. */
INLINE void qk_tile(const struct tile_shape *shape, const struct tile *t, const uint32_t dim, const float *q,
		    const size_t q_stride, const int heads, float *s)
{
	const uint8_t *p = t->k, *params = t->k + shape->k_params_at;
	const ptrdiff_t ahead = t->ahead;
	__m256 sums[4][2];
	UNROLL for (int h = 0; h < heads; h++) sums[h][0] = sums[h][1] = _mm256_setzero_ps();
	fetch(params, ahead); /* V's lie beside them */
	for (uint32_t c = 0; c < dim; c += 4, p += 4 * TILE_TOKENS, q += 4) {
		__m256i x[2] = {load(p), load(p + 32)};
		fetch(p, ahead);
		UNROLL for (int b = 0; b < 4; b++)
		{
			__m256 k[2] = {code_value(x[0], b), code_value(x[1], b)};
			add_channel(k, q + b, q_stride, heads, sums);
		}
	}
	UNROLL for (int j = 0; j < 2; j++)
	{
		__m256 scale = _mm256_mul_ps(halves8(params + 16 * j), _mm256_set1_ps(0x1p120f / LIFT));
		UNROLL for (int h = 0; h < heads; h++)
		    _mm256_storeu_ps(s + h * MICRO_BLOCK + 8 * j, _mm256_mul_ps(sums[h][j], scale));
	}
}

/* A query lifted, and what its scores still lack. */
static float lift(const float *q, uint32_t padded, float *lifted)
{
	__m256 most = _mm256_setzero_ps();
	for (uint32_t c = 0; c < padded; c += 8)
		most = _mm256_max_ps(most, magnitude(_mm256_loadu_ps(q + c)));
	const float by = largest(most) < LARGE ? LIFT : 1;
	for (uint32_t c = 0; c < padded; c += 8)
		_mm256_storeu_ps(lifted + c, _mm256_mul_ps(_mm256_loadu_ps(q + c), _mm256_set1_ps(by)));
	return LIFT / by;
}

static void multiply(float *s, uint32_t n, float factor)
{
	for (uint32_t i = 0; i < n; i += 8)
		_mm256_storeu_ps(s + i, _mm256_mul_ps(_mm256_loadu_ps(s + i), _mm256_set1_ps(factor)));
}

/* In `scratch` the queries, lifted: [heads][padded]. */
void avx2_qk_fp8(const struct tile_shape *shape, const struct tile *tiles, uint32_t count,
		 const struct micro_query *q, uint32_t heads, float *s, float *scratch)
{
	const size_t n = tile_padded(shape->d_qk);
	float *lifted = scratch;
	for (uint32_t first = 0; first < heads; first += 4, s += 4 * MICRO_BLOCK) {
		const uint32_t some = heads - first < 4 ? heads - first : 4;
		float lacking[4];
		for (uint32_t h = 0; h < some; h++)
			lacking[h] = lift(q->f + (first + h) * q->stride, (uint32_t)n, lifted + h * n);
		for (uint32_t i = 0; i < count; i++) {
#define TILE(m)                                                                                                      \
	if (shape->d_qk == 128) /* known length: less arithmetic of addresses */                                     \
		qk_tile(shape, &tiles[i], 128, lifted, 128, m, s + i * TILE_TOKENS);                                 \
	else                                                                                                         \
		qk_tile(shape, &tiles[i], shape->d_qk, lifted, n, m, s + i * TILE_TOKENS)
			BY_FOUR(some, TILE)
#undef TILE
		}
		for (uint32_t h = 0; h < some; h++)
			if (lacking[h] > 1)
				multiply(s + h * MICRO_BLOCK, count * TILE_TOKENS, lacking[h]);
	}
}

/* Weights times scales times 2^120, which the largest scale allows: [heads][MICRO_BLOCK]. */
INLINE void weigh(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w,
		  uint32_t heads, float *scaled)
{
	for (uint32_t i = 0; i < 2 * count; i++) {
		__m256 scale = halves8(tiles[i / 2].k + shape->v_params_at + 16 * (i % 2));
		for (uint32_t h = 0; h < heads; h++) {
			const size_t at = h * MICRO_BLOCK + 8 * i;
			__m256 x = _mm256_mul_ps(_mm256_loadu_ps(w + at), scale);
			_mm256_storeu_ps(scaled + at, _mm256_mul_ps(x, _mm256_set1_ps(0x1p120f)));
		}
	}
}

/* Channels [c, c + 16) of a block. What comes next is fetched in the order in which it lies. */
INLINE void pv_columns(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, uint32_t c,
		       const float *w, const int heads, float *acc, size_t acc_stride)
{
	const size_t quad_bytes = 4 * (size_t)tile_padded(shape->d_v), whole = 4 * quad_bytes;
	const size_t begin = 16 * (size_t)c * count;
	const struct tile *to = tiles + begin / whole; /* whose successor is fetched, and from where on */
	size_t at = begin % whole;
	__m256 a[4][2];
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++) a[h][j] =
	    _mm256_loadu_ps(acc + (size_t)h * acc_stride + c + 8 * j);
	for (uint32_t i = 0; i < count; i++, at += 256) {
		const uint8_t *p = tiles[i].v + 4 * (size_t)c;
		if (at == whole) {
			to++;
			at = 0;
		}
		const uint8_t *next = to->v + to->ahead + at;
		for (uint32_t k = 0; k < 4; k++, p += quad_bytes, next += 64, w += 4) {
			__m256i x = load(p), y = load(p + 32);
			fetch(next, 0);
			UNROLL for (int b = 0; b < 4; b++)
			{
				__m256 v[2] = {code_value(x, b), code_value(y, b)};
				add_channel(v, w + b, MICRO_BLOCK, heads, a);
			}
		}
	}
	UNROLL for (int h = 0; h < heads; h++) UNROLL for (int j = 0; j < 2; j++)
	    _mm256_storeu_ps(acc + (size_t)h * acc_stride + c + 8 * j, a[h][j]);
}

void avx2_pv_fp8(const struct tile_shape *shape, const struct tile *tiles, uint32_t count, const float *w, bool fine,
		 uint32_t heads, float *acc, size_t acc_stride, float *scratch)
{
	float *scaled = scratch;
	if (shape->alias) {
		avx2_pv_decoded(shape, tiles, count, w, fine, heads, acc, acc_stride, scratch);
		return;
	}
	weigh(shape, tiles, count, w, heads, scaled);
	for (uint32_t c = 0; c < shape->d_v; c += 16) {
#define HEADS(n) pv_columns(shape, tiles, count, c, scaled + h * MICRO_BLOCK, n, acc + h * acc_stride, acc_stride)
		BY_FOUR(heads, HEADS)
#undef HEADS
	}
}
