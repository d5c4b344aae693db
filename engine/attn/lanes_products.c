/* Products of FP16 matrices with a few vectors, in fixed lanes. Compiled once per ISA. */
#include "attn/lanes_vec.h"

/* Registers of sums that combine and product keep: of each vector two parts, or four where there are 32 registers. */
#ifdef __AVX512F__
#define WIDE 4
#else
#define WIDE 2
#endif

INLINE void fetch_part(const uint16_t *p, size_t ahead, uint32_t at)
{
	if (at % (64 / sizeof *p) == 0)
		__builtin_prefetch((const char *)p + ahead);
}

/* Columns [c, c + WIDE parts) of all rows. */
INLINE void combine_columns(const uint16_t *w, uint32_t rows, uint32_t cols, uint32_t c, const float *const *x,
			    const int n, float *const *out)
{
	size_t ahead = 2 * (size_t)rows * cols;
	part a[LANES_BATCH][WIDE] = {0};
	for (uint32_t r = 0; r < rows; r++) {
		const uint16_t *p = w + (size_t)r * cols + c;
		part v[WIDE];
		_Pragma("GCC unroll 4") for (int j = 0; j < WIDE; j++)
		{
			v[j] = load_half_part(p + j * PART);
			fetch_part(p + j * PART, ahead, (uint32_t)j * PART);
		}
		_Pragma("GCC unroll 4") for (int i = 0; i < n; i++)
		{
			_Pragma("GCC unroll 4") for (int j = 0; j < WIDE; j++) a[i][j] += x[i][r] * v[j];
		}
	}
	_Pragma("GCC unroll 4") for (int i = 0; i < n; i++) memcpy(out[i] + c, a[i], sizeof a[i]);
}

INLINE void combine_all(const uint16_t *w, uint32_t rows, uint32_t cols, const float *const *x, const int n,
			float *const *out)
{
	uint32_t c = 0;
	for (; c + WIDE * PART <= cols; c += WIDE * PART)
		combine_columns(w, rows, cols, c, x, n, out);
	for (; c < cols; c += LANES) {
		uint32_t left = cols - c < LANES ? cols - c : LANES;
		for (int i = 0; i < n; i++) {
			vec sum = {0};
			for (uint32_t r = 0; r < rows; r++)
				sum += x[i][r] * load_half_tail(w + (size_t)r * cols + c, left);
			store_tail(out[i] + c, sum, left);
		}
	}
}

/* Rows [r, r + WIDE / (LANES / PART)): the sums of a row and vector lie in all LANES, as in dot_h. */
#define ROWS_AT_ONCE (WIDE * PART / LANES)

INLINE void product_rows(const uint16_t *w, uint32_t cols, const int rows, size_t ahead, const float *const *x,
			 const int n, uint32_t r, float *const *out)
{
	part a[LANES_BATCH][ROWS_AT_ONCE][LANES / PART] = {0};
	uint32_t c = 0;
	for (; c + LANES <= cols; c += LANES) {
		_Pragma("GCC unroll 4") for (int j = 0; j < rows; j++)
		{
			const uint16_t *p = w + (size_t)(r + (uint32_t)j) * cols + c;
			fetch_part(p, ahead, c);
			_Pragma("GCC unroll 4") for (int k = 0; k < LANES / PART; k++)
			{
				part v = load_half_part(p + k * PART);
				_Pragma("GCC unroll 4") for (int i = 0; i < n; i++)
				{
					a[i][j][k] += load_part(x[i] + c + k * PART) * v;
				}
			}
		}
	}
	for (int i = 0; i < n; i++) {
		for (int j = 0; j < rows; j++) {
			vec sum;
			memcpy(&sum, a[i][j], sizeof sum);
			if (c < cols)
				sum += load_tail(x[i] + c, cols - c, 0) *
				       load_half_tail(w + (size_t)(r + (uint32_t)j) * cols + c, cols - c);
			out[i][r + (uint32_t)j] = fold(sum);
		}
	}
}

INLINE void product_all(const uint16_t *w, uint32_t rows, uint32_t cols, const float *const *x, const int n,
			float *const *out)
{
	size_t ahead = 2 * (size_t)rows * cols;
	uint32_t r = 0;
	for (; r + ROWS_AT_ONCE <= rows; r += ROWS_AT_ONCE)
		product_rows(w, cols, ROWS_AT_ONCE, ahead, x, n, r, out);
	for (; r < rows; r++)
		product_rows(w, cols, 1, ahead, x, n, r, out);
}

#define BY_COUNT(name)                                                                                               \
	void LANES_NAME(name)(const uint16_t *w, uint32_t rows, uint32_t cols, const float *const *x,                \
			      uint32_t count, float *const *out)                                                     \
	{                                                                                                            \
		switch (count) {                                                                                     \
		case 1:                                                                                              \
			name##_all(w, rows, cols, x, 1, out);                                                        \
			break;                                                                                       \
		case 2:                                                                                              \
			name##_all(w, rows, cols, x, 2, out);                                                        \
			break;                                                                                       \
		case 3:                                                                                              \
			name##_all(w, rows, cols, x, 3, out);                                                        \
			break;                                                                                       \
		case LANES_BATCH:                                                                                    \
			name##_all(w, rows, cols, x, LANES_BATCH, out);                                              \
		}                                                                                                    \
	}
BY_COUNT(combine)
BY_COUNT(product)
