/* Pages of sequences on the device: for each sequence and layer a page table there, an entry a page and KV head. The
 * backend's only copy of a page is in device memory or, where it has been placed in the host tier, in pinned memory.
 */
#ifndef GPU_PAGES_H
#define GPU_PAGES_H

#include "gpu/attend.h"
#include "gpu/device.h"
#include "gpu/tier.h"
#include "intentkv/attn.h"

struct pages_list {
	attend_entry *table; /* [pages][kv_heads], as it is on the device from the next upload on */
	uint8_t *where;      /* [pages][kv_heads]: MOVES_* */
	uint32_t *held;      /* [kv_heads][IKV_FMT_COUNT]: pages in each format */
	void *device_table;
	uint32_t device_cap; /* pages */
	uint32_t pages, cap, tokens;
	uint32_t dirty_from, dirty_to; /* pages whose entries are to be uploaded */
	uint64_t append_flush;         /* number of the flush that brings the newest rows, plus one */
	uint64_t *recode_flush;        /* [pages][kv_heads]: of the one that re-encodes the page, plus one */
	bool queued;
};

struct pages {
	struct ikv_geometry g;
	uint32_t sequences, steps, tiles; /* steps: tile_steps; tiles: of a page */
	struct pages_list *lists;         /* [sequences][layers] */
	uint32_t *queue, queued;          /* lists with something to upload */
	struct device device;
	struct tier tier;
	uint64_t host_pages;         /* entries in the host tier */
	uint64_t own[IKV_FMT_COUNT]; /* bytes of codes and scales of a page of one head, K and V */
	uint8_t *k, *v, *tiles_back; /* a page of one head: stored forms and tiles */
	uint16_t *halves;
	float *values;
	struct ikv_backend_stats stats;
};

int pages_open(struct pages *p, const struct ikv_geometry *g, uint32_t sequences, struct ikv_err *err);
void pages_close(struct pages *p);
int pages_append(struct pages *p, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k, const uint16_t *v,
		 struct ikv_err *err);
int pages_truncate(struct pages *p, uint32_t seq, uint32_t tokens, struct ikv_err *err);
int pages_recode(struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		 enum ikv_format to, struct ikv_err *err);
int pages_restore(struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		  enum ikv_format to, const uint16_t *k, const uint16_t *v, struct ikv_err *err);
enum ikv_format pages_format(const struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_head, uint32_t page);
/* The stored form of a page of one KV head: what ikv_format_encode writes. v: NULL where V aliases K. */
int pages_read(struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_head, uint32_t page, uint8_t *k, uint8_t *v,
	       struct ikv_err *err);
/* Bring the device up to date. */
int pages_upload(struct pages *p, struct ikv_err *err);

/* Units refer to what is there. */
int pages_check(const struct pages *p, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err);

static inline struct pages_list *pages_list(const struct pages *p, uint32_t seq, uint32_t layer)
{
	return &p->lists[(size_t)seq * p->g.layers + layer];
}

/* The format of all pages of a KV head; IKV_FMT_SKIP where they differ. */
static inline enum ikv_format pages_only_format(const struct pages_list *l, uint32_t kv_head)
{
	const uint32_t *held = l->held + (size_t)kv_head * IKV_FMT_COUNT;
	for (unsigned f = 1; f < IKV_FMT_COUNT; f++)
		if (held[f])
			return held[f] == l->pages ? (enum ikv_format)f : IKV_FMT_SKIP;
	return IKV_FMT_SKIP;
}

static inline enum ikv_format pages_entry_format(attend_entry e)
{
	return (enum ikv_format)tile_format(e & 15);
}

static inline uint64_t pages_entry_slot(attend_entry e)
{
	return e & ~(uint64_t)15;
}

static inline size_t pages_at(const struct pages *p, uint32_t page, uint32_t head)
{
	return (size_t)page * p->g.kv_heads + head;
}

/* Among the parts of this: pages.c, pages_recode.c, tier.c. */
uint64_t pages_slot_bytes(const struct pages *p, enum ikv_format f);
/* An entry changes without its page: it lies elsewhere now. */
void pages_set(struct pages *p, struct pages_list *l, uint32_t page, uint32_t head, attend_entry e, bool on_host);
/* A slot of a format for a page, in the tier `on_host`; the old one, if any, is given back. */
int pages_put(struct pages *p, struct pages_list *l, uint32_t page, uint32_t head, enum ikv_format f, bool on_host,
	      struct ikv_err *err);
/* Rows for tokens [first, first + tokens) of an open page; strides in values, heads one after the other. */
struct pages_rows {
	const uint16_t *k, *v;
	size_t k_head, v_head, k_token, v_token; /* from head to head, from token to token */
	uint32_t first, tokens, kv_first, kv_count;
	bool again; /* the page has rows there already */
};
int pages_write(struct pages *p, struct pages_list *l, uint32_t page, const struct pages_rows *rows,
		struct ikv_err *err);
int pages_check_layer(const struct pages *p, uint32_t seq, uint32_t layer, struct ikv_err *err);
int pages_check_heads(const struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		      uint32_t page, struct ikv_err *err);
int pages_check_finite(const uint16_t *rows, uint32_t tokens, uint32_t dim, const char *what, struct ikv_err *err);

#endif
