/* What the KIVI cache keeps; kivi.c fills it, kivi_attend.c reads it. */
#ifndef ATTN_KIVI_STORE_H
#define ATTN_KIVI_STORE_H

#include "attn/isa.h"
#include "intentkv/kivi.h"
#include "quant/micro.h"

#define KIVI_PAGE CODEC_GROUP /* tokens of a page: one group of K, two tiles */

struct kivi_energy {
	double signal, noise;
};

struct kivi_head {      /* one KV head of one layer */
	uint8_t *tiles; /* [cap] pages of two tiles, K and V */
	uint32_t cap;
	uint32_t encoded[2]; /* tokens of K and of V in them; V's are fewer */
	uint16_t *k_rows;    /* [residual][d_qk], k_open of them in use */
	uint16_t *v_rows;    /* [2 · residual][d_v], v_open of them from v_first on */
	uint32_t k_open, v_first, v_open;
	uint8_t *v_page;            /* V of the last page in the canonical form */
	bool v_dirty;               /* it is ahead of the tiles */
	struct kivi_energy *energy; /* [K, V][groups] */
};

struct ikv_kivi {
	struct ikv_geometry g;
	uint32_t residual, groups;
	enum ikv_format format;
	const struct micro_kernels *micro;
	struct tile_shape shape, rows_shape; /* of pages, of FP16 rows */
	size_t k_form, v_form;               /* bytes of K and V of a page in the canonical form */
	uint8_t *form;                       /* one of them */
	float *values;                       /* a page of one head */
	uint32_t *tokens;                    /* [layers] */
	struct kivi_head *heads;             /* [layers][kv_heads] */
	float *work;                         /* kivi_attend.c's */
	size_t work_cap;
};

static inline struct kivi_head *kivi_head(const struct ikv_kivi *s, uint32_t layer, uint32_t kv_head)
{
	return &s->heads[(size_t)layer * s->g.kv_heads + kv_head];
}

static inline size_t kivi_page_bytes(const struct ikv_kivi *s)
{
	return 2 * s->shape.bytes;
}

int kivi_check(const struct ikv_kivi *s, uint32_t layer, struct ikv_err *err);

#endif
