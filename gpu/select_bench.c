#include <cuda_runtime_api.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "gpu/bench.h"
#include "gpu/gpu_tile.h"
#include "gpu/select_bench.h"
#include "intentkv.h"

static cudaError_t make_lists(struct select_bench *b, const struct attend_list *lists)
{
	uint32_t units = b->batch * b->kv_heads;
	size_t bytes = units * sizeof *b->lists;
	struct attend_list *own = malloc(bytes);
	cudaError_t status = cudaMemcpy(own, lists, bytes, cudaMemcpyDeviceToHost);
	for (uint32_t i = 0; i < units && !status; i++)
		own[i].refs = b->refs + (size_t)i * b->chosen;
	status = status ? status : cudaMalloc((void **)&b->lists, bytes);
	status = status ? status : cudaMemcpy(b->lists, own, bytes, cudaMemcpyHostToDevice);
	free(own);
	return status;
}

int select_bench_make(struct select_bench *b, const float *q, const struct attend_list *lists, uint64_t seed,
		      void *stream)
{
	uint32_t units = b->batch * b->kv_heads, group = b->q_heads / b->kv_heads, words = select_words(b->dim);
	uint32_t bit_words = (b->pages + 63) / 64 * 2;
	size_t per_sequence = (size_t)b->pages * b->kv_heads * words, scores_at = units * sizeof(struct select_unit),
	       refs_at = (scores_at + 4 * (size_t)units * b->pages + 15) & ~(size_t)15;
	size_t bits_at = refs_at + (size_t)units * b->chosen * sizeof *b->refs, counts_at = bits_at + 4 * (size_t)units * bit_words;
	struct select_unit *list = calloc(units, sizeof *list);
	cudaError_t status = cudaMalloc((void **)&b->summaries, 4 * b->batch * per_sequence);
	status = status ? status : cudaMalloc(&b->rest, counts_at + 4 * (size_t)units);
	status = status ? status : (cudaError_t)bench_fill_ends(b->summaries, b->batch * per_sequence, seed, stream);
	uint8_t *rest = b->rest;
	b->scores = (float *)(rest + scores_at);
	b->refs = (struct ikv_page_ref *)(rest + refs_at);
	b->bits = (uint32_t *)(rest + bits_at);
	for (uint32_t i = 0; i < units; i++) {
		uint32_t s = i / b->kv_heads, k = i % b->kv_heads;
		list[i] = (struct select_unit){.summaries = b->summaries + s * per_sequence,
					       .q = q + ((size_t)s * b->q_heads + k * group) * b->dim,
					       .scores = b->scores + (size_t)i * b->pages,
					       .q_first = k * group,
					       .q_count = group,
					       .pages = b->pages,
					       .last = b->page_tokens,
					       .budget = b->chosen,
					       .room = b->chosen,
					       .kv_first = k,
					       .kv_count = 1,
					       .refs = b->refs + (size_t)i * b->chosen,
					       .chosen = b->bits + (size_t)i * bit_words,
					       .count = (uint32_t *)(rest + counts_at) + i};
	}
	status = status ? status : cudaMemcpy(rest, list, units * sizeof *list, cudaMemcpyHostToDevice);
	free(list);
	b->args = (struct select_args){.units = b->rest,
				       .count = units,
				       .pages_most = b->pages,
				       .heads_most = group,
				       .multiprocessors = b->multiprocessors,
				       .group = group,
				       .kv_heads = b->kv_heads,
				       .d_qk = b->dim,
				       .page_tokens = b->page_tokens};
	return status ? status : make_lists(b, lists);
}

int select_bench_chain(struct select_bench *b, const struct attend_args *args, const struct attend_config *config,
		       bool overlap, void *stream)
{
	struct attend_config c = *config;
	uint32_t tiles = b->chosen * ((b->page_tokens + TILE_TOKENS - 1) / TILE_TOKENS);
	b->args.overlap = overlap;
	c.overlap = overlap ? 2 : 0;
	int status = select_scores(&b->args, stream);
	status = status ? status : select_pages(&b->args, stream);
	status = status ? status
			: attend_resolve(b->lists, b->batch * b->kv_heads, tiles, (attend_word *)args->words,
					 b->page_tokens, tile_steps(b->dim), overlap, stream);
	return status ? status : attend_launch(args, &c, stream);
}

void select_bench_free(struct select_bench *b)
{
	cudaFree(b->summaries);
	cudaFree(b->rest);
	cudaFree(b->lists);
}

/* The largest bound over the last unit's heads, of one page. */
static float expected(const struct select_bench *b, const float *q, const uint32_t *words, uint16_t *ends)
{
	uint32_t group = b->q_heads / b->kv_heads;
	float best = 0;
	for (uint32_t d = 0; d < b->dim; d++) {
		ends[d] = (uint16_t)words[select_word(d)];
		ends[b->dim + d] = (uint16_t)(words[select_word(d)] >> 16);
	}
	for (uint32_t h = 0; h < group; h++) {
		float x = ikv_quest_bound(q + (size_t)h * b->dim, ends, b->dim);
		best = h == 0 || x > best ? x : best;
	}
	return best;
}

static bool chose_right(const struct select_bench *b, const float *q_device)
{
	uint32_t group = b->q_heads / b->kv_heads, words = select_words(b->dim), unit = b->batch * b->kv_heads - 1, got = 0;
	size_t stride = (size_t)b->kv_heads * words, all = b->pages * stride, bits = ((size_t)b->pages + 63) / 64 * 8;
	uint32_t *summaries = malloc(4 * all), *chosen = malloc(bits);
	float *scores = malloc(4 * (size_t)b->pages), *q = malloc(4 * (size_t)group * b->dim);
	uint16_t *ends = malloc(2 * sizeof *ends * b->dim);
	bool good =
	    !cudaMemcpy(summaries, b->summaries + (b->batch - 1) * all, 4 * all, cudaMemcpyDeviceToHost) &&
	    !cudaMemcpy(chosen, b->bits + unit * (bits / 4), bits, cudaMemcpyDeviceToHost) &&
	    !cudaMemcpy(scores, b->scores + (size_t)unit * b->pages, 4 * (size_t)b->pages, cudaMemcpyDeviceToHost) &&
	    !cudaMemcpy(q, q_device + (size_t)unit * group * b->dim, 4 * (size_t)group * b->dim, cudaMemcpyDeviceToHost);
	float lowest = INFINITY, highest = -INFINITY; /* of the chosen and of the others */
	for (uint32_t p = 0; good && p < b->pages; p++) {
		float x = expected(b, q, summaries + p * stride + (stride - words), ends);
		bool in = chosen[p / 32] >> p % 32 & 1;
		good = !memcmp(&x, &scores[p], sizeof x);
		got += in;
		lowest = in && x < lowest ? x : lowest;
		highest = !in && x > highest ? x : highest;
	}
	free(summaries), free(chosen), free(scores), free(q), free(ends);
	return good && got == b->chosen && lowest >= highest;
}

const char *select_bench_wrong(struct select_bench *b, const struct attend_args *args,
			       const struct attend_config *config, void *stream)
{
	size_t bytes = (size_t)b->batch * b->q_heads * b->dim * sizeof(float);
	uint8_t *out = malloc(2 * bytes);
	cudaError_t status = cudaMemcpy(out, args->out, bytes, cudaMemcpyDeviceToHost);
	status = status ? status : (cudaError_t)select_bench_chain(b, args, config, false, stream);
	status = status ? status : cudaStreamSynchronize(stream);
	status = status ? status : cudaMemcpy(out + bytes, args->out, bytes, cudaMemcpyDeviceToHost);
	bool same = !status && !memcmp(out, out + bytes, bytes);
	free(out);
	return status			  ? cudaGetErrorString(status)
	       : !same			  ? "overlapping launches give another answer"
	       : !chose_right(b, args->q) ? "other pages chosen than the CPU chooses"
					  : NULL;
}
