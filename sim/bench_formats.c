/* intentkv bench formats: conversions of pages, one thread, beside copying, over more data than a cache holds. */
#include <math.h>
#include <string.h>
#include "sim/bench_attention.h"

#define ROWS        32 /* tokens of a page */
#define DIM         128
#define PAGES       8192 /* 64 MiB of FP16 */
#define RUNS        100
#define NOISE_PAGES 64

struct format_data {
	uint16_t *halves;
	uint8_t *stored;
	float *values;
};

static int convert(struct format_data *d, enum ikv_format f, bool encode, struct ikv_err *err)
{
	uint64_t bytes = ikv_format_bytes(f, IKV_SIDE_K, ROWS, DIM);
	for (uint32_t p = 0; p < PAGES; p++) {
		const size_t at = (size_t)p * ROWS * DIM;
		enum ikv_side side = p % 2 ? IKV_SIDE_V : IKV_SIDE_K; /* as many bytes in this shape */
		if (encode ? ikv_format_encode(f, side, d->halves + at, ROWS, DIM, d->stored + p * bytes, err)
			   : ikv_format_decode(f, side, d->stored + p * bytes, ROWS, DIM, d->values, err))
			return -1;
	}
	return 0;
}

/* What a format loses of K and of V, in dB, over some pages. */
static int measure_noise(struct format_data *d, enum ikv_format f, double *snr, struct ikv_err *err)
{
	for (int side = 0; side < 2; side++) {
		double signal = 0, noise = 0;
		for (uint32_t p = 0; p < NOISE_PAGES; p++) {
			const uint16_t *rows = d->halves + (size_t)p * ROWS * DIM;
			if (ikv_format_encode(f, (enum ikv_side)side, rows, ROWS, DIM, d->stored, err) ||
			    ikv_format_decode(f, (enum ikv_side)side, d->stored, ROWS, DIM, d->values, err))
				return -1;
			for (uint32_t i = 0; i < ROWS * DIM; i++) {
				double x = ikv_fp16_to_float(rows[i]), lost = x - d->values[i];
				signal += x * x;
				noise += lost * lost;
			}
		}
		snr[side] = noise > 0 ? 10 * log10(signal / noise) : INFINITY;
	}
	return 0;
}

static int time_format(struct format_data *d, enum ikv_format f, double seconds, struct bench_format_row *rows,
		       struct ikv_err *err)
{
	const size_t bytes = (size_t)PAGES * ROWS * DIM * 2;
	double times[3][RUNS];
	uint32_t n = 0;
	for (double end = bench_now() + seconds; n < RUNS && (n < 3 || bench_now() < end); n++) {
		double t = bench_now();
		if (convert(d, f, true, err))
			return -1;
		times[0][n] = bench_now() - t;
		t = bench_now();
		if (convert(d, f, false, err))
			return -1;
		times[1][n] = bench_now() - t;
		t = bench_now();
		memcpy(d->stored, d->halves, bytes);
		times[2][n] = bench_now() - t;
		if (convert(d, f, true, err)) /* not timed: the next decoding needs codes there */
			return -1;
	}
	double copy = bench_median(times[2], n), snr[2];
	if (measure_noise(d, f, snr, err))
		return -1;
	for (int i = 0; i < 2; i++) {
		double t = bench_median(times[i], n);
		rows[i] = (struct bench_format_row){ikv_format_info(f)->name,
						    i ? "decode" : "encode",
						    (double)bytes / t * 1e-9,
						    copy / t,
						    snr[0],
						    snr[1]};
	}
	return 0;
}

int bench_formats(double seconds, struct bench_format_row *rows, uint32_t *count, struct ikv_err *err)
{
	const size_t values = (size_t)PAGES * ROWS * DIM;
	struct format_data d = {ikv_alloc(values, sizeof *d.halves, err), ikv_alloc(values, 3, err),
				ikv_alloc(ROWS * DIM, sizeof *d.values, err)};
	int rc = d.halves && d.stored && d.values ? 0 : -1;
	struct ikv_rng r;
	ikv_rng_stream(&r, 1, IKV_STREAM_TEST, 1, 0);
	*count = 0;
	for (size_t i = 0; rc == 0 && i < values; i++) /* a million different values, then again */
		d.halves[i] =
		    i < 1u << 20 ? ikv_fp16_from_float((float)ikv_rng_normal(&r)) : d.halves[i - (1u << 20)];
	for (unsigned f = IKV_FMT_SKIP + 1; rc == 0 && f < IKV_FMT_COUNT && *count + 2 <= BENCH_FORMAT_ROWS; f++) {
		rc = time_format(&d, (enum ikv_format)f, seconds, rows + *count, err);
		*count += 2;
	}
	ikv_free(d.halves);
	ikv_free(d.stored);
	ikv_free(d.values);
	return rc;
}
