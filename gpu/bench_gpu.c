/* Times of the attention kernels beside the device's own limits.
 *
 * A time is the median over replays of a graph that launches the kernel once for each of several sets of inputs, by
 * CUDA events (bench_replay.h), divided by the launches; the sets together are far larger than the L2 cache. Pages lie in random
 * order. Every row's output is compared with double precision for one query head. */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gpu/attend.h"
#include "gpu/bench.h"
#include "gpu/backend.h"
#include "gpu/bench_gpu.h"
#include "gpu/bench_move.h"
#include "gpu/bench_replay.h"
#include "gpu/device.h"
#include "gpu/gpu.h"
#include "gpu/gpu_tile.h"
#include "gpu/mla_bench.h"
#include "gpu/select_bench.h"
#include "gpu/split.h"

#define ROTATE_BYTES ((uint64_t)1 << 30) /* that the sets of one row hold at least */
#define SETS_MAX     16
#define ERROR_MOST   5e-3 /* of outputs whose values are about 1: a time of wrong answers is none */
#define MIXED        GPU_FORMATS

struct shape {
	const char *name;
	uint32_t batch, q_heads, kv_heads, tokens, dim;
};

static const struct shape shapes[] = {
    {"S1", 1, 32, 8, 131072, 128}, {"S2", 16, 32, 8, 32768, 128}, {"S3", 1, 32, 32, 65536, 128},
    {"S4", 32, 32, 8, 8192, 128},  {"S5", 1, 32, 32, 65536, 64},  {"S6", 16, 64, 8, 32768, 128},
};

struct set { /* inputs of one launch */
	void *tiles, *inputs;
	float *out;
	struct attend_args args;
	struct attend_config config;
	struct attend_list *lists; /* on the device */
	struct select_bench select;
};

struct row {
	struct shape shape;
	int format;
	uint32_t page_tokens;
	double selection;                                     /* share of the pages */
	uint32_t pages, chosen;                               /* of a sequence */
	uint64_t bytes;                                       /* read by one launch: pages with scales */
	double ms[3], overlap_ms, resolve_ms, read_ms, error; /* ms: median, least, most */
	double score_ms, pick_ms, chain_ms;
	uint32_t blocks, warps, slots;
};

static struct device dev;
static struct ikv_err err;
static struct gpu_bench_setup choice;

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

static void record_begin(void)
{
	must(cudaStreamBeginCapture(dev.stream, cudaStreamCaptureModeThreadLocal), "record a graph");
}

/* Milliseconds of a launch: the median; `ends`, if given, gets the least and the most. */
static double record_ends(uint32_t launches, double ends[2])
{
	struct bench_replay times;
	if (bench_replay(dev.stream, choice.warm_ms, choice.replays, &times, &err))
		give_up();
	if (ends) {
		ends[0] = times.least / launches;
		ends[1] = times.most / launches;
	}
	return times.median / launches;
}

static double record_end(uint32_t launches)
{
	return record_ends(launches, NULL);
}

/* Milliseconds to read `bytes` that are in no cache. `buffer` holds at least twice ROTATE_BYTES. */
static double read_time(const void *buffer, uint64_t size, uint64_t bytes)
{
	uint64_t piece = (bytes + 4095) & ~(uint64_t)4095;
	uint32_t n = (uint32_t)(size / piece);
	n = n < 1 ? 1 : n > 64 ? 64 : n;
	record_begin();
	for (uint32_t i = 0; i < n; i++)
		must(bench_read((const uint8_t *)buffer + i * piece, bytes, dev.multiprocessors, dev.upload.device,
				dev.stream),
		     "read");
	return record_end(n);
}

/* GB/s of one large copy over the host link. */
static double link_rate(void *device, void *host, size_t bytes, bool to_device)
{
	record_begin();
	must(cudaMemcpyAsync(to_device ? device : host, to_device ? host : device, bytes,
			     to_device ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, dev.stream),
	     "copy over the host link");
	return bytes / record_end(1) / 1e6;
}

/* The better of what the device has. 10^9 operations a second. */
static double product_rate(float *sink)
{
	double best = 0, operations;
	for (int hopper = 0; hopper <= (dev.major == 9); hopper++) {
		record_begin();
		must((hopper ? bench_products_hopper : bench_products)(hopper ? 600 : 6000, dev.multiprocessors, sink, &operations,
								       dev.stream),
		     "multiply");
		double rate = operations / record_end(1) / 1e6;
		best = rate > best ? rate : best;
	}
	return best;
}

static void ceilings(void *buffer, uint64_t size, struct gpu_bench_limits *m)
{
	size_t link = (size_t)256 << 20;
	void *host;
	record_begin();
	for (int i = 0; i < 100; i++)
		must(bench_nothing(dev.stream), "launch");
	m->kernel_us = record_end(100) * 1e3;
	record_begin();
	must(bench_copy(buffer, (uint8_t *)buffer + size / 2, size / 2, dev.multiprocessors, dev.stream), "copy");
	m->copy_gbps = size / record_end(1) / 1e6;
	for (int i = 0; i < GPU_BENCH_READS; i++) {
		m->read_bytes[i] = (uint64_t)(8.388608e6 * (1 << i));
		m->read_us[i] = read_time(buffer, size, m->read_bytes[i]) * 1e3;
	}
	m->products_gflops = product_rate(buffer);
	must(cudaMallocHost(&host, link), "allocate pinned memory");
	memset(host, 1, link);
	m->to_device_gbps = link_rate(buffer, host, link, true);
	m->to_host_gbps = link_rate(buffer, host, link, false);
	cudaFreeHost(host);
}

static enum ikv_format page_format(int format, uint64_t page)
{
	static const enum ikv_format mix[] = {IKV_FMT_FP16, IKV_FMT_FP8, IKV_FMT_INT8, IKV_FMT_INT4};
	struct ikv_rng r;
	if (format != MIXED)
		return (enum ikv_format)format;
	ikv_rng_stream(&r, page, (enum ikv_stream)1, 0, 0);
	return mix[ikv_rng_below(&r, 4)];
}

/* Page table, in the order sequence, page, head, and tiles, in random order. Returns the host's copy of the table. */
static attend_entry *make_pages(const struct row *x, struct set *s, uint64_t seed)
{
	uint32_t steps = tile_steps(x->shape.dim), tiles = (x->page_tokens + 15) / 16;
	uint64_t slots = (uint64_t)x->shape.batch * x->pages * x->shape.kv_heads, bytes = 0, begin = 0;
	attend_entry *table = malloc(slots * sizeof *table);
	uint32_t *order = malloc(slots * sizeof *order);
	struct ikv_rng r;
	ikv_rng_stream(&r, seed, (enum ikv_stream)3, 0, 0);
	for (uint32_t i = 0; i < slots; i++) {
		uint32_t j = (uint32_t)ikv_rng_below(&r, i + 1);
		order[i] = order[j];
		order[j] = i;
	}
	for (uint64_t i = 0; i < slots; i++) { /* all heads of a page alike in half of the pages of a mixture */
		uint32_t slot = order[i], page = slot / x->shape.kv_heads;
		int format = page_format(x->format, page % 2 ? slot : page);
		bytes = tile_bytes(format, steps) % 128 ? bytes : (bytes + 127) & ~127ull; /* as in a pool */
		table[slot] = (uint64_t)format | bytes;
		bytes += (uint64_t)tiles * tile_bytes(format, steps);
	}
	must(cudaMalloc(&s->tiles, bytes), "allocate pages");
	for (uint64_t i = 0; i <= slots; i++) { /* runs of one format at a time */
		attend_entry first = table[order[begin]];
		if (i < slots && (table[order[i]] & 15) == (first & 15))
			continue;
		must(bench_fill((uint8_t *)s->tiles + (first & ~15ull), (i - begin) * tiles, first & 15, steps,
				seed + first, dev.stream),
		     "fill pages");
		begin = i;
	}
	for (uint64_t i = 0; i < slots; i++)
		table[i] += (uint64_t)(uintptr_t)s->tiles;
	free(order);
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

/* Head 0 of the last job in double precision, from what lies on the device; largest difference. */
static double check(const struct row *x, const struct set *s, const attend_entry *table,
		    const struct ikv_page_ref *refs)
{
	const struct shape *h = &x->shape;
	uint32_t steps = tile_steps(h->dim), tiles = (x->page_tokens + 15) / 16, group = h->q_heads / h->kv_heads,
		 n = x->page_tokens;
	uint32_t job = h->batch * h->kv_heads - 1, row = job * group, head = h->kv_heads - 1;
	uint8_t *packed = malloc((size_t)tiles * TILE_BYTES_MAX), *k = malloc((size_t)n * 2 * h->dim + 64),
		*v = malloc((size_t)n * 2 * h->dim + 64);
	float *rows = malloc((size_t)n * h->dim * 4), *q = malloc(h->dim * 4), *out = malloc(h->dim * 4);
	double *acc = calloc(h->dim, sizeof *acc), *scores = malloc(sizeof *scores * n), top = -INFINITY, sum = 0,
	       worst = 0;
	must(cudaMemcpy(q, s->args.q + (size_t)row * h->dim, h->dim * 4, cudaMemcpyDeviceToHost), "read a query");
	must(cudaMemcpy(out, s->out + (size_t)row * h->dim, h->dim * 4, cudaMemcpyDeviceToHost), "read an output");
	for (uint32_t i = 0; i < x->chosen; i++) { /* no page of the benchmark is TILE_BF16_WIDE */
		attend_entry e = table[((uint64_t)(h->batch - 1) * x->pages + refs[i].page) * h->kv_heads + head];
		enum ikv_format f = (enum ikv_format)(e & 15);
		must(cudaMemcpy(packed, (void *)(uintptr_t)(e & ~15ull), (size_t)tiles * tile_bytes(f, steps),
				cudaMemcpyDeviceToHost),
		     "read a page");
		gpu_tile_unpack(f, n, h->dim, h->dim, steps, packed, k, v);
		ikv_format_decode(f, IKV_SIDE_K, k, n, h->dim, rows, NULL);
		double most = top;
		for (uint32_t t = 0; t < n; t++) {
			double dot = 0;
			for (uint32_t c = 0; c < h->dim; c++)
				dot += (double)q[c] * rows[(size_t)t * h->dim + c];
			scores[t] = dot * s->args.scale;
			most = fmax(most, scores[t]);
		}
		double shrink = exp(top - most);
		sum *= shrink;
		for (uint32_t c = 0; c < h->dim; c++)
			acc[c] *= shrink;
		top = most;
		ikv_format_decode(f, IKV_SIDE_V, v, n, h->dim, rows, NULL);
		for (uint32_t t = 0; t < n; t++) {
			double w = exp(scores[t] - top);
			sum += w;
			for (uint32_t c = 0; c < h->dim; c++)
				acc[c] += w * rows[(size_t)t * h->dim + c];
		}
	}
	for (uint32_t c = 0; c < h->dim; c++) {
		double d = fabs(acc[c] / sum - out[c]);
		worst = d <= worst ? worst : d == d ? d : INFINITY;
	}
	free(packed), free(k), free(v), free(rows), free(q), free(out), free(acc), free(scores);
	return worst;
}

static int resolve(const struct row *x, const struct set *s)
{
	uint32_t tiles = x->chosen * ((x->page_tokens + 15) / 16);
	return attend_resolve(s->lists, x->shape.batch * x->shape.kv_heads, tiles, (attend_word *)s->args.words,
			      x->page_tokens, tile_steps(x->shape.dim), 0, dev.stream);
}

/* Everything one launch needs, in one allocation after the tiles'. */
static void make_set(struct row *x, struct set *s, uint64_t seed, bool compare)
{
	struct attend_config *c = &s->config;
	const struct shape *h = &x->shape;
	uint32_t jobs = h->batch * h->kv_heads, group = h->q_heads / h->kv_heads, tiles = (x->page_tokens + 15) / 16,
		 used;
	uint32_t rows = h->batch * h->q_heads, steps = tile_steps(h->dim), slot = 0;
	uint64_t slots = (uint64_t)h->batch * x->pages * h->kv_heads;
	attend_entry *table = make_pages(x, s, seed);
	struct ikv_page_ref *refs = calloc((size_t)h->batch * x->chosen, sizeof *refs);
	struct split_job *loads = calloc(jobs, sizeof *loads);
	struct split_piece *pieces = calloc(split_most(jobs, dev.multiprocessors), sizeof *pieces);
	struct ikv_rng r;
	ikv_rng_stream(&r, seed, (enum ikv_stream)2, 0, 0);
	x->bytes = 0;
	for (uint32_t b = 0; b < h->batch; b++) {
		choose(x, &r, refs + (size_t)b * x->chosen);
		for (uint32_t k = 0; k < h->kv_heads; k++) {
			double bytes = 0;
			for (uint32_t i = 0; i < x->chosen; i++) {
				uint32_t p = refs[(size_t)b * x->chosen + i].page;
				uint32_t tile =
				    tile_bytes(table[((uint64_t)b * x->pages + p) * h->kv_heads + k] & 15, steps);
				slot = tile_room(tile) > slot ? tile_room(tile) : slot;
				bytes += tile;
			}
			loads[b * h->kv_heads + k] = (struct split_job){x->chosen * tiles, bytes / x->chosen};
			x->bytes += (uint64_t)bytes * tiles;
		}
	}
	x->slots =
	    attend_configure(steps, attend_heads(group), slot, dev.shared_bytes,
			     x->format == MIXED ? 1u << IKV_FMT_FP16 | 1u << IKV_FMT_INT4 : 1u << x->format, c);
	if (!x->slots) {
		fprintf(stderr, "intentkv: bench gpu: a block does not fit\n");
		exit(IKV_FAILED);
	}
	const struct split_rule rule = {
	    .blocks = dev.multiprocessors, .least = c->warps, .round = 1, .slack = ATTEND_SLACK};
	uint32_t n = split_jobs(loads, jobs, &rule, pieces, &used);
	c->blocks = used;
	size_t table_bytes = slots * 8, refs_bytes = (size_t)h->batch * x->chosen * 16,
	       segments_bytes = n * sizeof(struct attend_segment), jobs_bytes = jobs * sizeof(struct attend_job),
	       q_bytes = (size_t)rows * h->dim * 4;
	size_t refs_at = (table_bytes + 255) & ~255ull, segments_at = (refs_at + refs_bytes + 255) & ~255ull;
	size_t jobs_at = (segments_at + segments_bytes + 255) & ~255ull,
	       q_at = (jobs_at + jobs_bytes + 255) & ~255ull;
	size_t out_at = q_at + q_bytes, lse_at = out_at + q_bytes, parts_at = (lse_at + rows * 4 + 255) & ~255ull;
	size_t parts_bytes = attend_part_bytes(n, c->heads, steps), sums_at = parts_at + parts_bytes;
	size_t lists_at = (sums_at + parts_bytes / 2 + 255) & ~255ull,
	       words_at = (lists_at + jobs * sizeof(struct attend_list) + 255) & ~255ull;
	size_t all = words_at + ((size_t)jobs * x->chosen * tiles + 1) / 2 * 16;
	must(cudaMalloc(&s->inputs, all), "allocate inputs");
	uint8_t *d = s->inputs;
	must(cudaMemset(d, 0xff, all), "clear inputs"); /* as parts are to be; outputs are no numbers then */
	struct attend_job *job = calloc(jobs, sizeof *job);
	struct attend_segment *segments = calloc(n, sizeof *segments);
	for (uint32_t j = 0; j < jobs; j++)
		job[j] = (struct attend_job){.row = j * group,
					     .heads = group,
					     .tiles = x->chosen * tiles,
					     .pages = x->chosen,
					     .mass = UINT64_MAX};
	for (uint32_t i = 0; i < n; i++)
		if (!job[pieces[i].job].parts++)
			job[pieces[i].job].first_part = i;
	struct attend_list *lists = calloc(jobs, sizeof *lists);
	uint64_t first = 0;
	for (uint32_t j = 0; j < jobs; j++) {
		uint32_t b = j / h->kv_heads, k = j % h->kv_heads;
		lists[j] = (struct attend_list){.refs = (struct ikv_page_ref *)(d + refs_at) + (size_t)b * x->chosen,
						.table = (attend_entry *)d + (uint64_t)b * x->pages * h->kv_heads + k,
						.first = first,
						.limit = UINT64_MAX,
						.stride = h->kv_heads,
						.tiles = job[j].tiles,
						.parts = job[j].parts};
		first += job[j].tiles;
	}
	s->lists = (struct attend_list *)(d + lists_at);
	must(cudaMemcpy(d, table, table_bytes, cudaMemcpyHostToDevice), "copy inputs");
	must(cudaMemcpy(d + refs_at, refs, refs_bytes, cudaMemcpyHostToDevice), "copy inputs");
	must(cudaMemcpy(d + jobs_at, job, jobs_bytes, cudaMemcpyHostToDevice), "copy inputs");
	must(bench_fill_floats((float *)(d + q_at), (uint64_t)rows * h->dim, seed + 77, dev.stream), "fill queries");
	s->out = (float *)(d + out_at);
	s->args = (struct attend_args){.words = (attend_word *)(d + words_at),
				       .segments = (struct attend_segment *)(d + segments_at),
				       .jobs = (struct attend_job *)(d + jobs_at),
				       .q = (float *)(d + q_at),
				       .out = s->out,
				       .lse = (float *)(d + lse_at),
				       .parts = (float *)(d + parts_at),
				       .part_sums = (float *)(d + sums_at),
				       .d_qk = h->dim,
				       .d_v = h->dim,
				       .page_tokens = x->page_tokens,
				       .scale = 1 / sqrtf((float)h->dim),
				       .slots = x->slots,
				       .slot_bytes = slot};
	for (uint32_t f = 0; f < ATTEND_FORMATS; f++)
		s->args.bytes[f] = tile_bytes(f, steps);
	split_segments(pieces, n, job, segments, &s->args);
	must(cudaMemcpy(d + segments_at, segments, segments_bytes, cudaMemcpyHostToDevice), "copy inputs");
	must(cudaMemcpy(s->lists, lists, jobs * sizeof *lists, cudaMemcpyHostToDevice), "copy inputs");
	must(resolve(x, s), "make lists of tiles");
	x->blocks = c->blocks;
	x->warps = c->warps;
	if (compare) {
		must(attend_launch(&s->args, c, dev.stream), "launch attention");
		must(cudaStreamSynchronize(dev.stream), "run attention");
		x->error = check(x, s, table, refs + (size_t)(h->batch - 1) * x->chosen);
		if (!(x->error < ERROR_MOST)) {
			fprintf(
			    stderr,
			    "intentkv: bench gpu: %s, pages of %u: an output differs from double precision by %g\n",
			    h->name, x->page_tokens, x->error);
			exit(IKV_FAILED);
		}
	}
	free(table), free(refs), free(loads), free(pieces), free(job), free(segments), free(lists);
}

static double time_sets(struct set *sets, uint32_t n, bool overlap, double ends[2])
{
	record_begin();
	for (uint32_t i = 0; i < n; i++) {
		sets[i].config.overlap = overlap && i;
		must(attend_launch(&sets[i].args, &sets[i].config, dev.stream), "launch attention");
	}
	return record_ends(n, ends);
}

static void time_selection(struct row *x, struct set *sets, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const struct shape *h = &x->shape;
		sets[i].select = (struct select_bench){.batch = h->batch,
						       .q_heads = h->q_heads,
						       .kv_heads = h->kv_heads,
						       .dim = h->dim,
						       .pages = x->pages,
						       .page_tokens = x->page_tokens,
						       .chosen = x->chosen,
						       .multiprocessors = dev.multiprocessors};
		must(select_bench_make(&sets[i].select, sets[i].args.q, sets[i].lists, 5000 * (i + 1), dev.stream),
		     "make summaries");
	}
	record_begin();
	for (uint32_t i = 0; i < n; i++)
		must(select_scores(&sets[i].select.args, dev.stream), "score pages");
	x->score_ms = record_end(n);
	record_begin();
	for (uint32_t i = 0; i < n; i++)
		must(select_pages(&sets[i].select.args, dev.stream), "choose pages");
	x->pick_ms = record_end(n);
	record_begin();
	for (uint32_t i = 0; i < n; i++)
		must(select_bench_chain(&sets[i].select, &sets[i].args, &sets[i].config, dev.bulk, dev.stream),
		     "choose pages and attend to them");
	x->chain_ms = record_end(n);
	const char *wrong = choice.check ? select_bench_wrong(&sets[0].select, &sets[0].args, &sets[0].config, dev.stream) : NULL;
	if (wrong) {
		fprintf(stderr, "intentkv: bench gpu: %s: %s\n", x->shape.name, wrong);
		exit(IKV_FAILED);
	}
	for (uint32_t i = 0; i < n; i++)
		select_bench_free(&sets[i].select);
}

static void run_row(struct row *x, const void *buffer, uint64_t size)
{
	struct set sets[SETS_MAX];
	uint32_t n = 0;
	must(attend_prepare(tile_steps(x->shape.dim), dev.shared_bytes), "set up the kernels");
	do {
		make_set(x, &sets[n], 1000 * (n + 1), n == 0 && choice.check);
		n++;
	} while (n < SETS_MAX && (n < 2 || n * x->bytes < ROTATE_BYTES));
	must(cudaStreamSynchronize(dev.stream), "fill pages");
	x->ms[0] = time_sets(sets, n, false, x->ms + 1);
	x->overlap_ms = time_sets(sets, n, true, NULL);
	record_begin();
	for (uint32_t i = 0; i < n; i++)
		must(resolve(x, &sets[i]), "make lists of tiles");
	x->resolve_ms = record_end(n);
	if (x->chosen < x->pages)
		time_selection(x, sets, n);
	x->read_ms = read_time(buffer, size, x->bytes);
	for (uint32_t i = 0; i < n; i++) {
		cudaFree(sets[i].tiles);
		cudaFree(sets[i].inputs);
	}
}

static void hand_over(const struct row *x, gpu_bench_row *each, void *context)
{
	const struct shape *h = &x->shape;
	struct gpu_bench_result r = {.shape = h->name,
				     .format = x->format == MIXED ? "mixed" : ikv_format_names()[x->format],
				     .batch = h->batch,
				     .q_heads = h->q_heads,
				     .kv_heads = h->kv_heads,
				     .head_dim = h->dim,
				     .kv_tokens = h->tokens,
				     .page_tokens = x->page_tokens,
				     .blocks = x->blocks,
				     .warps = x->warps,
				     .slots = x->slots,
				     .share = x->selection,
				     .ms_median = x->ms[0],
				     .ms_min = x->ms[1],
				     .ms_max = x->ms[2],
				     .overlap_ms = x->overlap_ms,
				     .resolve_ms = x->resolve_ms,
				     .score_ms = x->score_ms,
				     .pick_ms = x->pick_ms,
				     .chain_ms = x->chain_ms,
				     .summary_bytes = x->score_ms > 0 ? (uint64_t)h->batch * x->pages * h->kv_heads *
									   select_words(h->dim) * sizeof(uint32_t)
								      : 0,
				     .read_ms = x->read_ms,
				     .error = x->error,
				     .kv_bytes = x->bytes};
	r.operations = 4.0 * h->dim * h->q_heads * h->tokens * x->selection * h->batch;
	each(context, &r);
}

static void run_all(const void *buffer, uint64_t size, gpu_bench_row *each, void *context)
{
	static const uint32_t pages[] = {16, 32, 64, 128};
	static const double selections[] = {1, 0.25, 0.0625};
	for (unsigned s = 0; s < sizeof shapes / sizeof *shapes; s++)
		for (int f = 1; f <= MIXED; f++)
			for (int p = 0; p < 4; p++)
				for (int l = 0; l < 3; l++) {
					char page[16], selection[16];
					struct row x = {.shape = shapes[s],
							.format = f,
							.page_tokens = pages[p],
							.selection = selections[l]};
					snprintf(page, sizeof page, "%u", pages[p]);
					snprintf(selection, sizeof selection, "%g", selections[l]);
					if (!listed(choice.shapes, shapes[s].name) || !listed(choice.pages, page) ||
					    !listed(choice.selections, selection) ||
					    !listed(choice.formats, f == MIXED ? "mixed" : ikv_format_names()[f]))
						continue;
					x.pages = x.shape.tokens / x.page_tokens;
					x.chosen = (uint32_t)(x.pages * x.selection + 0.5);
					run_row(&x, buffer, size);
					hand_over(&x, each, context);
				}
}

int gpu_bench(const struct gpu_bench_setup *setup, struct gpu_bench_limits *limits,
	      void (*begin)(void *context, const struct gpu_bench_limits *limits), gpu_bench_row *each,
	      gpu_bench_move_row *each_move, void *context, struct ikv_err *error)
{
	uint64_t slot_bytes[IKV_FMT_COUNT] = {0}, size = 4 * ROTATE_BYTES;
	char why[500];
	void *buffer;
	backend_why_not(why, sizeof why);
	if (*why)
		return ikv_err_set(error, IKV_UNAVAILABLE, "bench gpu: %s", why);
	choice = *setup;
	if (device_open(&dev, slot_bytes, error))
		return -1;
	must(cudaMalloc(&buffer, size), "allocate a buffer");
	must(bench_fill_floats(buffer, size / 4, 1, dev.stream), "fill a buffer");
	ceilings(buffer, size, limits);
	begin(context, limits);
	if (setup->attention) {
		run_all(buffer, size, each, context);
		mla_bench(&(struct mla_bench){&dev, buffer, size, read_time, setup}, each, context);
	}
	if (setup->moves)
		move_bench(&(struct move_bench){&dev, buffer, size, setup->replays, limits->copy_gbps}, each_move, context);
	cudaFree(buffer);
	device_close(&dev);
	return 0;
}
