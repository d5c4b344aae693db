/* Attention backends: the execution layer.
 *
 * A backend keeps the pages of sequences in their stored formats and computes
 * out = softmax(scale · q Kᵀ) V over exactly the tokens of a plan: one softmax over
 * all of them, whatever formats they are in, GQA, no token selected → zeros and
 * lse = -inf. Backends are handed to the engine by the caller; a backend or ISA that
 * is not there is an error, never a silent fallback. */
#ifndef INTENTKV_ATTN_H
#define INTENTKV_ATTN_H

#include "exact.h"
#include "plan.h"

struct ikv_backend; /* an open backend; each implementation begins its own struct with an ops pointer */

struct ikv_backend_config {
	uint32_t threads;   /* 0: as many as online cores */
	const char *isa;    /* "auto", "scalar", "avx2", …; the caller passes on INTENTKV_ISA */
	uint32_t sequences; /* most sequences alive at once */
	/* What `select` will be asked for: keep what it needs. IKV_PAGE_UNSCORED: nothing. */
	enum ikv_page_score selects;
};

/* A unit of work: query heads [q_first, q_first + q_count) of one sequence and layer, all reading the same plan.
 * Heads may span several KV heads.
 *
 * Decode has one query row a head. Prefill, chunked prefill, speculative verification and tree attention have q_len
 * of them: row i of head h lies at [i][h], as projections give them. A token's position is its original one, page ·
 * page_tokens + its place in the page, whatever is selected. Row i sees the selected tokens
 *   - whose position is at most positions[i]; all of them where positions is NULL;
 *   - whose bias is not -inf: bias[i · bias_tokens + p - bias_first] is added to the scaled score of the token at
 *     position p in [bias_first, bias_first + bias_tokens), nothing to others. A draft tree so gives the rows of its
 *     own tokens only and leaves the context before it alone.
 * A row that sees nothing gives zeros and lse = -inf. */
struct ikv_attn_unit {
	uint32_t seq, layer;
	uint32_t q_first, q_count;
	const struct ikv_plan *plan;
	const float *q; /* [q_len][q_count][d_qk] */
	float *out;     /* [q_len][q_count][d_v] */
	float *lse;     /* [q_len][q_count] natural logarithm, or NULL */
	float *mass;    /* [q_len][q_count][plan->count] share of the softmax each page received, or NULL */
	uint32_t q_len; /* rows a head; 0 is taken as 1 */
	const uint32_t *positions; /* [q_len], in any order, or NULL */
	const float *bias;         /* [q_len][bias_tokens], finite or -inf, or NULL */
	uint32_t bias_first, bias_tokens;
};

static inline uint32_t ikv_attn_rows(const struct ikv_attn_unit *u)
{
	return u->q_len ? u->q_len : 1;
}

/* Pages with the highest scores for query heads [q_first, q_first + q_count), which share the choice: scores of the kind
 * that the backend was opened for, with the same bits as the scorer's, from the keys as appended or restored, and the
 * choice of router `quest`. Of pages with equal scores the lower ones are chosen first. */
struct ikv_select_unit {
	uint32_t seq, layer;
	uint32_t q_first, q_count;
	const float *q;         /* [q_count][d_qk], finite */
	uint64_t budget;        /* pages to choose, at most all; 0: none */
	bool bytes;             /* the budget is stored bytes in these heads' formats, of which each page takes a multiple of
				   16: pages by score until one does not fit. One call has one kind of budgets. */
	uint32_t first, recent; /* so many first and newest pages come before all others, within the budget */
	float *scores;          /* out: [pages], or NULL */
	uint64_t *chosen;       /* out: a bit a page, [(pages + 63) / 64], or NULL */
};

struct ikv_backend_stats {
	uint64_t kv_bytes_read; /* stored bytes, scales included, since open */
	uint64_t bytes_stored;  /* now */
	uint64_t pages_stored;  /* (page, layer, KV head) triples now */
	uint64_t recodes, recoded_bytes;
	uint64_t plans_kept; /* plans of decode calls that `select` had left where they are read */
	/* By the device's own clock, since open, where there is one: attention; copies from the slower tier to the fast
	 * one, and how long attention waited for them; copies the other way. 0 for backends on the host. */
	double device_ns, transfer_ns, exposed_ns, evict_ns;
	uint64_t placed_bytes; /* copied between tiers, both ways */
	const char *isa;
};

/* Tiers of a backend that has memory of its own: SLOW is the host's. */
enum ikv_place {
	IKV_PLACE_SLOW,
	IKV_PLACE_FAST,       /* the next decode call of its layer waits for the copy; calls of other layers may hide it */
	IKV_PLACE_FAST_AHEAD, /* copied while the next decode call of its layer computes */
};

struct ikv_backend_ops {
	const char *name;
	const char *summary;
	/* Can it run here? Otherwise `why` says why not. */
	bool (*usable)(char *why, size_t size);
	int (*open)(struct ikv_backend **out, const struct ikv_geometry *geometry,
		    const struct ikv_backend_config *config, struct ikv_err *err);
	void (*close)(struct ikv_backend *b);
	/* Append FP16 rows k [tokens][kv_heads][d_qk], v [tokens][kv_heads][d_v]; new pages are FP16. */
	int (*append)(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k,
		      const uint16_t *v, struct ikv_err *err);
	/* Keep the first `tokens` of every layer. A page cut open must be FP16 (restore it first). */
	int (*truncate)(struct ikv_backend *b, uint32_t seq, uint32_t tokens, struct ikv_err *err);
	void (*release)(struct ikv_backend *b, uint32_t seq);
	/* Re-encode a closed page of KV heads [kv_first, kv_first + kv_count) from what is stored: lossy. */
	int (*recode)(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		      uint32_t page, enum ikv_format to, struct ikv_err *err);
	/* Replace it by an encoding of exact rows: k [kv_count][page_tokens][d_qk], v [kv_count][page_tokens][d_v].
	 */
	int (*restore)(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		       uint32_t page, enum ikv_format to, const uint16_t *k, const uint16_t *v, struct ikv_err *err);
	enum ikv_format (*format)(const struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_head,
				  uint32_t page);
	/* Attention of a batch of units. The stored formats decide, not the plan's requests. A backend may refuse
	 * several rows a head, positions or a bias, with IKV_UNAVAILABLE. */
	int (*decode)(struct ikv_backend *b, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err);
	/* Where a page of KV heads [kv_first, kv_first + kv_count) is to lie; new pages are in the fast tier. NULL: the
	 * backend has one tier. The copy is made with the next decode call of the page's layer; a call of no units makes
	 * those that are due. A plan may name pages of either tier. */
	int (*place)(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		     uint32_t page, enum ikv_place place, struct ikv_err *err);
	void (*stats)(const struct ikv_backend *b, struct ikv_backend_stats *stats);
	/* NULL: the backend does not choose pages; callers use scorer and router. A decode call whose plans are just the
	 * chosen pages finds them where it reads them. */
	int (*select)(struct ikv_backend *b, const struct ikv_select_unit *units, uint32_t count, struct ikv_err *err);
};
struct ikv_backend {
	const struct ikv_backend_ops *ops;
};

/* `ref`: double precision, one thread, for tests and as the yardstick; `cpu`: micro-kernels chosen at run time. */
IKV_API extern const struct ikv_backend_ops ikv_backend_ref;
IKV_API extern const struct ikv_backend_ops ikv_backend_cpu;

/* ISAs of the CPU backend in this build, best first, and whether this machine runs them. */
struct ikv_isa_info {
	const char *name;
	const char *needs; /* CPU flags */
	bool usable;
};
IKV_API const struct ikv_isa_info *ikv_isa_list(uint32_t *count);
/* Which kernels decide-path code (scores, mass) uses; all give the same bits. "auto" or a name. */
IKV_API int ikv_isa_select(const char *name, struct ikv_err *err);
IKV_API const char *ikv_isa_selected(void);

#endif
