/* The backend `cuda`. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>
#include "gpu/backend.h"
#include "gpu/decode.h"
#include "gpu/mla_decode.h"
#include "gpu/probe.h"
#include "gpu/selection.h"
#include "intentkv/alloc.h"

struct cuda {
	struct ikv_backend base;
	struct pages pages;
	struct decode decode;
	struct mla_decode mla; /* where V aliases K */
	struct selection selection;
	bool selects;
};

static bool cuda_usable(char *why, size_t size)
{
	backend_why_not(why, size);
	return !*why;
}

static void cuda_close(struct ikv_backend *b)
{
	struct cuda *c = (struct cuda *)b;
	if (!c)
		return;
	decode_free(&c->decode);
	mla_decode_free(&c->mla);
	selection_close(&c->selection);
	pages_close(&c->pages);
	ikv_free(c);
}

static int cuda_open(struct ikv_backend **out, const struct ikv_geometry *g, const struct ikv_backend_config *config,
		     struct ikv_err *err)
{
	char why[500];
	*out = NULL;
	backend_why_not(why, sizeof why);
	if (*why)
		return ikv_err_set(err, IKV_UNAVAILABLE, "attention backend \"cuda\" is not available: %s", why);
	struct cuda *c = ikv_alloc(1, sizeof *c, err);
	if (!c)
		return -1;
	c->base.ops = gpu_backend();
	if (pages_open(&c->pages, g, config->sequences, err)) {
		ikv_free(c);
		return -1;
	}
	c->selects = config->selects != IKV_PAGE_UNSCORED;
	if (c->selects && summaries_open(&c->selection.summaries, config->selects, g, config->sequences, err)) {
		cuda_close(&c->base);
		return -1;
	}
	/* The ISA "sm_80" is the kernel of devices without warpgroup instructions; others have no say here. */
	c->mla.hopper = c->pages.device.major == 9 && (!config->isa || strcmp(config->isa, "sm_80") != 0);
	int status = g->v_aliases_k ? mla_prepare(c->mla.hopper)
				    : attend_prepare(c->pages.steps, c->pages.device.shared_bytes);
	if (device_failed(status, "set up the kernels", err)) {
		cuda_close(&c->base);
		return -1;
	}
	*out = &c->base;
	return 0;
}

static int cuda_append(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k,
		       const uint16_t *v, struct ikv_err *err)
{
	struct cuda *c = (struct cuda *)b;
	if (pages_append(&c->pages, seq, layer, tokens, k, v, err) ||
	    (c->selects && summaries_append(&c->selection.summaries, seq, layer, tokens, k, err)))
		return -1;
	return device_ahead(&c->pages.device, err);
}

/* A page cut open: its summary from the rows that are left. */
static int resummarise(struct cuda *c, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	const struct ikv_geometry *g = &c->pages.g;
	for (uint32_t layer = 0; layer < g->layers; layer++) {
		struct summaries *s = &c->selection.summaries;
		uint32_t rest = tokens % g->page_tokens;
		if (tokens >= summaries_list(s, seq, layer)->tokens)
			continue;
		summaries_cut(s, seq, layer, tokens);
		for (uint32_t h = 0; rest && h < g->kv_heads; h++) {
			uint32_t page = tokens / g->page_tokens;
			if (pages_read(&c->pages, seq, layer, h, page, c->pages.k, g->v_aliases_k ? NULL : c->pages.v, err))
				return -1;
			summaries_set(s, seq, layer, h, 1, page, rest, (const uint16_t *)c->pages.k);
		}
	}
	return 0;
}

static int cuda_truncate(struct ikv_backend *b, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	struct cuda *c = (struct cuda *)b;
	if (pages_truncate(&c->pages, seq, tokens, err))
		return -1;
	return c->selects ? resummarise(c, seq, tokens, err) : 0;
}

static void cuda_release(struct ikv_backend *b, uint32_t seq)
{
	cuda_truncate(b, seq, 0, NULL);
}

static int cuda_recode(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		       uint32_t page, enum ikv_format to, struct ikv_err *err)
{
	return pages_recode(&((struct cuda *)b)->pages, seq, layer, kv_first, kv_count, page, to, err);
}

static int cuda_restore(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
			uint32_t page, enum ikv_format to, const uint16_t *k, const uint16_t *v, struct ikv_err *err)
{
	struct cuda *c = (struct cuda *)b;
	uint32_t size = c->pages.g.page_tokens;
	if (pages_restore(&c->pages, seq, layer, kv_first, kv_count, page, to, k, v, err))
		return -1;
	if (!c->selects)
		return 0;
	uint32_t left = summaries_list(&c->selection.summaries, seq, layer)->tokens - page * size;
	summaries_set(&c->selection.summaries, seq, layer, kv_first, kv_count, page, left < size ? left : size, k);
	return 0;
}

static enum ikv_format cuda_format(const struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_head,
				   uint32_t page)
{
	return pages_format(&((const struct cuda *)b)->pages, seq, layer, kv_head, page);
}

static int cuda_decode(struct ikv_backend *b, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	struct cuda *c = (struct cuda *)b;
	if (pages_check(&c->pages, units, count, err))
		return -1;
	int rc = tier_prepare(&c->pages, units, count, err);
	if (!rc)
		rc = pages_upload(&c->pages, err);
	if (!rc)
		rc = c->pages.g.v_aliases_k ? mla_decode_run(&c->mla, &c->pages, units, count, err)
					    : decode_run(&c->decode, &c->pages, c->selects ? &c->selection : NULL, units,
							 count, err);
	return tier_settle(&c->pages, rc ? NULL : err) || rc ? -1 : 0;
}

static int cuda_place(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		      uint32_t page, enum ikv_place place, struct ikv_err *err)
{
	return pages_place(&((struct cuda *)b)->pages, seq, layer, kv_first, kv_count, page, place, err);
}

static int cuda_select(struct ikv_backend *b, const struct ikv_select_unit *units, uint32_t count,
		       struct ikv_err *err)
{
	struct cuda *c = (struct cuda *)b;
	return selection_run(&c->selection, &c->pages, units, count, err);
}

static void cuda_stats(const struct ikv_backend *b, struct ikv_backend_stats *stats)
{
	const struct cuda *c = (const struct cuda *)b;
	*stats = c->pages.stats;
	stats->isa = c->pages.g.v_aliases_k ? c->mla.hopper ? "sm_90a" : "sm_80"
		     : c->pages.device.bulk ? "sm_90"
					    : "sm_80";
}

const struct ikv_backend_ops *gpu_backend(void)
{
	static const struct ikv_backend_ops ops = {
	    .name = "cuda",
	    .summary =
		"CUDA device 0, compute capability 8.0 or newer: matrix units, every stored format read directly",
	    .usable = cuda_usable,
	    .open = cuda_open,
	    .close = cuda_close,
	    .append = cuda_append,
	    .truncate = cuda_truncate,
	    .release = cuda_release,
	    .recode = cuda_recode,
	    .restore = cuda_restore,
	    .format = cuda_format,
	    .decode = cuda_decode,
	    .place = cuda_place,
	    .stats = cuda_stats,
	    .select = cuda_select,
	};
	return &ops;
}
