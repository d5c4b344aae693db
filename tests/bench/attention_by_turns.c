/* Decode attention of several builds of the engine by turns in one process, so that what else the machine does meets all
 * of them: median (an eighth from the least) of each, dense, with a quarter and a sixteenth of the pages at random, shared
 * and each KV head its own. Before each call 128 MiB are read and FMA is in use for two milliseconds. Built and run by
 * attention_by_turns.sh. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <intentkv.h>

enum { D = 128, HQ = 32, HKV = 8, GROUP = HQ / HKV, BUILDS = 8, WAYS = 5, RUNS_MAX = 2000 };
#define COOL_BYTES ((size_t)128 << 20)

struct way {
	const char *name;
	double share;
	int plans; /* 1, or one for each KV head */
};
static const struct way ways[WAYS] = {
    {"dense", 1, 1}, {"0.25", .25, 1}, {"0.0625", .0625, 1}, {"0.25/head", .25, HKV}, {"0.0625/head", .0625, HKV}};

struct build {
	const char *name, *isa;
	void *library;
	const struct ikv_backend_ops *ops;
	struct ikv_backend *backend;
	double times[WAYS][RUNS_MAX];
};

struct world {
	enum ikv_format format;
	uint32_t tokens, page, threads, builds, runs;
	double seconds;
	struct build *build;
	struct ikv_plan plans[WAYS][HKV];
	float q[HQ * D], out[HQ * D], first[HQ * D];
	uint8_t *cool;
};

static void die(const char *what, const char *why)
{
	fprintf(stderr, "attention_by_turns: %s: %s\n", what, why);
	exit(2);
}

static double now(void)
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

typedef float lanes __attribute__((vector_size(32)));

#if defined __x86_64__
__attribute__((target("avx2,fma")))
#endif
static float products(void)
{
	lanes a[8];
	for (int i = 0; i < 8; i++) /* apart, or the compiler makes one of them */
		a[i] = (lanes){(float)i};
	for (int k = 0; k < 20000; k++)
#pragma GCC unroll 8
		for (int i = 0; i < 8; i++)
			a[i] = a[i] * 0.999f + 0.001f;
	lanes sum = a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
	return sum[0] + sum[7];
}

/* Units that made no products for a while are slow at first (docs/kernels.md, "Zen 3"). */
static void before_call(const struct world *w)
{
	uint64_t sum = 0;
	float made = 0;
	for (size_t i = 0; i < COOL_BYTES; i += 64)
		sum += w->cool[i];
	for (double end = now() + 2e-3; now() < end;)
		made += products();
	if (sum != COOL_BYTES / 64 || made < 0) /* keeps both alive */
		die("memory", "it changed");
}

static void open_build(struct world *w, struct build *b, const char *spec)
{
	static char path[4096];
	struct ikv_err err;
	const char *at = strrchr(spec, '@');
	b->name = spec;
	b->isa = at ? at + 1 : NULL;
	snprintf(path, sizeof path, "%.*s/.libs/libintentkv.so", at ? (int)(at - spec) : (int)strlen(spec), spec);
	b->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!b->library)
		die(spec, dlerror());
	b->ops = dlsym(b->library, "ikv_backend_cpu");
	const struct ikv_geometry g = {.layers = 1,
				       .q_heads = HQ,
				       .kv_heads = HKV,
				       .d_qk = D,
				       .d_v = D,
				       .page_tokens = w->page,
				       .scale = 1 / sqrtf(D)};
	const struct ikv_backend_config config = {.threads = w->threads, .isa = b->isa, .sequences = 1};
	if (!b->ops)
		die(spec, "no backend in it");
	if (b->ops->open(&b->backend, &g, &config, &err))
		die(spec, err.text);
	uint64_t state = 1;
	for (uint32_t t = 0; t < w->tokens; t++) {
		uint16_t rows[2][HKV * D];
		for (int i = 0; i < 2 * HKV * D; i++) {
			state = state * 6364136223846793005u + 1442695040888963407u;
			rows[i / (HKV * D)][i % (HKV * D)] =
			    ikv_fp16_from_float(((float)(state >> 40) - 8388608) * (1.7f / 8388608));
		}
		if (b->ops->append(b->backend, 0, 0, 1, rows[0], rows[1], &err))
			die(spec, err.text);
	}
	for (uint32_t p = 0; p < w->tokens / w->page; p++)
		if (b->ops->recode(b->backend, 0, 0, 0, HKV, p, w->format, &err))
			die(spec, err.text);
}

static void make_plans(struct world *w)
{
	const uint32_t pages = w->tokens / w->page;
	struct ikv_err err;
	srand48(7);
	for (int i = 0; i < WAYS; i++)
		for (int h = 0; h < ways[i].plans; h++) {
			struct ikv_plan *p = &w->plans[i][h];
			if (ikv_plan_init(p, w->page, pages, &err))
				die("plan", err.text);
			for (uint32_t k = 0; k < pages; k++)
				if (drand48() < ways[i].share)
					p->pages[p->count++] = (struct ikv_page_ref){
					    .page = k, .hi = (uint16_t)w->page, .mask = IKV_NO_MASK};
			p->total_tokens = w->tokens;
		}
	for (int i = 0; i < HQ * D; i++)
		w->q[i] = (float)(2 * drand48() - 1);
}

static double call(struct world *w, const struct build *b, int way)
{
	struct ikv_attn_unit units[HKV];
	struct ikv_err err;
	const uint32_t n = (uint32_t)ways[way].plans, heads = HQ / n;
	for (uint32_t i = 0; i < n; i++)
		units[i] = (struct ikv_attn_unit){.q_first = i * heads,
						  .q_count = heads,
						  .plan = &w->plans[way][i],
						  .q = w->q + i * heads * D,
						  .out = w->out + i * heads * D,
						  .q_len = 1};
	before_call(w);
	double start = now();
	if (b->ops->decode(b->backend, units, n, &err))
		die(b->name, err.text);
	return now() - start;
}

/* Builds compute the same, within what formats allow kernels to round. */
static void compare(struct world *w, const struct build *b, int way)
{
	double off = 0, all = 0;
	if (b == w->build)
		memcpy(w->first, w->out, sizeof w->out);
	for (int i = 0; i < HQ * D; i++) {
		off += (double)(w->out[i] - w->first[i]) * (w->out[i] - w->first[i]);
		all += (double)w->first[i] * w->first[i];
	}
	if (!(off <= 4e-4 * all))
		printf("%s: %s: results differ by %.1e from the first build's\n", b->name, ways[way].name,
		       sqrt(off / all));
}

static void measure(struct world *w)
{
	for (int way = 0; way < WAYS; way++)
		for (uint32_t i = 0; i < w->builds; i++) {
			call(w, &w->build[i], way);
			compare(w, &w->build[i], way);
		}
	for (double end = now() + w->seconds; w->runs < RUNS_MAX && (w->runs < 3 || now() < end); w->runs++)
		for (int way = 0; way < WAYS; way++) {
			uint32_t first = (uint32_t)lrand48();
			call(w, &w->build[first % w->builds], way); /* the first one after another way is slower */
			for (uint32_t k = 0; k < w->builds; k++) {
				struct build *b = &w->build[(first + k) % w->builds];
				b->times[way][w->runs] = call(w, b, way);
			}
		}
}

int main(int argc, char **argv)
{
	static struct world w;
	static struct build builds[BUILDS];
	if (argc < 7 || argc > 6 + BUILDS) {
		fprintf(stderr, "usage: attention_by_turns FORMAT SECONDS TOKENS PAGE THREADS BUILD[@ISA] ...\n");
		return 2;
	}
	for (int f = IKV_FMT_SKIP + 1; f < IKV_FMT_COUNT; f++)
		if (!strcasecmp(ikv_format_names()[f], argv[1]))
			w.format = (enum ikv_format)f;
	w.seconds = atof(argv[2]);
	w.tokens = (uint32_t)atoi(argv[3]);
	w.page = (uint32_t)atoi(argv[4]);
	w.threads = (uint32_t)atoi(argv[5]);
	w.builds = (uint32_t)argc - 6;
	w.build = builds;
	if (w.format == IKV_FMT_SKIP || w.page == 0 || w.tokens % w.page || !w.tokens)
		die(argv[1], "no such page format, or tokens that are no whole number of pages");
	w.cool = malloc(COOL_BYTES);
	if (!w.cool)
		die("memory", "none left");
	memset(w.cool, 1, COOL_BYTES);
	for (uint32_t i = 0; i < w.builds; i++)
		open_build(&w, &builds[i], argv[6 + i]);
	make_plans(&w);
	measure(&w);
	for (int way = 0; way < WAYS; way++) {
		printf("%-13s %-12s", argv[1], ways[way].name);
		for (uint32_t i = 0; i < w.builds; i++) {
			double *t = builds[i].times[way];
			qsort(t, w.runs, sizeof *t, ascending);
			printf("  %8.3f (%8.3f)", 1e3 * t[w.runs / 2], 1e3 * t[w.runs / 8]);
		}
		printf(" ms\n");
	}
	return 0;
}
