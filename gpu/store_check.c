#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "attn/store.h"
#undef TILE_TOKENS /* the engine's; the device's is the same number */
#include "gpu/mla_tile.h"
#include "gpu/pages.h"
#include "gpu/store_check.h"
#include "intentkv/layout.h"
#include "intentkv/rng.h"

#define STEPS 60

struct world {
	struct ikv_geometry g;
	struct store host;
	struct pages device;
	struct ikv_rng r;
	uint8_t *form[2]; /* stored forms, of both */
	uint64_t compared, moved, recodes, host_pages, failed;
};

static struct ikv_err err;

static void die(const char *what)
{
	fprintf(stderr, "gpu_check: %s: %s\n", what, err.text);
	exit(1);
}

static uint32_t below(struct world *w, uint32_t n)
{
	return (uint32_t)ikv_rng_below(&w->r, n);
}

/* Rows of all kinds: ordinary, huge, subnormal, constant, and zeros of both signs. */
static uint16_t *draw_rows(struct world *w, size_t n, uint32_t dim)
{
	static const float sizes[] = {1, 1, 300, 2e4f, 1e-3f, 1e-6f};
	uint16_t *rows = malloc(2 * n * dim + 2);
	for (size_t t = 0; t < n; t++) {
		uint32_t kind = below(w, 12);
		float size = sizes[below(w, 6)];
		for (uint32_t c = 0; c < dim; c++) {
			float x = (float)ikv_rng_normal(&w->r) * size;
			x = x > 65504 ? 65504 : x < -65504 ? -65504 : x;
			uint16_t h = ikv_fp16_from_float(x);
			rows[t * dim + c] = kind == 0   ? (uint16_t)(below(w, 2) << 15)
					    : kind == 1 ? (uint16_t)((below(w, 2) << 15) | below(w, 1024))
					    : kind == 2 ? ikv_fp16_from_float(size)
					    : kind == 3 ? (below(w, 8) ? (uint16_t)(below(w, 2) << 15) : h)
							: h;
		}
	}
	return rows;
}

static void draw_geometry(struct world *w, bool latent)
{
	static const uint32_t dims[] = {64, 64, 80, 96, 128, 128, 256}, pages[] = {8, 16, 16, 24, 32, 64};
	w->g = (struct ikv_geometry){.layers = 1 + below(w, 2),
				     .kv_heads = 1 + below(w, 4),
				     .d_qk = dims[below(w, 7)],
				     .page_tokens = pages[below(w, 6)],
				     .scale = 1,
				     .v_aliases_k = latent};
	w->g.d_v = w->g.d_qk;
	if (latent) {
		w->g.d_qk = 576;
		w->g.d_v = 512;
	}
	if (below(w, 3) == 0) { /* odd widths */
		w->g.d_qk = 1 + below(w, latent ? 576 : 256);
		w->g.d_v = latent ? 1 + below(w, w->g.d_qk < 512 ? w->g.d_qk : 512) : 1 + below(w, 256);
	}
	w->g.q_heads = w->g.kv_heads;
}

static void compare_page(struct world *w, uint32_t seq, uint32_t layer, uint32_t head, uint32_t page)
{
	const struct ikv_geometry *g = &w->g;
	const struct store_slot *slot = store_slot(&w->host, seq, layer, head, page);
	enum ikv_format f = (enum ikv_format)slot->format;
	uint32_t tokens = store_list(&w->host, seq, layer)->tokens - page * g->page_tokens;
	size_t half = store_form_bytes(g);
	if (pages_format(&w->device, seq, layer, head, page) != f) {
		fprintf(stderr, "gpu_check: page %u is %s, expected %s\n", page,
			ikv_format_names()[pages_format(&w->device, seq, layer, head, page)], ikv_format_names()[f]);
		exit(1);
	}
	if (pages_read(&w->device, seq, layer, head, page, w->form[1], w->form[1] + half, &err))
		die("read a page");
	for (int v = 0; v < (g->v_aliases_k ? 1 : 2); v++) {
		uint32_t dim = v ? g->d_v : g->d_qk;
		bool open = tokens < g->page_tokens;
		size_t bytes = open ? 2 * (size_t)tokens * dim
				    : ikv_format_bytes(f, v ? IKV_SIDE_V : IKV_SIDE_K, g->page_tokens, dim);
		store_read(&w->host, slot, v, w->form[0]);
		const uint8_t *a = w->form[0], *b = w->form[1] + v * half;
		for (size_t i = 0; i < bytes; i++) {
			if (a[i] == b[i])
				continue;
			if (w->failed++ < 8)
				fprintf(stderr,
					"gpu_check: %s, %s of %u values, pages of %u: byte %zu of %zu is %02x, "
					"expected %02x\n",
					ikv_format_names()[f], v ? "V" : "K", dim, g->page_tokens, i, bytes, b[i],
					a[i]);
			break;
		}
	}
	w->compared++;
}

static void append(struct world *w, uint32_t seq)
{
	const struct ikv_geometry *g = &w->g;
	uint32_t n = below(w, 3) ? 1 + below(w, 3) : 1 + below(w, 3 * g->page_tokens);
	for (uint32_t layer = 0; layer < g->layers; layer++) {
		uint16_t *k = draw_rows(w, (size_t)n * g->kv_heads, g->d_qk),
			 *v = draw_rows(w, (size_t)n * g->kv_heads, g->d_v);
		if (store_append(&w->host, seq, layer, n, k, v, &err) ||
		    pages_append(&w->device, seq, layer, n, k, v, &err))
			die("append");
		free(k);
		free(v);
	}
}

/* A cut, in a page that is first made exact again. */
static void cut(struct world *w, uint32_t seq)
{
	const struct ikv_geometry *g = &w->g;
	uint32_t tokens = store_list(&w->host, seq, 0)->tokens, keep = below(w, tokens + 1),
		 page = keep / g->page_tokens;
	for (uint32_t layer = 0; keep < tokens && keep % g->page_tokens && layer < g->layers; layer++)
		if (store_recode(&w->host, seq, layer, 0, g->kv_heads, page, IKV_FMT_FP16, &err) ||
		    pages_recode(&w->device, seq, layer, 0, g->kv_heads, page, IKV_FMT_FP16, &err))
			die("recode");
	if (store_truncate(&w->host, seq, keep, &err) || pages_truncate(&w->device, seq, keep, &err))
		die("truncate");
}

static void change_page(struct world *w, uint32_t seq)
{
	const struct ikv_geometry *g = &w->g;
	uint32_t layer = below(w, g->layers), tokens = store_list(&w->host, seq, layer)->tokens,
		 closed = tokens / g->page_tokens, pages = ikv_pages(tokens, g->page_tokens);
	uint32_t first = below(w, g->kv_heads), n = 1 + below(w, g->kv_heads - first);
	if (!pages)
		return;
	uint32_t page = below(w, pages), kind = below(w, 8);
	uint32_t formats = g->v_aliases_k ? MLA_FORMATS : GPU_FORMATS;
	enum ikv_format to = page < closed ? (enum ikv_format)(1 + below(w, formats - 1)) : IKV_FMT_FP16;
	if (kind < 4) {
		if (store_recode(&w->host, seq, layer, first, n, page, to, &err) ||
		    pages_recode(&w->device, seq, layer, first, n, page, to, &err))
			die("recode");
		w->recodes += n;
	} else if (kind == 4) {
		uint16_t *k = draw_rows(w, (size_t)n * g->page_tokens, g->d_qk),
			 *v = draw_rows(w, (size_t)n * g->page_tokens, g->d_v);
		if (store_restore(&w->host, seq, layer, first, n, page, to, k, v, &err) ||
		    pages_restore(&w->device, seq, layer, first, n, page, to, k, v, &err))
			die("restore");
		free(k);
		free(v);
	} else {
		enum ikv_place place = (enum ikv_place)below(w, 3);
		if (pages_place(&w->device, seq, layer, first, n, page, place, &err))
			die("place");
		w->moved += n;
	}
}

/* What a decode call does with pages, without its kernels. */
static void step(struct world *w)
{
	if (tier_prepare(&w->device, NULL, 0, &err) || pages_upload(&w->device, &err))
		die("prepare");
	if (below(w, 2) && (tier_begin(&w->device, &err) || tier_end(&w->device, &err)))
		die("copy");
	if (tier_settle(&w->device, &err))
		die("settle");
	w->host_pages += w->device.host_pages;
}

static void compare(struct world *w)
{
	for (uint32_t seq = 0; seq < 2; seq++)
		for (uint32_t layer = 0; layer < w->g.layers; layer++)
			for (uint32_t page = 0; page < store_list(&w->host, seq, layer)->pages; page++)
				for (uint32_t h = 0; h < w->g.kv_heads; h++)
					compare_page(w, seq, layer, h, page);
	uint64_t host = 0;
	for (uint32_t i = 0; i < 2 * w->g.layers; i++)
		for (size_t k = 0; k < (size_t)w->device.lists[i].pages * w->g.kv_heads; k++)
			host += w->device.lists[i].where[k] & MOVES_HOST;
	if (host != w->device.host_pages) {
		fprintf(stderr, "gpu_check: %llu pages in the host tier, counted %llu\n", (unsigned long long)host,
			(unsigned long long)w->device.host_pages);
		exit(1);
	}
}

static void one_world(struct world *w, bool latent)
{
	draw_geometry(w, latent);
	if (store_init(&w->host, &w->g, 2, &err) || pages_open(&w->device, &w->g, 2, &err))
		die("open");
	for (int i = 0; i < 2; i++)
		w->form[i] = malloc(2 * store_form_bytes(&w->g));
	for (int i = 0; i < STEPS; i++) {
		uint32_t seq = below(w, 2), kind = below(w, 10);
		if (kind < 3)
			append(w, seq);
		else if (kind == 3 && below(w, 3) == 0)
			cut(w, seq);
		else
			for (uint32_t k = below(w, 12); k > 0; k--)
				change_page(w, seq);
		if (below(w, 3) == 0)
			step(w);
		if (below(w, 20) == 0)
			compare(w);
	}
	compare(w);
	step(w);
	compare(w);
	pages_close(&w->device);
	store_free(&w->host);
	free(w->form[0]);
	free(w->form[1]);
}

bool gpu_store_check(uint64_t worlds, uint64_t seed, bool latent)
{
	struct world w = {.compared = 0};
	ikv_rng_stream(&w.r, seed, 0x7374u, latent, 0);
	for (uint64_t i = 0; i < worlds; i++)
		one_world(&w, latent);
	printf("%sstore: %llu pages compared, %llu re-encoded, %llu placed, %llu in the host tier at a time; %llu "
	       "differ\n",
	       latent ? "MLA " : "", (unsigned long long)w.compared, (unsigned long long)w.recodes,
	       (unsigned long long)w.moved, (unsigned long long)(w.host_pages / (worlds * STEPS / 3 + 1)),
	       (unsigned long long)w.failed);
	fflush(stdout);
	return !w.failed;
}
