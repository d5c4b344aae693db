/* Decode attention of the CPU backend beside ggml's flash attention, by turns in one process: times, their ratio, and
 * errors against double precision. Built and run by ggml_attention.sh. ggml gets its best layout, [head][token][D].
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ggml-cpu.h>
#include <ggml.h>
#include <intentkv.h>

enum { D = 128, HQ = 32, HKV = 8, PAGE = 16, RUNS_MAX = 200 };

struct pair { /* what is compared */
	enum ggml_type theirs;
	enum ikv_format ours;
};

static const struct pair pairs[] = {
    {GGML_TYPE_F16, IKV_FMT_FP16}, {GGML_TYPE_Q8_0, IKV_FMT_INT8}, {GGML_TYPE_Q4_0, IKV_FMT_INT4}};

struct world {
	uint32_t tokens;
	uint16_t *rows[2]; /* K and V as FP16, [token][head][D] */
	float q[HQ * D];
	struct ggml_context *context;
	struct ggml_cgraph *graph;
	struct ggml_tensor *tensors[2], *query, *result;
	struct ggml_cplan plan;
	struct ikv_backend *backend;
	struct ikv_plan pages;
	float out[HQ * D];
};

static void die(const char *what)
{
	fprintf(stderr, "ggml_attention: %s\n", what);
	exit(1);
}

static double seconds(void)
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

static void open_theirs(struct world *w, enum ggml_type type, int threads)
{
	float row[D];
	size_t head = ggml_row_size(type, D) * w->tokens;
	struct ggml_init_params p = {2 * head * HKV + ((size_t)8 << 20), NULL, false};
	w->context = ggml_init(p);
	if (!w->context)
		die("ggml_init failed");
	for (int v = 0; v < 2; v++) {
		w->tensors[v] = ggml_new_tensor_3d(w->context, type, D, w->tokens, HKV);
		for (uint32_t h = 0; h < HKV; h++)
			for (uint32_t t = 0; t < w->tokens; t++) {
				const uint16_t *from = w->rows[v] + ((size_t)t * HKV + h) * D;
				char *to = (char *)w->tensors[v]->data + h * head + t * ggml_row_size(type, D);
				for (int d = 0; d < D; d++)
					row[d] = ikv_fp16_to_float(from[d]);
				if (type == GGML_TYPE_F16)
					memcpy(to, from, sizeof(uint16_t) * D);
				else
					ggml_quantize_chunk(type, row, to, 0, 1, D, NULL);
			}
	}
	w->query = ggml_new_tensor_3d(w->context, GGML_TYPE_F32, D, 1, HQ);
	w->result = ggml_flash_attn_ext(w->context, w->query, w->tensors[0], w->tensors[1], NULL, 1 / sqrtf(D), 0, 0);
	w->graph = ggml_new_graph(w->context);
	ggml_build_forward_expand(w->graph, w->result);
	w->plan = ggml_graph_plan(w->graph, threads, NULL);
	w->plan.work_data = malloc(w->plan.work_size + 1);
}

static void open_ours(struct world *w, enum ikv_format format, uint32_t threads)
{
	struct ikv_err err;
	struct ikv_geometry g = {1, HQ, HKV, D, D, false, PAGE, 1 / sqrtf(D)};
	struct ikv_backend_config c = {threads, "auto", 1};
	if (ikv_backend_cpu.open(&w->backend, &g, &c, &err) ||
	    w->backend->ops->append(w->backend, 0, 0, w->tokens, w->rows[0], w->rows[1], &err) ||
	    ikv_plan_init(&w->pages, PAGE, w->tokens / PAGE, &err))
		die(err.text);
	for (uint32_t p = 0; p < w->tokens / PAGE; p++) {
		if (w->backend->ops->recode(w->backend, 0, 0, 0, HKV, p, format, &err))
			die(err.text);
		w->pages.pages[p] = (struct ikv_page_ref){.page = p, .hi = PAGE, .mask = IKV_NO_MASK};
	}
	w->pages.count = w->tokens / PAGE;
	w->pages.total_tokens = w->tokens;
}

static double run_theirs(struct world *w)
{
	double t = seconds();
	memcpy(w->query->data, w->q, sizeof w->q);
	if (ggml_graph_compute(w->graph, &w->plan) != GGML_STATUS_SUCCESS)
		die("ggml_graph_compute failed");
	return seconds() - t;
}

static double run_ours(struct world *w)
{
	struct ikv_err err;
	struct ikv_attn_unit u = {.q_count = HQ, .plan = &w->pages, .q = w->q, .out = w->out};
	double t = seconds();
	if (w->backend->ops->decode(w->backend, &u, 1, &err))
		die(err.text);
	return seconds() - t;
}

/* A row of 128 values as stored: by ggml, or by us (where K and V rows of one token are coded alike). */
static void stored_row(const struct pair *p, bool ours, const uint16_t *from, float *row)
{
	uint8_t bytes[4 * D];
	if (ours) {
		ikv_format_encode(p->ours, IKV_SIDE_K, from, 1, D, bytes, NULL);
		ikv_format_decode(p->ours, IKV_SIDE_K, bytes, 1, D, row, NULL);
		return;
	}
	for (int d = 0; d < D; d++)
		row[d] = ikv_fp16_to_float(from[d]);
	if (p->theirs == GGML_TYPE_F16)
		return;
	ggml_quantize_chunk(p->theirs, row, bytes, 0, 1, D, NULL);
	ggml_get_type_traits(p->theirs)->to_float(bytes, row, D);
}

/* Relative L2 error of 4 heads (one KV head) against double over the rows as stored. */
static double error_of(const struct world *w, const struct pair *p, bool ours)
{
	const uint32_t group = HQ / HKV;
	const float *out = ours ? w->out : w->result->data;
	double *sum = calloc(group * D, sizeof *sum), total[4] = {0}, error = 0, norm = 0;
	float k[D], v[D];
	for (uint32_t t = 0; t < w->tokens; t++) {
		stored_row(p, ours, w->rows[0] + (size_t)t * HKV * D, k);
		stored_row(p, ours, w->rows[1] + (size_t)t * HKV * D, v);
		for (uint32_t h = 0; h < group; h++) {
			double s = 0;
			for (int d = 0; d < D; d++)
				s += (double)w->q[h * D + (uint32_t)d] * k[d];
			s = exp(s / sqrt(D));
			total[h] += s;
			for (int d = 0; d < D; d++)
				sum[h * D + (uint32_t)d] += s * v[d];
		}
	}
	for (uint32_t i = 0; i < group * D; i++) {
		double x = sum[i] / total[i / D], e = out[i] - x;
		error += e * e;
		norm += x * x;
	}
	free(sum);
	return sqrt(error / norm);
}

static void compare(struct world *w, const struct pair *p, int threads, double budget)
{
	double theirs[RUNS_MAX], ours[RUNS_MAX], error[2][2];
	struct ikv_rng r;
	int n = 0;
	open_theirs(w, p->theirs, threads);
	open_ours(w, p->ours, (uint32_t)threads);
	for (int flat = 1; flat >= 0; flat--) {
		ikv_rng_stream(&r, 2, IKV_STREAM_TEST, 0, 0);
		for (int i = 0; i < HQ * D; i++)
			w->q[i] = (float)ikv_rng_normal(&r) * (flat ? 1e-3f : 1);
		run_theirs(w);
		run_ours(w);
		error[flat][0] = error_of(w, p, false);
		error[flat][1] = error_of(w, p, true);
	}
	for (double end = seconds() + budget; n < RUNS_MAX && (n < 5 || seconds() < end); n++) {
		theirs[n] = run_theirs(w);
		ours[n] = run_ours(w);
	}
	qsort(theirs, (size_t)n, sizeof *theirs, ascending);
	qsort(ours, (size_t)n, sizeof *ours, ascending);
	printf("%7u %7d  %-5s %9.2f %9.2f  %-5s %9.3f %9.3f %7.1f %7.1f %9.1e %9.1e %9.1e %9.1e\n", w->tokens,
	       threads, ggml_type_name(p->theirs), 1e3 * theirs[n / 2], 1e3 * theirs[0],
	       ikv_format_info(p->ours)->name, 1e3 * ours[n / 2], 1e3 * ours[0], theirs[n / 2] / ours[n / 2],
	       theirs[0] / ours[0], error[0][0], error[0][1], error[1][0], error[1][1]);
	fflush(stdout);
	w->backend->ops->close(w->backend);
	ikv_plan_free(&w->pages);
	free(w->plan.work_data);
	ggml_free(w->context);
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	double budget = argc > 2 ? atof(argv[2]) : 5;
	struct world *w = calloc(1, sizeof *w);
	if (!w || threads < 1 || budget <= 0)
		die("usage: ggml_attention [THREADS [SECONDS [TOKENS ...]]]");
	ggml_cpu_init();
	printf("%7s %7s  %-5s %9s %9s  %-5s %9s %9s %7s %7s %9s %9s %9s %9s\n", "tokens", "threads", "ggml", "median",
	       "least", "ours", "median", "least", "ratio", "(least)", "error", "ours", "flat", "ours");
	for (int i = 3; i < (argc > 3 ? argc : 5); i++) {
		w->tokens = argc > 3 ? (uint32_t)strtoul(argv[i], NULL, 10) / PAGE * PAGE : i == 3 ? 8192 : 32768;
		size_t n = (size_t)w->tokens * HKV * D;
		struct ikv_rng r;
		ikv_rng_stream(&r, 1, IKV_STREAM_TEST, 0, 0);
		for (int v = 0; v < 2; v++) {
			w->rows[v] = malloc(n * sizeof *w->rows[v]);
			if (!w->rows[v] || !n)
				die("no memory, or no tokens");
			for (size_t k = 0; k < n; k++)
				w->rows[v][k] = ikv_fp16_from_float((float)ikv_rng_normal(&r));
		}
		for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++)
			compare(w, &pairs[p], threads, budget);
		free(w->rows[0]);
		free(w->rows[1]);
	}
	free(w);
	return 0;
}
