/* Pure reads, and the other rates that bound a kernel. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "sim/bench_attention.h"
#if defined __x86_64__
#include <immintrin.h>
#endif

double bench_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double bench_median(double *values, uint32_t n)
{
	qsort(values, n, sizeof *values, ascending);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct reader_thread {
	struct bench_reader *reader;
	pthread_t thread;
	uint32_t index;
	uint64_t sum; /* keeps the loads alive */
};

struct bench_reader {
	uint8_t *buffer;
	size_t bytes;
	uint32_t threads, started;
	struct reader_thread *all;
	pthread_barrier_t begin, end;
	double warm;             /* seconds of FMA instead of reading; 0: read */
	const uint64_t *offsets; /* NULL: leave */
	uint64_t count;
	size_t piece;
	const struct way *way;
};

typedef uint64_t wide __attribute__((vector_size(32), aligned(32)));

/* A whole number of 256 bytes, 32-byte aligned. `ahead`: fetch so far ahead, within the piece or a little past it. */
#define READ(name, flags)                                                                                            \
	flags static uint64_t name(const uint8_t *p, size_t bytes, size_t ahead)                                     \
	{                                                                                                            \
		wide a = {0}, b = {0}, c = {0}, d = {0};                                                             \
		for (size_t i = 0; i < bytes; i += 256) {                                                            \
			const wide *v = (const wide *)(p + i);                                                       \
			for (size_t k = 0; ahead && k < 256; k += 64)                                                \
				__builtin_prefetch(p + i + ahead + k, 0, 2);                                         \
			a += v[0] + v[4];                                                                            \
			b += v[1] + v[5];                                                                            \
			c += v[2] + v[6];                                                                            \
			d += v[3] + v[7];                                                                            \
		}                                                                                                    \
		a += b + c + d;                                                                                      \
		return a[0] + a[1] + a[2] + a[3];                                                                    \
	}
READ(read_plain, )
#if defined __x86_64__
READ(read_avx2, __attribute__((target("avx2"))))
#endif

/* The fastest of these is the machine's: which one it is differs. */
static const struct way {
	uint64_t (*read)(const uint8_t *p, size_t bytes, size_t ahead);
	size_t ahead;
	bool avx2;
} ways[] = {
    {read_plain, 0, false},
    {read_plain, 2048, false},
#if defined __x86_64__
    {read_avx2, 0, true},
    {read_avx2, 2048, true},
#endif
};

static bool runs_here(const struct way *w)
{
#if defined __x86_64__
	return !w->avx2 || __builtin_cpu_supports("avx2");
#else
	return !w->avx2;
#endif
}

/* Pieces [first, last). */
static void read_pieces(struct bench_reader *r, struct reader_thread *t, uint64_t first, uint64_t last)
{
	for (uint64_t i = first; i < last; i++) {
		uint64_t next = r->offsets[i + 1 < last ? i + 1 : i];
		for (size_t k = 0; k < r->piece && k < r->way->ahead; k += 64) /* where the next one begins */
			__builtin_prefetch(r->buffer + next + k, 0, 2);
		t->sum += r->way->read(r->buffer + r->offsets[i], r->piece & ~(size_t)255, r->way->ahead);
		for (size_t k = r->piece & ~(size_t)255; k < r->piece; k += 64)
			t->sum += r->buffer[r->offsets[i] + k];
	}
}

static void do_share(struct bench_reader *r, struct reader_thread *t)
{
	if (r->warm > 0)
		bench_fma(r->warm);
	else
		read_pieces(r, t, r->count * t->index / r->threads, r->count * (t->index + 1) / r->threads);
}

static void *reader_main(void *arg)
{
	struct reader_thread *t = arg;
	for (;;) {
		pthread_barrier_wait(&t->reader->begin);
		if (!t->reader->offsets)
			return NULL;
		do_share(t->reader, t);
		pthread_barrier_wait(&t->reader->end);
	}
}

int bench_reader_create(struct bench_reader **out, size_t bytes, uint32_t threads, struct ikv_err *err)
{
	struct bench_reader *r = ikv_alloc(1, sizeof *r, err);
	double fastest = 0;
	if (!r)
		return -1;
	r->bytes = (bytes + 4095) & ~(size_t)4095;
	r->threads = threads;
	r->buffer = ikv_alloc(r->bytes, 1, err);
	r->all = ikv_alloc(threads, sizeof *r->all, err);
	pthread_barrier_init(&r->begin, NULL, threads);
	pthread_barrier_init(&r->end, NULL, threads);
	if (!r->buffer || !r->all) {
		bench_reader_destroy(r);
		return -1;
	}
	memset(r->buffer, 1, r->bytes);
	for (uint32_t i = 0; i < threads; i++)
		r->all[i] = (struct reader_thread){.reader = r, .index = i};
	for (uint32_t i = 1; i < threads; i++, r->started++) {
		int e = pthread_create(&r->all[i].thread, NULL, reader_main, &r->all[i]);
		if (e)
			return ikv_err_set(err, IKV_FAILED, "cannot start thread %u: %s", i, strerror(e));
	}
	r->way = ways;
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		double best = 0, t;
		for (int k = 0; k < 4 && runs_here(&ways[i]); k++) {
			const struct way *before = r->way;
			r->way = &ways[i];
			t = bench_reader_all(r);
			r->way = before;
			best = best == 0 || t < best ? t : best;
		}
		if (best > 0 && (fastest == 0 || best < fastest)) {
			fastest = best;
			r->way = &ways[i];
		}
	}
	*out = r;
	return 0;
}

void bench_reader_destroy(struct bench_reader *r)
{
	if (!r)
		return;
	r->offsets = NULL;
	if (r->started)
		pthread_barrier_wait(&r->begin);
	for (uint32_t i = 1; i <= r->started; i++)
		pthread_join(r->all[i].thread, NULL);
	pthread_barrier_destroy(&r->begin);
	pthread_barrier_destroy(&r->end);
	ikv_free(r->buffer);
	ikv_free(r->all);
	ikv_free(r);
}

/* All threads do their shares: seconds. */
static double run_all(struct bench_reader *r)
{
	double t = bench_now();
	if (r->started)
		pthread_barrier_wait(&r->begin);
	do_share(r, &r->all[0]);
	if (r->started)
		pthread_barrier_wait(&r->end);
	return bench_now() - t;
}

double bench_reader_run(struct bench_reader *r, const uint64_t *offsets, uint64_t count, size_t bytes)
{
	r->offsets = offsets;
	r->count = count;
	r->piece = bytes;
	return run_all(r);
}

void bench_reader_warm(struct bench_reader *r, double seconds)
{
	static const uint64_t stay;
	if (seconds <= 0)
		return;
	r->offsets = &stay;
	r->warm = seconds;
	run_all(r);
	r->warm = 0;
}

void bench_reader_cool(struct bench_reader *r)
{
	bench_reader_all(r);
	bench_reader_warm(r, 1e-3 * BENCH_WARM_MS);
}

double bench_reader_alone(struct bench_reader *r, const uint64_t *offsets, uint64_t count, size_t bytes)
{
	r->offsets = offsets;
	r->piece = bytes;
	double t = bench_now();
	read_pieces(r, &r->all[0], 0, count);
	return bench_now() - t;
}

double bench_reader_all(struct bench_reader *r)
{
	uint64_t offsets[64];
	for (uint64_t i = 0; i < 64; i++)
		offsets[i] = r->bytes / 64 / 4096 * 4096 * i;
	return bench_reader_run(r, offsets, 64, r->bytes / 64 / 4096 * 4096);
}

#if defined __x86_64__
#define ROUNDS 50000
#define FMA_LOOP(flags, vector, set, fma)                                                                            \
	__attribute__((target(flags))) static float fma_##vector(void)                                               \
	{                                                                                                            \
		vector a[10], x = set(0.999f), y = set(0.001f);                                                      \
		for (int i = 0; i < 10; i++)                                                                         \
			a[i] = set((float)i);                                                                        \
		for (int k = 0; k < ROUNDS; k++) {                                                                   \
			_Pragma("GCC unroll 10") for (int i = 0; i < 10; i++) a[i] = fma(a[i], x, y);                \
		}                                                                                                    \
		float sum = 0;                                                                                       \
		for (int i = 0; i < 10; i++)                                                                         \
			sum += a[i][0];                                                                              \
		return sum;                                                                                          \
	}
FMA_LOOP("avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps)
FMA_LOOP("avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps)

/* 4 KiB of FP16, or of bytes, turned into floats and added up, again and again. */
#define CONVERT_LOOP(name, flags, per_register, load)                                                                \
	__attribute__((target(flags))) static float name(const uint8_t *p, uint32_t rounds)                          \
	{                                                                                                            \
		__m256 a[8];                                                                                         \
		for (int j = 0; j < 8; j++)                                                                          \
			a[j] = _mm256_setzero_ps();                                                                  \
		for (uint32_t k = 0; k < rounds; k++)                                                                \
			for (uint32_t i = 0; i < 4096; i += 8 * per_register) {                                      \
				_Pragma("GCC unroll 8") for (uint32_t j = 0; j < 8; j++) a[j] =                      \
				    _mm256_add_ps(a[j], load(p + i + j * per_register));                             \
			}                                                                                            \
		for (int j = 1; j < 8; j++)                                                                          \
			a[0] = _mm256_add_ps(a[0], a[j]);                                                            \
		return a[0][0];                                                                                      \
	}
#define HALVES(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define BYTES(p)  _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p))))
CONVERT_LOOP(convert_halves, "avx2,f16c", 16, HALVES)
CONVERT_LOOP(convert_bytes, "avx2", 8, BYTES)

double bench_fma(double seconds)
{
	uint32_t n = 0;
	bool wide_registers = __builtin_cpu_supports("avx512f");
	volatile float keep;
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		return 0;
	double start = bench_now(), taken;
	do {
		keep = wide_registers ? fma___m512() : fma___m256();
		n++;
	} while ((taken = bench_now() - start) < seconds);
	(void)keep;
	return (wide_registers ? 32 : 16) * 10.0 * ROUNDS * n / taken * 1e-9;
}

static void compute_rates(struct bench_rates *r, double seconds)
{
	static uint8_t data[4096];
	volatile float keep;
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
		return;
	for (double end = bench_now() + seconds; bench_now() < end;) {
		double t, rate = bench_fma(0);
		r->fma_gflops = rate > r->fma_gflops ? rate : r->fma_gflops;
		t = bench_now();
		keep = convert_halves(data, 2000);
		rate = 2048 * 2000 / (bench_now() - t) * 1e-9;
		r->half_to_float = rate > r->half_to_float ? rate : r->half_to_float;
		t = bench_now();
		keep = convert_bytes(data, 2000);
		rate = 4096.0 * 2000 / (bench_now() - t) * 1e-9;
		r->byte_to_float = rate > r->byte_to_float ? rate : r->byte_to_float;
	}
	(void)keep;
}
#else
double bench_fma(double seconds)
{
	(void)seconds;
	return 0;
}

static void compute_rates(struct bench_rates *r, double seconds)
{
	(void)r;
	(void)seconds;
}
#endif

int bench_machine(struct bench_rates *rates, double seconds, struct ikv_err *err)
{
	enum { RUNS = 200 };
	uint32_t threads = rates->threads;
	const size_t bytes = (size_t)256 << 20;
	*rates = (struct bench_rates){.threads = threads};
	for (int many = 0; many < 2; many++) {
		struct bench_reader *r;
		double times[RUNS];
		uint32_t n = 0;
		if (bench_reader_create(&r, bytes, many ? threads : 1, err))
			return -1;
		for (double end = bench_now() + seconds; n < RUNS && (n < 3 || bench_now() < end); n++)
			times[n] = bench_reader_all(r);
		rates->read_gbps[many] = (double)bytes / bench_median(times, n) * 1e-9;
		n = 0;
		for (double end = bench_now() + seconds; !many && n < RUNS && (n < 3 || bench_now() < end); n++) {
			double t = bench_now();
			memcpy(r->buffer, r->buffer + bytes / 2, bytes / 2);
			times[n] = bench_now() - t;
		}
		if (!many)
			rates->copy_gbps = (double)bytes / bench_median(times, n) * 1e-9;
		bench_reader_destroy(r);
	}
	compute_rates(rates, seconds);
	return 0;
}
