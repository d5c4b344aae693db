/* Times of latent attention, in the manner of bench_gpu.c: the median over replays of a graph that launches the kernels
 * once for each of several sets of inputs, which together are far larger than the L2 cache. */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gpu/bench_replay.h"
#include "gpu/mla.h"
#include "gpu/mla_bench.h"
#include "gpu/split.h"
#include "intentkv/rng.h"

#define ROTATE_BYTES ((uint64_t)1 << 30)
#define SETS_MAX     16
#define MIXED        MLA_FORMATS

struct shape {
	const char *name;
	uint32_t batch, heads, tokens;
};

static const struct shape shapes[] = {
    {"L1", 16, 128, 8192},  {"L2", 128, 128, 8192}, {"L3", 128, 128, 32768}, {"L4", 16, 128, 32768},
    {"L5", 1, 128, 32768}, {"L6", 128, 16, 8192},  {"L7", 128, 64, 8192},   {"L8", 1, 128, 8192},
};

struct row {
	const struct shape *shape;
	int format;
	uint32_t page_tokens, pages, chosen;
	uint32_t blocks;
	double selection, ms[3], read_ms, error; /* ms: median, least, most */
	uint64_t bytes;
};

struct set {
	void *groups, *inputs;
	struct mla_args args;
	struct mla_config config;
};

static struct ikv_err err;

static void give_up(void)
{
	fprintf(stderr, "intentkv: bench gpu: %s\n", err.text);
	exit(IKV_FAILED);
}

static void must(int status, const char *doing)
{
	if (device_failed(status, doing, &err))
		give_up();
}

static bool listed(const char *list, const char *name)
{
	size_t n = strlen(name);
	for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (!strncmp(p, name, n) && (p[n] == ',' || !p[n]))
			return true;
	return false;
}

static enum ikv_format page_format(int format, uint64_t page)
{
	struct ikv_rng r;
	if (format != MIXED)
		return (enum ikv_format)format;
	ikv_rng_stream(&r, page, (enum ikv_stream)1, 0, 0);
	return (enum ikv_format)(IKV_FMT_FP16 + ikv_rng_below(&r, 3)); /* FP16, FP8, INT8 */
}

/* Page table and groups of a set, pages of a sequence in order. Returns the host's copy of the table. */
static attend_entry *make_pages(const struct mla_bench *b, const struct row *x, struct set *s, uint64_t seed)
{
	uint64_t slots = (uint64_t)x->shape->batch * x->pages, bytes = 0, begin = 0;
	uint32_t groups = x->page_tokens / MLA_GROUP;
	attend_entry *table = malloc(slots * sizeof *table);
	for (uint64_t i = 0; i < slots; i++) {
		table[i] = (uint64_t)page_format(x->format, i) | bytes;
		bytes += (uint64_t)groups * mla_group_bytes(table[i] & 15);
	}
	must(cudaMalloc(&s->groups, bytes), "allocate pages");
	for (uint64_t i = 0; i <= slots; i++) { /* runs of one format at a time */
		if (i < slots && (table[i] & 15) == (table[begin] & 15))
			continue;
		must(mla_bench_fill((uint8_t *)s->groups + (table[begin] & ~15ull), (i - begin) * groups,
				    table[begin] & 15, seed + table[begin], b->dev->stream),
		     "fill pages");
		begin = i;
	}
	for (uint64_t i = 0; i < slots; i++)
		table[i] += (uint64_t)(uintptr_t)s->groups;
	return table;
}

/* Ascending random pages of one sequence. */
static void choose(const struct row *x, struct ikv_rng *r, struct ikv_page_ref *refs)
{
	uint32_t left = x->chosen, n = 0;
	for (uint32_t p = 0; p < x->pages && left; p++) {
		if (ikv_rng_below(r, x->pages - p) >= left)
			continue;
		refs[n++] = (struct ikv_page_ref){.page = p, .hi = (uint16_t)x->page_tokens, .mask = IKV_NO_MASK};
		left--;
	}
}

/* The last head of the last sequence in double precision; largest difference. */
static double check(const struct row *x, const struct set *s, const attend_entry *table,
		    const struct ikv_page_ref *refs)
{
	uint32_t n = x->page_tokens, last = x->shape->batch * x->shape->heads - 1;
	uint8_t *groups = malloc((size_t)(n / 8) * MLA_GROUP_BYTES), *k = malloc((size_t)n * 2 * MLA_DIM + 64);
	float *rows = malloc((size_t)n * MLA_DIM * 4), *out = malloc(MLA_OUT * 4), factor;
	uint16_t q[MLA_DIM];
	double acc[MLA_OUT] = {0}, top = -INFINITY, sum = 0, worst = 0;
	must(cudaMemcpy(q, s->args.q + (size_t)last * MLA_DIM, sizeof q, cudaMemcpyDeviceToHost), "read a query");
	must(cudaMemcpy(&factor, s->args.factor + last, 4, cudaMemcpyDeviceToHost), "read a factor");
	must(cudaMemcpy(out, s->args.out + (size_t)last * MLA_OUT, MLA_OUT * 4, cudaMemcpyDeviceToHost),
	     "read an output");
	for (uint32_t i = 0; i < x->chosen; i++) {
		attend_entry e = table[(uint64_t)(x->shape->batch - 1) * x->pages + refs[i].page];
		enum ikv_format f = (enum ikv_format)(e & 15);
		must(cudaMemcpy(groups, (void *)(uintptr_t)(e & ~15ull), (size_t)(n / 8) * mla_group_bytes(f),
				cudaMemcpyDeviceToHost),
		     "read a page");
		mla_tile_unpack(f, n, MLA_DIM, groups, k);
		ikv_format_decode(f, IKV_SIDE_K, k, n, MLA_DIM, rows, NULL);
		for (uint32_t t = 0; t < n; t++) {
			const float *row = rows + (size_t)t * MLA_DIM;
			double dot = 0;
			for (uint32_t c = 0; c < MLA_DIM; c++)
				dot += (double)ikv_fp16_to_float(q[c]) * row[c];
			dot *= factor * 0.69314718055994531;
			double most = fmax(top, dot), shrink = exp(top - most), w = exp(dot - most);
			sum = sum * shrink + w;
			for (uint32_t c = 0; c < MLA_OUT; c++)
				acc[c] = acc[c] * shrink + w * row[c];
			top = most;
		}
	}
	for (uint32_t c = 0; c < MLA_OUT; c++) {
		double d = fabs(acc[c] / sum - out[c]);
		worst = d <= worst ? worst : d == d ? d : INFINITY;
	}
	free(groups), free(k), free(rows), free(out);
	return worst;
}

struct places { /* of arrays in a set's inputs */
	size_t table, refs, segments, jobs, factor, q, out, lse, part_sums, parts, end;
};

static size_t up(size_t bytes)
{
	return (bytes + 255) & ~(size_t)255;
}

static struct places lay_out(const struct row *x, const struct mla_config *c, uint32_t pieces)
{
	size_t batch = x->shape->batch, rows = batch * x->shape->heads;
	struct places p = {0};
	p.refs = up(batch * x->pages * 8);
	p.segments = p.refs + up(batch * x->chosen * sizeof(struct ikv_page_ref));
	p.jobs = p.segments + up(pieces * sizeof(struct mla_segment));
	p.factor = p.jobs + up(batch * sizeof(struct mla_job));
	p.q = p.factor + up(rows * 4);
	p.out = p.q + up(rows * MLA_DIM * 2);
	p.lse = p.out + up(rows * MLA_OUT * 4);
	p.part_sums = p.lse + up(rows * 4);
	p.parts = p.part_sums + up((size_t)pieces * c->width * c->rows * 8);
	p.end = p.parts + up((size_t)pieces * c->width * c->rows * MLA_OUT * 4);
	return p;
}

/* Jobs, segments and page lists of a set, and the arguments of its launch. */
static void make_set(const struct mla_bench *b, struct row *x, struct set *s, uint64_t seed, bool compare)
{
	const struct shape *h = x->shape;
	uint32_t groups = x->page_tokens / MLA_GROUP, used = 0, heads = h->heads;
	attend_entry *table = make_pages(b, x, s, seed);
	struct ikv_page_ref *refs = calloc((size_t)h->batch * x->chosen, sizeof *refs);
	struct split_job *loads = calloc(h->batch, sizeof *loads);
	struct mla_job *jobs = calloc(h->batch, sizeof *jobs);
	struct ikv_rng r;
	mla_configure(heads, b->dev->major == 9, &s->config);
	uint32_t lists = b->dev->multiprocessors / s->config.width;
	struct split_piece *pieces = calloc(split_most(h->batch, lists), sizeof *pieces);
	ikv_rng_stream(&r, seed, (enum ikv_stream)2, 0, 0);
	x->bytes = 0;
	for (uint32_t i = 0; i < h->batch; i++) {
		choose(x, &r, refs + (size_t)i * x->chosen);
		for (uint32_t k = 0; k < x->chosen; k++)
			x->bytes += (uint64_t)groups * mla_group_bytes(table[(uint64_t)i * x->pages + refs[(size_t)i * x->chosen + k].page] & 15);
		loads[i] = (struct split_job){x->chosen * groups, SPLIT_PIECE_BYTES / MLA_PIECE_GROUPS};
		jobs[i] = (struct mla_job){.row = i * heads,
					   .heads = heads,
					   .pages = x->chosen,
					   .groups = x->chosen * groups,
					   .mass = UINT64_MAX,
					   .group_mass = UINT64_MAX};
	}
	const struct split_rule rule = {
	    .blocks = lists, .least = s->config.groups, .round = s->config.groups, .slack = 1};
	uint32_t n = split_jobs(loads, h->batch, &rule, pieces, &used);
	s->config.lists = used;
	s->config.jobs = h->batch;
	s->config.joins = n > h->batch;
	s->config.codes = x->format != IKV_FMT_FP16;
	struct places p = lay_out(x, &s->config, n);
	struct mla_segment *segments = calloc(n, sizeof *segments);
	must(cudaMalloc(&s->inputs, p.end), "allocate inputs");
	uint8_t *d = s->inputs;
	for (uint32_t i = 0; i < n; i++)
		if (!jobs[pieces[i].job].parts++)
			jobs[pieces[i].job].first_part = i;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t j = pieces[i].job;
		segments[pieces[i].at] =
		    (struct mla_segment){.refs = (struct ikv_page_ref *)(d + p.refs) + (size_t)j * x->chosen,
					 .table = (attend_entry *)d + (uint64_t)j * x->pages,
					 .stride = 1,
					 .job = j,
					 .first = pieces[i].first,
					 .end = pieces[i].end,
					 .row = j * heads,
					 .heads = heads,
					 .parts = jobs[j].parts,
					 .part = i,
					 .next = pieces[i].next,
					 .groups = jobs[j].groups,
					 .group_mass = UINT64_MAX};
	}
	float *factor = malloc((size_t)h->batch * heads * 4);
	for (uint32_t i = 0; i < h->batch * heads; i++)
		factor[i] = 1.4426950408889634f / sqrtf(192);
	must(cudaMemset(d, 0xff, p.end), "clear inputs"); /* outputs poisoned */
	must(cudaMemcpy(d, table, (size_t)h->batch * x->pages * 8, cudaMemcpyHostToDevice), "copy inputs");
	must(cudaMemcpy(d + p.refs, refs, (size_t)h->batch * x->chosen * sizeof *refs, cudaMemcpyHostToDevice),
	     "copy inputs");
	must(cudaMemcpy(d + p.segments, segments, n * sizeof *segments, cudaMemcpyHostToDevice), "copy inputs");
	must(cudaMemcpy(d + p.jobs, jobs, h->batch * sizeof *jobs, cudaMemcpyHostToDevice), "copy inputs");
	must(cudaMemcpy(d + p.factor, factor, (size_t)h->batch * heads * 4, cudaMemcpyHostToDevice), "copy inputs");
	must(mla_bench_queries((uint16_t *)(d + p.q), (uint64_t)h->batch * heads * MLA_DIM, seed + 77, b->dev->stream),
	     "fill queries");
	s->args = (struct mla_args){.segments = (struct mla_segment *)(d + p.segments),
				    .jobs = (struct mla_job *)(d + p.jobs),
				    .q = (uint16_t *)(d + p.q),
				    .factor = (float *)(d + p.factor),
				    .out = (float *)(d + p.out),
				    .lse = (float *)(d + p.lse),
				    .parts = (float *)(d + p.parts),
				    .part_sums = (float *)(d + p.part_sums),
				    .d_v = MLA_OUT,
				    .page_groups = groups,
				    .width = s->config.width,
				    .keep = s->config.width > 1};
	if (compare) {
		must(mla_launch(&s->args, &s->config, b->dev->stream), "launch attention");
		must(cudaStreamSynchronize(b->dev->stream), "run attention");
		x->error = check(x, s, table, refs + (size_t)(h->batch - 1) * x->chosen);
	}
	free(table), free(refs), free(loads), free(jobs), free(pieces), free(segments), free(factor);
}

static void time_sets(const struct mla_bench *b, const struct set *sets, uint32_t n, double ms[3])
{
	cudaStream_t stream = b->dev->stream;
	struct bench_replay times;
	must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "record a graph");
	for (uint32_t i = 0; i < n; i++)
		must(mla_launch(&sets[i].args, &sets[i].config, stream), "launch attention");
	if (bench_replay(stream, b->setup->warm_ms, b->setup->replays, &times, &err))
		give_up();
	ms[0] = times.median / n;
	ms[1] = times.least / n;
	ms[2] = times.most / n;
}

static void run_row(const struct mla_bench *b, struct row *x)
{
	struct set sets[SETS_MAX];
	uint32_t n = 0;
	do {
		make_set(b, x, &sets[n], 1000 * (n + 1), n == 0 && b->setup->check);
		n++;
	} while (n < SETS_MAX && (n < 2 || n * x->bytes < ROTATE_BYTES));
	must(cudaStreamSynchronize(b->dev->stream), "fill pages");
	time_sets(b, sets, n, x->ms);
	x->blocks = sets[0].config.lists * sets[0].config.width;
	uint64_t most = x->bytes < b->size ? x->bytes : b->size; /* beyond it the time grows in proportion */
	x->read_ms = b->read_time(b->buffer, b->size, most) * ((double)x->bytes / (double)most);
	for (uint32_t i = 0; i < n; i++) {
		cudaFree(sets[i].groups);
		cudaFree(sets[i].inputs);
	}
}

static void hand_over(const struct row *x, gpu_bench_row *each, void *context)
{
	struct gpu_bench_result r = {.shape = x->shape->name,
				     .format = x->format == MIXED ? "mixed" : ikv_format_names()[x->format],
				     .batch = x->shape->batch,
				     .q_heads = x->shape->heads,
				     .kv_heads = 1,
				     .head_dim = MLA_DIM,
				     .kv_tokens = x->shape->tokens,
				     .page_tokens = x->page_tokens,
				     .blocks = x->blocks,
				     .warps = 16,
				     .slots = 3,
				     .share = x->selection,
				     .ms_median = x->ms[0],
				     .ms_min = x->ms[1],
				     .ms_max = x->ms[2],
				     .read_ms = x->read_ms,
				     .error = x->error,
				     .kv_bytes = x->bytes};
	r.operations = 2.0 * (MLA_DIM + MLA_OUT) * r.q_heads * r.kv_tokens * r.share * r.batch;
	each(context, &r);
}

void mla_bench(const struct mla_bench *b, gpu_bench_row *each, void *context)
{
	static const uint32_t pages[] = {16, 64};
	static const double selections[] = {1, 0.25, 0.0625};
	must(mla_prepare(b->dev->major == 9), "set up the kernels");
	for (unsigned s = 0; s < sizeof shapes / sizeof *shapes; s++)
		for (int f = 1; f <= MIXED; f++)
			for (int p = 0; p < 2; p++)
				for (int l = 0; l < 3; l++) {
					char page[16], selection[16];
					struct row x = {.shape = &shapes[s],
							.format = f,
							.page_tokens = pages[p],
							.selection = selections[l]};
					snprintf(page, sizeof page, "%u", pages[p]);
					snprintf(selection, sizeof selection, "%g", selections[l]);
					if (!listed(b->setup->shapes, shapes[s].name) || !listed(b->setup->pages, page) ||
					    !listed(b->setup->selections, selection) ||
					    !listed(b->setup->formats, f == MIXED ? "mixed" : ikv_format_names()[f]))
						continue;
					x.pages = x.shape->tokens / x.page_tokens;
					x.chosen = (uint32_t)(x.pages * x.selection + 0.5);
					run_row(b, &x);
					hand_over(&x, each, context);
				}
}
