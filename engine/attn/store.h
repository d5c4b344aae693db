/* Stored pages of a backend: for each sequence and layer a list of pages, for each page and KV head a format and
 * its tiles of 16 tokens (quant/tile.h). Heads of a page that are written together lie in one block, one after the
 * other, so that a plan that all heads share reads a page as one run of bytes. */
#ifndef ATTN_STORE_H
#define ATTN_STORE_H

#include "attn/slab.h"
#include "intentkv/attn.h"
#include "quant/tile.h"

struct store_block;

struct store_slot { /* one page of one KV head */
	uint8_t *data;
	struct store_block *block;
	uint32_t run; /* heads from this one on whose data lie behind each other, in one format */
	uint8_t format;
};

struct store_list {
	struct store_slot *slots; /* [pages][kv_heads] */
	uint32_t pages, cap, tokens;
};

struct store {
	struct ikv_geometry g;
	uint32_t sequences;
	struct store_list *lists; /* [sequences][layers] */
	struct slab *classes;     /* [IKV_FMT_COUNT][kv_heads + 1]: blocks of so many heads of a format */
	struct tile_shape shape[IKV_FMT_COUNT];
	size_t head[IKV_FMT_COUNT];  /* bytes a head takes in a block */
	uint64_t own[IKV_FMT_COUNT]; /* bytes of codes and scales of a page of one head, K and V */
	uint64_t held[IKV_FMT_COUNT]; /* pages of one head that are stored */
	float *values;               /* one page of one head, decoded */
	uint16_t *halves;            /* the same in FP16 */
	uint8_t *rows[2];            /* K or V of a page in the canonical form, before and after */
	struct ikv_backend_stats stats;
};

int store_init(struct store *s, const struct ikv_geometry *g, uint32_t sequences, struct ikv_err *err);
void store_free(struct store *s);
int store_append(struct store *s, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k, const uint16_t *v,
		 struct ikv_err *err);
int store_truncate(struct store *s, uint32_t seq, uint32_t tokens, struct ikv_err *err);
void store_release(struct store *s, uint32_t seq);
int store_recode(struct store *s, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		 enum ikv_format to, struct ikv_err *err);
int store_restore(struct store *s, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		  enum ikv_format to, const uint16_t *k, const uint16_t *v, struct ikv_err *err);
enum ikv_format store_format(const struct store *s, uint32_t seq, uint32_t layer, uint32_t kv_head, uint32_t page);

/* Units refer to what is there. */
int store_check_units(const struct store *s, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err);
/* Stored bytes that the units read: a KV head once a unit, tokens [lo, hi) of each page. */
uint64_t store_read_bytes(const struct store *s, const struct ikv_attn_unit *units, uint32_t count);

static inline struct store_list *store_list(const struct store *s, uint32_t seq, uint32_t layer)
{
	return &s->lists[(size_t)seq * s->g.layers + layer];
}

static inline const struct store_slot *store_slot(const struct store *s, uint32_t seq, uint32_t layer,
						  uint32_t kv_head, uint32_t page)
{
	return &store_list(s, seq, layer)->slots[(size_t)page * s->g.kv_heads + kv_head];
}

/* Decode K or V rows of a page of one head to the canonical form; dims as in the geometry. */
void store_read(const struct store *s, const struct store_slot *slot, bool v, uint8_t *canonical);
/* The most bytes that K or V of a page of one head take in the canonical form of any format. */
size_t store_form_bytes(const struct ikv_geometry *g);

#endif
