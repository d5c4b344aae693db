#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gpu/bench.h"
#include "gpu/bench_move.h"
#include "intentkv/rng.h"

#define LINK_BYTES ((uint64_t)64 << 20) /* of one row */
#define PAGES      65536u               /* re-encoded by one launch: 16 tokens of 128 channels, K and V */

static void must(int status, const char *doing)
{
	struct ikv_err err;
	if (device_failed(status, doing, &err)) {
		fprintf(stderr, "intentkv: bench gpu: %s\n", err.text);
		exit(IKV_FAILED);
	}
}

enum way { WAY_COPY, WAY_BATCH, WAY_GATHER };

struct job { /* one row's work: pieces of pinned memory and of the device, in random order */
	const struct move_bench *b;
	enum way way;
	bool to_device;
	uint64_t piece;
	uint32_t count, blocks;
	uint8_t *host;
	void **from, **to;
	size_t *sizes;
	struct gather_item *items; /* pinned */
	const struct encode_shape *shape;
	const struct encode_pair *pairs;
};

static int batch_copy(const struct job *j, cudaStream_t stream)
{
#if CUDART_VERSION >= 12080
	struct cudaMemcpyAttributes how = {.srcAccessOrder = cudaMemcpySrcAccessOrderStream};
	size_t first = 0;
#if CUDART_VERSION >= 13000
	return cudaMemcpyBatchAsync(j->to, (const void *const *)j->from, j->sizes, j->count, &how, &first, 1, stream);
#else
	size_t failed;
	return cudaMemcpyBatchAsync(j->to, j->from, j->sizes, j->count, &how, &first, 1, &failed, stream);
#endif
#else
	(void)j, (void)stream;
	return cudaErrorNotSupported;
#endif
}

static void run(const struct job *j)
{
	cudaStream_t stream = j->b->device->stream;
	struct gather_list list = {j->items, j->count, j->blocks};
	if (j->shape)
		must(encode_launch(j->shape, j->pairs, PAGES, stream), "re-encode pages");
	else if (j->way == WAY_BATCH)
		must(batch_copy(j, stream), "copy a batch over the host link");
	else if (j->way == WAY_GATHER)
		must(move_gather(&list, NULL, stream), "copy over the host link");
	else
		for (uint32_t i = 0; i < j->count; i++)
			must(cudaMemcpyAsync(j->to[i], j->from[i], j->piece, cudaMemcpyDefault, stream),
			     "copy over the host link");
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

/* Median of the replays, by events; these calls cannot all be recorded in a graph. */
static double time_of(const struct job *j)
{
	cudaEvent_t begin, end;
	double times[256];
	cudaStream_t stream = j->b->device->stream;
	must(cudaEventCreate(&begin), "make an event");
	must(cudaEventCreate(&end), "make an event");
	for (uint32_t i = 0; i < j->b->replays + 2; i++) {
		float ms;
		must(cudaEventRecord(begin, stream), "time a copy");
		run(j);
		must(cudaEventRecord(end, stream), "time a copy");
		must(cudaEventSynchronize(end), "run a copy");
		must(cudaEventElapsedTime(&ms, begin, end), "time a copy");
		times[i < 2 ? 0 : i - 2] = ms;
	}
	qsort(times, j->b->replays, sizeof *times, by_value);
	cudaEventDestroy(begin);
	cudaEventDestroy(end);
	return times[j->b->replays / 2];
}

/* Pieces go to random places, as pages do. Both sides hold LINK_BYTES. */
static void spread(struct job *j)
{
	struct ikv_rng r;
	uint8_t *device = j->b->buffer;
	uint32_t *order = malloc(j->count * sizeof *order);
	ikv_rng_stream(&r, j->piece, (enum ikv_stream)4, 0, 0);
	for (uint32_t i = 0; i < j->count; i++) {
		uint32_t k = (uint32_t)ikv_rng_below(&r, i + 1);
		order[i] = order[k];
		order[k] = i;
	}
	for (uint32_t i = 0; i < j->count; i++) {
		uint8_t *a = j->host + order[i] * j->piece, *b = device + i * j->piece;
		j->from[i] = j->to_device ? a : b;
		j->to[i] = j->to_device ? b : a;
		j->sizes[i] = j->piece;
		j->items[i] =
		    (struct gather_item){(uint64_t)(uintptr_t)j->from[i], (uint64_t)(uintptr_t)j->to[i], j->piece};
	}
	free(order);
}

/* Did the pieces arrive? The end of some of them. */
static void check(const struct job *j)
{
	uint8_t a[16], b[16];
	for (uint32_t i = 0; i < j->count; i += 1 + j->count / 16) {
		uint64_t at = (j->piece - 16) / 16 * 16;
		must(cudaMemcpy(a, (uint8_t *)j->from[i] + at, 16, cudaMemcpyDefault), "look at a copy");
		must(cudaMemcpy(b, (uint8_t *)j->to[i] + at, 16, cudaMemcpyDefault), "look at a copy");
		if (memcmp(a, b, 16)) {
			fprintf(stderr, "intentkv: bench gpu: a piece of %llu bytes was not copied\n",
				(unsigned long long)j->piece);
			exit(IKV_FAILED);
		}
	}
}

static void link_row(struct job *j, enum way way, bool to_device, uint64_t piece, uint32_t blocks, double ceiling,
		     gpu_bench_move_row *each, void *context)
{
	static const char *const names[] = {"copy", "batch", "gather"};
	j->way = way;
	j->to_device = to_device;
	j->piece = piece;
	j->blocks = blocks;
	j->count = (uint32_t)(LINK_BYTES / piece);
	if (way == WAY_COPY && piece < LINK_BYTES && j->count > 1024)
		j->count = 1024;
	spread(j);
	if (to_device)
		must(cudaMemset(j->b->buffer, 0, LINK_BYTES), "clear the target");
	else
		memset(j->host, 0, LINK_BYTES);
	must(cudaDeviceSynchronize(), "clear the target");
	double ms = time_of(j);
	check(j);
	struct gpu_bench_move row = {.kernel = to_device ? "to_device" : "to_host",
				     .what = names[way],
				     .piece_bytes = piece,
				     .blocks = blocks,
				     .bytes = j->count * piece,
				     .ms = ms,
				     .ceiling_gbps = ceiling};
	each(context, &row);
}

static void links(struct job *j, gpu_bench_move_row *each, void *context)
{
	static const uint64_t pieces[] = {1024, 4096, 8192, 16384, 65536};
	static const uint32_t blocks[] = {1, 2, 4, 16, 128};
	for (int to_device = 1; to_device >= 0; to_device--) {
		double ceiling = 0;
		j->way = WAY_COPY;
		j->to_device = to_device;
		j->piece = LINK_BYTES;
		j->count = 1;
		spread(j);
		ceiling = (double)LINK_BYTES / time_of(j) / 1e6;
		link_row(j, WAY_COPY, to_device, LINK_BYTES, 0, ceiling, each, context);
		link_row(j, WAY_COPY, to_device, 65536, 0, ceiling, each, context);
#if CUDART_VERSION >= 12080
		for (int i = 1; i < 5; i++)
			link_row(j, WAY_BATCH, to_device, pieces[i], 0, ceiling, each, context);
#endif
		for (int i = 0; i < 5; i++)
			for (int k = 0; k < 5; k++)
				link_row(j, WAY_GATHER, to_device, pieces[i], blocks[k], ceiling, each, context);
	}
}

/* Random FP16 pages once re-encoded, so that every form is a real one, then timed. */
static void recodes(struct job *j, gpu_bench_move_row *each, void *context)
{
	static const enum ikv_format ways[][2] = {
	    {IKV_FMT_FP16, IKV_FMT_FP8},           {IKV_FMT_FP16, IKV_FMT_INT8},
	    {IKV_FMT_FP16, IKV_FMT_INT4},          {IKV_FMT_FP16, IKV_FMT_INT4_RESIDUAL},
	    {IKV_FMT_INT8, IKV_FMT_INT4_RESIDUAL}, {IKV_FMT_INT4_RESIDUAL, IKV_FMT_INT4},
	    {IKV_FMT_FP8, IKV_FMT_FP16},           {IKV_FMT_INT8, IKV_FMT_FP16},
	    {IKV_FMT_INT4, IKV_FMT_FP16},          {IKV_FMT_INT4_RESIDUAL, IKV_FMT_FP16}};
	struct encode_shape shape = {.page_tokens = 16, .d_qk = 128, .d_v = 128, .steps = 8};
	struct encode_pair *pairs = malloc(PAGES * sizeof *pairs);
	void *device;
	must(cudaMalloc(&device, PAGES * sizeof *pairs), "allocate device memory");
	j->shape = &shape;
	j->pairs = device;
	uint8_t *halves = j->b->buffer, *source = halves + (uint64_t)PAGES * tile_bytes(IKV_FMT_FP16, 8),
		*target = source + (uint64_t)PAGES * tile_bytes(IKV_FMT_FP16, 8);
	must(bench_fill(halves, PAGES, IKV_FMT_FP16, 8, 5, j->b->device->stream), "fill pages");
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		uint64_t from = tile_bytes(ways[i][0], 8), to = tile_bytes(ways[i][1], 8);
		uint8_t *begin = ways[i][0] == IKV_FMT_FP16 ? halves : source;
		for (int step = ways[i][0] == IKV_FMT_FP16; step < 2; step++) {
			for (uint32_t k = 0; k < PAGES; k++) {
				uint32_t at = (uint32_t)((uint64_t)k * 40503 % PAGES); /* pages lie anywhere */
				uint8_t *f =
				    step ? begin + k * from : halves + k * (uint64_t)tile_bytes(IKV_FMT_FP16, 8);
				uint8_t *t = step ? target + at * to : source + k * from;
				pairs[k] =
				    (struct encode_pair){(uint64_t)(uintptr_t)f | (step ? ways[i][0] : IKV_FMT_FP16),
							 (uint64_t)(uintptr_t)t | (step ? ways[i][1] : ways[i][0])};
			}
			must(cudaMemcpy(device, pairs, PAGES * sizeof *pairs, cudaMemcpyHostToDevice), "copy a list");
			if (!step)
				run(j);
		}
		char name[64];
		snprintf(name, sizeof name, "%s to %s", ikv_format_names()[ways[i][0]],
			 ikv_format_names()[ways[i][1]]);
		struct gpu_bench_move row = {.kernel = "recode",
					     .what = name,
					     .piece_bytes = from,
					     .bytes = PAGES * (from + to),
					     .ms = time_of(j),
					     .ceiling_gbps = j->b->copy_gbps};
		each(context, &row);
	}
	cudaFree(device);
	free(pairs);
}

void move_bench(const struct move_bench *b, gpu_bench_move_row *each, void *context)
{
	uint32_t most = LINK_BYTES / 1024;
	struct job j = {.b = b};
	j.from = malloc(most * sizeof *j.from);
	j.to = malloc(most * sizeof *j.to);
	j.sizes = malloc(most * sizeof *j.sizes);
	void *items, *host;
	must(cudaMallocHost(&items, most * sizeof *j.items), "allocate pinned memory");
	must(cudaMallocHost(&host, LINK_BYTES), "allocate pinned memory");
	j.items = items;
	j.host = host;
	for (uint64_t i = 0; i < LINK_BYTES / 4; i++)
		((uint32_t *)host)[i] = (uint32_t)i * 2654435761u;
	links(&j, each, context);
	recodes(&j, each, context);
	cudaFreeHost(items);
	cudaFreeHost(host);
	free(j.from);
	free(j.to);
	free(j.sizes);
}
