/* Cost model: FLOPs, bytes and modelled time. All times are simulated nanoseconds (sim_ns). */
#ifndef INTENTKV_COST_H
#define INTENTKV_COST_H

#include <stdbool.h>
#include <stdint.h>
#include "format.h"
#include "option.h"

/* A machine as data: measured or fitted constants, never guesses in code. Profiles are files in machines/. */
struct ikv_machine {
	char name[64];
	char source[256];        /* where the figures come from */
	double read_bytes_per_s; /* fast-tier read bandwidth seen by attention */
	double cache_bytes; /* the first so many bytes of a layer's read run at cache_bytes_per_s; 0: no such term */
	double cache_bytes_per_s;
	/* Attention over pages of a format, where kernels of different formats differ: stored bytes a second and,
	 * in addition, arithmetic. 0: read_bytes_per_s, and no such term. */
	double format_bytes_per_s[IKV_FMT_COUNT], format_flops_per_s[IKV_FMT_COUNT];
	double format_fine_ns[IKV_FMT_COUNT]; /* per token of a KV head that is read beside one that stands out */
	double page_overhead_ns;     /* per page of a KV head that is read */
	double jump_ns;              /* per run of adjacent pages */
	double lone_page_ns;         /* per page of a KV head that was re-encoded, and is read, without the other heads */
	/* In addition, bytes read of one head without the others: FP16 lies as it was appended, evenly among the other heads',
	 * re-encoded pages lie anywhere. 0: no such term. */
	double lone_bytes_per_s, lone_fp16_bytes_per_s;
	double format_change_ns;     /* per page format of 128 tokens of a KV head after the first */
	double flops_per_s;          /* attention arithmetic */
	double kernel_overhead_ns;   /* a launch or call */
	double format_overhead_ns;   /* each page format of a call after the first: another kernel is fetched */
	double sequence_overhead_ns; /* per sequence of the batch and layer */
	double plan_overhead_ns;     /* per plan of a call: heads that select pages of their own have one each */
	double step_overhead_ns;     /* per decode step outside attention and weights */
	double link_bytes_per_s;     /* slower tier → fast tier */
	double link_latency_ns;      /* per batch of transfers */
	double recode_bytes_per_s;   /* re-encoding pages */
	double weight_bytes_per_s;   /* reading weights for the rest of the layer; 0: not modelled */
	double prefill_flops_per_s;  /* dense arithmetic of a prefill; 0: not modelled */
	/* KV bytes of one layer and call that the constants were measured at; 0: not stated. */
	double measured_from_bytes, measured_to_bytes;
	/* Query heads of a KV head, KV heads, and tokens of a page that they were measured with; 0: any. */
	double measured_group, measured_kv_heads, measured_page_tokens;
};
IKV_API extern const struct ikv_option ikv_machine_options[]; /* the struct above as an option table */

struct ikv_cost_work {      /* one batched decode step */
	uint32_t layers;    /* of the model, all costed */
	uint32_t sequences; /* in the batch */
	uint32_t group;     /* query heads of a KV head; 0: not stated, as of the next two */
	uint32_t kv_heads, page_tokens;
	uint64_t kv_bytes;  /* read by attention, all layers */
	double flops;
	uint64_t format_bytes[IKV_FMT_COUNT]; /* of kv_bytes, where known; the rest runs at read_bytes_per_s */
	double format_flops[IKV_FMT_COUNT];   /* of flops */
	double format_fine[IKV_FMT_COUNT];    /* tokens of a KV head beside one that stands out (ikv_plan_shape) */
	uint64_t pages;                       /* read, counted once a KV head, all layers */
	uint64_t plans;                       /* of all sequences and layers */
	uint64_t jumps;                       /* runs of adjacent pages, all layers, lone pages left out */
	uint64_t lone_pages;                  /* of `pages`, re-encoded by itself, without the other KV heads' */
	uint64_t lone_bytes, lone_fp16_bytes; /* of kv_bytes, read of single KV heads: re-encoded; FP16 */
	uint64_t changes;                     /* formats beyond the first in 128 tokens of a KV head, all layers */
	uint64_t fetch_bytes;    /* demanded by this step, cannot be hidden behind earlier steps */
	uint64_t prefetch_bytes; /* may overlap with this step's work */
	uint64_t recode_bytes;
	uint64_t weight_bytes;
	double extra_ns; /* e.g. mass computation that a policy asked for */
};
struct ikv_cost_time { /* sim_ns; total = overhead + attention + weights + recode + exposed */
	double overhead, attention, weights, recode;
	double transfer, hidden, exposed;
	double total;
	bool outside; /* the machine was not measured at so few or so many bytes a layer, or with such heads or pages */
};
IKV_API void ikv_cost_step(const struct ikv_machine *machine, const struct ikv_cost_work *work,
			   struct ikv_cost_time *time);

/* Page formats that are read, but for the first. */
IKV_API uint32_t ikv_cost_more_formats(const struct ikv_cost_work *work);

/* The report of a selection against dense: FLOPs = 4·B·Hq·q_len·kv·D, bytes = 2·B·Hkv·kv·D·bytes. */
struct ikv_cost_args {
	uint64_t batch, q_heads, kv_heads, query_tokens, total_kv_tokens, selected_kv_tokens, head_dim;
	double bytes_per_value; /* 2 for FP16 */
};
struct ikv_cost_report {
	double dense_flops, semantic_flops, dense_kv_bytes, semantic_kv_bytes;
	double flops_saved_pct, kv_bytes_saved_pct, selected_fraction;
};
IKV_API int ikv_cost_compare(const struct ikv_cost_args *args, struct ikv_cost_report *report, struct ikv_err *err);

/* KIVI (Liu et al. 2024, arXiv 2402.02750): K quantized per channel over groups of tokens, V per token over groups of
 * channels, with an FP16 scale and zero a group; the newest tokens stay FP16, (tokens mod residual) of K and
 * `residual` of V. */
struct ikv_kivi_config {
	uint32_t bits;     /* 2, 4 or 8 */
	uint32_t group;    /* tokens or channels, 32 */
	uint32_t residual; /* tokens, a multiple of group; 128 */
};
/* Bytes of `tokens` tokens of one KV head whose keys have d_qk and values d_v channels. */
IKV_API uint64_t ikv_kivi_bytes(const struct ikv_kivi_config *c, uint64_t tokens, uint32_t d_qk, uint32_t d_v);

#endif
