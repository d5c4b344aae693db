/* Page formats: sizes, FP16 conversion, round trips within the bounds of docs/formats.md, demotion, bad input. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

#define DIM_MAX 200
static const enum ikv_format stored_formats[] = {IKV_FMT_FP16,          IKV_FMT_FP8,   IKV_FMT_INT8,  IKV_FMT_INT4,
						 IKV_FMT_INT4_RESIDUAL, IKV_FMT_BF16,  IKV_FMT_KIVI8, IKV_FMT_KIVI4,
						 IKV_FMT_KIVI2,         IKV_FMT_SPARSE};
enum { FORMATS = sizeof stored_formats / sizeof *stored_formats };

START_TEST(names_and_sizes)
{
	enum ikv_format f;
	for (unsigned i = 0; i < IKV_FMT_COUNT; i++) {
		ck_assert_str_eq(ikv_format_names()[i], ikv_format_info((enum ikv_format)i)->name);
		ck_assert_int_eq(ikv_format_by_name(ikv_format_names()[i], &f), 0);
		ck_assert_uint_eq(f, i);
	}
	ck_assert_ptr_null(ikv_format_names()[IKV_FMT_COUNT]);
	ck_assert_int_eq(ikv_format_by_name("INT5", &f), -1);
	/* Bits a value at 128 channels: 16, 8.125, 8.125, 5, 9. */
	ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_FP16, IKV_SIDE_K, 16, 128), 16 * 128 * 2);
	ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_FP8, IKV_SIDE_K, 16, 128), 16 * 130);
	ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_INT8, IKV_SIDE_K, 16, 128), 16 * 130);
	ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_INT4, IKV_SIDE_K, 16, 128), 16 * 80);
	ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_INT4_RESIDUAL, IKV_SIDE_K, 16, 128), 16 * 144);
	ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_INT4, IKV_SIDE_K, 3, 33), 3 * (8 + 17));
	ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_SKIP, IKV_SIDE_K, 16, 128), 0);
	/* Pages of 32: bits and scale and zero of 32 tokens or channels, K and V alike; 5 bits of 128 channels. */
	for (int v = 0; v < 2; v++) {
		ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_BF16, (enum ikv_side)v, 32, 128), 32 * 256);
		ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_KIVI8, (enum ikv_side)v, 32, 128), 32 * 128 * 9 / 8);
		ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_KIVI4, (enum ikv_side)v, 32, 128), 32 * 128 * 5 / 8);
		ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_KIVI2, (enum ikv_side)v, 32, 128), 32 * 128 * 3 / 8);
		ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_SPARSE, (enum ikv_side)v, 32, 128), 32 * 80);
	}
	/* Short groups: K of 40 tokens has two groups of each channel, V of 45 channels two of each token. */
	ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_KIVI2, IKV_SIDE_K, 40, 45), 2 * 45 * 4 + 40 * 12);
	ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_KIVI2, IKV_SIDE_V, 40, 45), 40 * 2 * 4 + 40 * 12);
	ck_assert_uint_eq(ikv_format_bytes(IKV_FMT_SPARSE, IKV_SIDE_K, 3, 45), 3 * (6 + 2 * 12));
	static const enum ikv_format order[] = {IKV_FMT_SKIP,  IKV_FMT_SPARSE,        IKV_FMT_KIVI2, IKV_FMT_INT4,
						IKV_FMT_KIVI4, IKV_FMT_INT4_RESIDUAL, IKV_FMT_FP8,   IKV_FMT_INT8,
						IKV_FMT_KIVI8, IKV_FMT_FP16};
	ck_assert_int_eq(ikv_format_info(IKV_FMT_BF16)->precision, ikv_format_info(IKV_FMT_FP16)->precision);
	for (int i = 1; i < 10; i++)
		ck_assert_int_gt(ikv_format_info(order[i])->precision, ikv_format_info(order[i - 1])->precision);
}
END_TEST

/* By the standard's definition, kept in a table: the tests ask for hundreds of millions. */
static double half_value(unsigned h)
{
	static double values[0x8000];
	unsigned bits = h & 0x7fff;
	if (!values[bits]) {
		int e = (int)(bits >> 10), m = (int)(bits & 1023);
		values[bits] = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
	}
	return h & 0x8000 ? -values[bits] : values[bits];
}

START_TEST(fp16_is_ieee)
{
	for (unsigned h = 0; h < 65536; h++) {
		float x = ikv_fp16_to_float((uint16_t)h);
		if ((h & 0x7c00) == 0x7c00) {
			ck_assert(h & 0x3ff ? isnan(x) : isinf(x));
			ck_assert(h & 0x3ff ? isnan(ikv_fp16_to_float(ikv_fp16_from_float(x)))
					    : ikv_fp16_from_float(x) == h);
			continue;
		}
		ck_assert(x == half_value(h) && !!signbit(x) == h >> 15);
		ck_assert_uint_eq(ikv_fp16_from_float(x), h);
		if ((h & 0x7fff) == 0x7bff)
			continue;
		/* Halfway to the next number goes to the even one; to either side of halfway, to the nearer. */
		float y = ikv_fp16_to_float((uint16_t)(h + 1)), mid = x + (y - x) / 2;
		ck_assert_uint_eq(ikv_fp16_from_float(mid), h & 1 ? h + 1 : h);
		ck_assert_uint_eq(ikv_fp16_from_float(nextafterf(mid, x)), h);
		ck_assert_uint_eq(ikv_fp16_from_float(nextafterf(mid, y)), h + 1);
	}
	ck_assert_uint_eq(ikv_fp16_from_float(65519.996f), 0x7bff);
	ck_assert_uint_eq(ikv_fp16_from_float(65520.0f), 0x7c00);
	ck_assert_uint_eq(ikv_fp16_from_float(-1e30f), 0xfc00);
	ck_assert_uint_eq(ikv_fp16_from_float(1e-30f), 0);
}
END_TEST

/* Rows of many kinds: usual values, tiny ones, huge ones, constant, zero, one outlier, only subnormals. */
static void make_row(struct ikv_rng *r, int kind, uint32_t dim, uint16_t *row)
{
	double level = ikv_det_exp((ikv_rng_uniform(r) - 0.5) * 20), shift = ikv_rng_normal(r) * 3;
	for (uint32_t c = 0; c < dim; c++) {
		double x = ikv_rng_normal(r);
		switch (kind) {
		case 0:
			x += shift;
			break;
		case 1:
			x *= level;
			break;
		case 2:
			x = ikv_rng_below(r, 2) ? 65504 : -65504;
			break;
		case 3:
			x = level;
			break;
		case 4:
			x = 0;
			break;
		case 5:
			x = c == dim / 2 ? 60000 : x * 1e-3;
			break;
		case 6:
			x *= 0x1p-22;
			break;
		default:
			x = 1000 + x * 0.25;
		}
		x = x > 65504 ? 65504 : x < -65504 ? -65504 : x;
		row[c] = ikv_fp16_from_float((float)x);
	}
}

static double round_up_half(double x)
{
	uint16_t h = 0, high = 0x7bff;
	while (h < high) {
		uint16_t mid = (uint16_t)((h + high) / 2);
		if (half_value(mid) >= x)
			high = mid;
		else
			h = (uint16_t)(mid + 1);
	}
	return half_value(h);
}

/* Largest error that docs/formats.md allows for value x of a row or group with these bounds. */
static double allowed(enum ikv_format f, double x, double low, double high)
{
	double amax = fmax(fabs(low), fabs(high)), slack = amax * 0x1p-21, s;
	switch (f) {
	case IKV_FMT_FP16:
		return 0;
	case IKV_FMT_BF16:
		return fabs(x) * 0x1p-8;
	case IKV_FMT_FP8:
		s = round_up_half(amax / 448 * (1 - 0x1p-22));
		return fmax(fabs(x) / 16, s * 0x1p-10) + slack;
	case IKV_FMT_INT8:
		return round_up_half(amax / 127) / 2 + slack;
	case IKV_FMT_INT4:
	case IKV_FMT_KIVI4:
		return round_up_half((high - low) / 15) / 2 + slack;
	case IKV_FMT_KIVI8:
		return round_up_half((high - low) / 255) / 2 + slack;
	case IKV_FMT_KIVI2:
		return round_up_half((high - low) / 3) / 2 + slack;
	default:
		return round_up_half((high - low) / 15) / 30 + slack;
	}
}

/* Values [0, n) of rows and what came back, each `step` apart, with the range of values that share their scale. */
static void check_group(enum ikv_format f, const uint16_t *row, const float *back, uint32_t n, size_t step, int kind)
{
	double low = INFINITY, high = -INFINITY;
	for (uint32_t i = 0; i < n; i++) {
		low = fmin(low, half_value(row[i * step]));
		high = fmax(high, half_value(row[i * step]));
	}
	for (uint32_t i = 0; i < n; i++) {
		double x = half_value(row[i * step]), e = fabs(back[i * step] - x);
		must_msg(e <= allowed(f, x, low, high), "%s kind %d value %u of %u: %g became %g, bounds %g %g",
			 ikv_format_names()[f], kind, i, n, x, back[i * step], low, high);
	}
}

/* Of a row of SPARSE the largest quarter is exact and the rest 0, none of it larger than what was kept. */
static void check_sparse(const uint16_t *row, const float *back, uint32_t dim)
{
	double least = INFINITY, dropped = 0;
	uint32_t kept = 0;
	for (uint32_t c = 0; c < dim; c++) {
		double x = fabs(half_value(row[c]));
		if (back[c] == 0 && x != 0) {
			dropped = fmax(dropped, x);
			continue;
		}
		must_msg(back[c] == half_value(row[c]), "SPARSE channel %u of %u: %g became %g", c, dim,
			 half_value(row[c]), back[c]);
		kept += x != 0;
		least = x != 0 ? fmin(least, x) : least;
	}
	ck_assert_uint_le(kept, (dim + 3) / 4);
	ck_assert(dropped == 0 || (kept == (dim + 3) / 4 && dropped <= least));
}

START_TEST(round_trips_within_bounds)
{
	enum { TOKENS_MAX = 70 };
	static uint16_t rows[TOKENS_MAX * DIM_MAX];
	static float back[TOKENS_MAX * DIM_MAX];
	static uint8_t stored[4 * TOKENS_MAX * DIM_MAX + 64];
	enum ikv_format f = stored_formats[_i];
	bool kivi = f == IKV_FMT_KIVI8 || f == IKV_FMT_KIVI4 || f == IKV_FMT_KIVI2;
	struct ikv_rng r;
	struct ikv_err err;
	ikv_rng_stream(&r, 11, IKV_STREAM_TEST, (uint64_t)_i, 0);
	for (int n = 0; n < 10000; n++) {
		uint32_t dim = 1 + (uint32_t)ikv_rng_below(&r, DIM_MAX), tokens = 1;
		enum ikv_side side = n / 8 % 2 ? IKV_SIDE_V : IKV_SIDE_K;
		if (kivi && side == IKV_SIDE_K) {
			dim = 1 + (uint32_t)ikv_rng_below(&r, 70);
			tokens = 1 + (uint32_t)ikv_rng_below(&r, TOKENS_MAX);
		}
		for (uint32_t t = 0; t < tokens; t++)
			make_row(&r, n % 8, dim, rows + (size_t)t * dim);
		uint64_t bytes = ikv_format_bytes(f, side, tokens, dim);
		memset(stored, 0xa5, bytes + 2);
		ck_assert_int_eq(ikv_format_encode(f, side, rows, tokens, dim, stored, &err), 0);
		ck_assert(stored[bytes] == 0xa5 && stored[bytes + 1] == 0xa5);
		ck_assert_int_eq(ikv_format_decode(f, side, stored, tokens, dim, back, &err), 0);
		if (f == IKV_FMT_SPARSE) {
			check_sparse(rows, back, dim);
			continue;
		}
		for (uint32_t t = 0; kivi && side == IKV_SIDE_K && t < tokens; t += 32)
			for (uint32_t c = 0; c < dim; c++)
				check_group(f, rows + (size_t)t * dim + c, back + (size_t)t * dim + c,
					    tokens - t < 32 ? tokens - t : 32, dim, n % 8);
		if (kivi && side == IKV_SIDE_K)
			continue;
		uint32_t width = f == IKV_FMT_INT4 || f == IKV_FMT_INT4_RESIDUAL || kivi ? 32 : dim;
		for (uint32_t c = 0; c < dim; c += width)
			check_group(f, rows + c, back + c, c + width < dim ? width : dim - c, 1, n % 8);
	}
}
END_TEST

START_TEST(rows_are_independent)
{
	enum { TOKENS = 5, DIM = 45 };
	static uint16_t rows[TOKENS * DIM];
	static float all[TOKENS * DIM], one[DIM];
	static uint8_t stored[TOKENS * DIM * 8];
	struct ikv_rng r;
	ikv_rng_stream(&r, 12, IKV_STREAM_TEST, 0, 0);
	for (int t = 0; t < TOKENS; t++)
		make_row(&r, t, DIM, rows + t * DIM);
	for (size_t k = 0; k < sizeof stored_formats / sizeof *stored_formats; k++) {
		enum ikv_format f = stored_formats[k];
		/* K of KIVI is the exception: its groups are of tokens. */
		ck_assert_int_eq(ikv_format_encode(f, IKV_SIDE_V, rows, TOKENS, DIM, stored, NULL), 0);
		ck_assert_int_eq(ikv_format_decode(f, IKV_SIDE_V, stored, TOKENS, DIM, all, NULL), 0);
		for (int t = 0; t < TOKENS; t++) {
			ck_assert_int_eq(ikv_format_encode(f, IKV_SIDE_V, rows + t * DIM, 1, DIM, stored, NULL), 0);
			ck_assert_int_eq(ikv_format_decode(f, IKV_SIDE_V, stored, 1, DIM, one, NULL), 0);
			ck_assert_mem_eq(one, all + t * DIM, sizeof one);
		}
	}
}
END_TEST

START_TEST(residual_begins_with_int4)
{
	static uint16_t rows[4 * 70];
	static uint8_t a[4 * 70 * 2], b[4 * 70 * 2];
	struct ikv_rng r;
	ikv_rng_stream(&r, 13, IKV_STREAM_TEST, 0, 0);
	for (int t = 0; t < 4; t++)
		make_row(&r, 1, 70, rows + t * 70);
	ck_assert_int_eq(ikv_format_encode(IKV_FMT_INT4, IKV_SIDE_K, rows, 4, 70, a, NULL), 0);
	ck_assert_int_eq(ikv_format_encode(IKV_FMT_INT4_RESIDUAL, IKV_SIDE_K, rows, 4, 70, b, NULL), 0);
	ck_assert_mem_eq(a, b, ikv_format_bytes(IKV_FMT_INT4, IKV_SIDE_K, 4, 70));
}
END_TEST

START_TEST(what_cannot_be_stored_is_an_error)
{
	uint16_t row[4] = {0x3c00, 0x7c00, 0, 0};
	uint8_t stored[64];
	float back[4];
	struct ikv_err err;
	for (size_t k = 0; k < sizeof stored_formats / sizeof *stored_formats; k++) {
		row[1] = 0x7c00;
		ck_assert_int_eq(ikv_format_encode(stored_formats[k], IKV_SIDE_K, row, 1, 4, stored, &err), -1);
		ck_assert_ptr_nonnull(strstr(err.text, "row 0, value 1 is infinite"));
		row[1] = 0xfe01;
		ck_assert_int_eq(ikv_format_encode(stored_formats[k], IKV_SIDE_K, row, 1, 4, stored, &err), -1);
		ck_assert_ptr_nonnull(strstr(err.text, "is NaN"));
	}
	row[1] = 0;
	ck_assert_int_eq(ikv_format_encode(IKV_FMT_SKIP, IKV_SIDE_K, row, 1, 4, stored, &err), -1);
	ck_assert_int_eq(ikv_format_decode(IKV_FMT_SKIP, IKV_SIDE_K, stored, 1, 4, back, &err), -1);
	ck_assert_int_eq(ikv_format_encode(IKV_FMT_COUNT, IKV_SIDE_K, row, 1, 4, stored, &err), -1);
}
END_TEST

/* Every ISA's encoder gives the bytes of the plain one. */
START_TEST(encoders_agree)
{
	enum { TOKENS_MAX = 70, BEYOND = 64 };
	static uint16_t rows[TOKENS_MAX * DIM_MAX];
	uint8_t beyond[BEYOND];
	static uint8_t plain[TOKENS_MAX * (4 * DIM_MAX + 64)], fast[sizeof plain];
	bool kivi = stored_formats[_i] >= IKV_FMT_KIVI8 && stored_formats[_i] <= IKV_FMT_KIVI2;
	enum ikv_format f = stored_formats[_i];
	struct ikv_rng r;
	uint32_t count;
	const struct ikv_isa_info *isas = ikv_isa_list(&count);
	ikv_rng_stream(&r, 12, IKV_STREAM_TEST, (uint64_t)_i, 0);
	memset(beyond, 0xa5, sizeof beyond);
	for (int n = 0; n < (kivi ? 1000 : 8000); n++) {
		uint32_t dim = n % 2 ? 128 : 1 + (uint32_t)ikv_rng_below(&r, DIM_MAX), tokens = 1 + (uint32_t)n / 2 % 9;
		enum ikv_side side = n / 10 % 2 ? IKV_SIDE_V : IKV_SIDE_K;
		if (kivi)
			tokens = n % 4 ? 32 : 1 + (uint32_t)ikv_rng_below(&r, TOKENS_MAX);
		for (uint32_t t = 0; t < tokens; t++)
			make_row(&r, n % 10, dim, rows + t * dim);
		if (n % 10 >= 8) /* any finite bits; ones with zeros of both signs */
			for (uint32_t i = 0; i < tokens * dim; i++) {
				rows[i] = (uint16_t)ikv_rng_u64(&r);
				rows[i] &= (rows[i] & 0x7c00) == 0x7c00 ? 0xbfff : 0xffff;
				if (n % 10 == 9)
					rows[i] = i % 3 ? (uint16_t)(ikv_rng_below(&r, 2) << 15) : rows[i] & 0x7fff;
			}
		size_t bytes = ikv_format_bytes(f, side, tokens, dim);
		ck_assert_int_eq(ikv_isa_select("scalar", NULL), 0);
		ck_assert_int_eq(ikv_format_encode(f, side, rows, tokens, dim, plain, NULL), 0);
		for (uint32_t i = 0; i < count; i++) {
			if (!isas[i].usable)
				continue;
			ck_assert_int_eq(ikv_isa_select(isas[i].name, NULL), 0);
			memset(fast + bytes, 0xa5, BEYOND);
			ck_assert_int_eq(ikv_format_encode(f, side, rows, tokens, dim, fast, NULL), 0);
			ck_assert_mem_eq(fast, plain, bytes);
			ck_assert_mem_eq(fast + bytes, beyond, BEYOND); /* vectors are not stored beyond the end */
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("format");
	TCase *t = tcase_create("format");
	tcase_set_timeout(t, 120);
	tcase_add_test(t, names_and_sizes);
	tcase_add_test(t, fp16_is_ieee);
	tcase_add_loop_test(t, round_trips_within_bounds, 0, FORMATS);
	tcase_add_loop_test(t, encoders_agree, 0, FORMATS);
	tcase_add_test(t, rows_are_independent);
	tcase_add_test(t, residual_begins_with_int4);
	tcase_add_test(t, what_cannot_be_stored_is_an_error);
	suite_add_tcase(s, t);
	return tap_run(s);
}
