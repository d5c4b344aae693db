/* Least and largest keys by page and channel, for bounds of q·k, or their sums, for cosines: kept here as pages grow, and
 * brought to the device in the form that select.h describes. They are those of the rows as appended or restored, with the
 * bits of the exact store's (engine/intentkv/exact.h): re-encoding a page changes what attention reads, not what is
 * chosen. */
#ifndef GPU_SUMMARY_H
#define GPU_SUMMARY_H

#include "intentkv/attn.h"

struct summary_list {  /* of a sequence and layer */
	/* [pages][kv_heads][words]: for bounds int16_t [2][words] each, least and largest, ordered as integers
	 * (summary_order); for cosines float */
	uint32_t *rows;
	uint32_t pages, cap, tokens;
	uint32_t dirty_from, dirty_to; /* pages to be brought to the device */
	uint32_t *device;              /* [device_cap pages][kv_heads][words] */
	uint32_t device_cap;
};

struct summaries {
	enum ikv_page_score kind;
	struct ikv_geometry g;
	uint32_t sequences, words;  /* words: of a page and KV head */
	struct summary_list *lists; /* [sequences][layers] */
};

/* FP16 bits to an integer of the same order, -0 below 0; the same function leads back. */
static inline int16_t summary_order(int16_t half)
{
	return (int16_t)(half ^ (half >> 15 & 0x7fff));
}

int summaries_open(struct summaries *s, enum ikv_page_score kind, const struct ikv_geometry *g, uint32_t sequences,
		   struct ikv_err *err);
void summaries_close(struct summaries *s);

static inline struct summary_list *summaries_list(const struct summaries *s, uint32_t seq, uint32_t layer)
{
	return &s->lists[(size_t)seq * s->g.layers + layer];
}

/* Rows k [tokens][kv_heads][d_qk] follow. */
int summaries_append(struct summaries *s, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k,
		     struct ikv_err *err);
/* A page's first `tokens` tokens of KV heads [kv_first, kv_first + kv_count) are k [kv_count][page_tokens][d_qk]. */
void summaries_set(struct summaries *s, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		   uint32_t page, uint32_t tokens, const uint16_t *k);
/* Forget pages beyond the first `tokens` tokens. A page cut open keeps its summary until it is set. */
void summaries_cut(struct summaries *s, uint32_t seq, uint32_t layer, uint32_t tokens);

/* Words of pages [from, to) as the device has them. */
void summaries_pack(const struct summaries *s, const struct summary_list *l, uint32_t from, uint32_t to, uint32_t *out);

static inline size_t summaries_page_bytes(const struct summaries *s)
{
	return (size_t)s->g.kv_heads * s->words * sizeof(uint32_t);
}

#endif
