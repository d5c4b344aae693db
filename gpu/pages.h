/* Pages of sequences on the device: for each sequence and layer a page table there, an entry a page and KV head, and
 * for the page still open a copy of its rows here. The device holds the only copy of closed pages. */
#ifndef GPU_PAGES_H
#define GPU_PAGES_H

#include "gpu/attend.h"
#include "gpu/device.h"
#include "intentkv/attn.h"

struct pages_list {
	attend_entry *table; /* [pages][kv_heads], as it is on the device from the next upload on */
	void *device_table;
	uint32_t device_cap; /* pages */
	uint32_t pages, cap, tokens;
	uint32_t dirty_from, dirty_to; /* pages whose entries are to be uploaded */
	uint16_t *open_k, *open_v;     /* [kv_heads][page_tokens][d] of the open page; NULL until there is one */
	bool open_loaded;              /* they hold its rows */
	uint32_t dirty_tile;           /* first tile of the open page to be uploaded, ATTEND_NONE: none */
	bool queued;
};

struct pages {
	struct ikv_geometry g;
	uint32_t sequences, steps, tiles; /* steps: tile_steps; tiles: of a page */
	struct pages_list *lists;         /* [sequences][layers] */
	uint32_t *queue, queued;          /* lists with something to upload */
	struct device device;
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
/* Bring the device up to date. */
int pages_upload(struct pages *p, struct ikv_err *err);

/* Units refer to what is there. */
int pages_check(const struct pages *p, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err);

static inline struct pages_list *pages_list(const struct pages *p, uint32_t seq, uint32_t layer)
{
	return &p->lists[(size_t)seq * p->g.layers + layer];
}

static inline enum ikv_format pages_entry_format(attend_entry e)
{
	return (enum ikv_format)tile_format(e & 15);
}

#endif
