/* Modelled time and the comparison with dense attention. */
#include <math.h>
#include "intentkv/cost.h"

#define AT(field) offsetof(struct ikv_machine, field)
#define FORMAT(f, name)                                                                                              \
	{name "_bytes_per_s",                                                                                        \
	 IKV_OPT_REAL,                                                                                               \
	 AT(format_bytes_per_s[IKV_FMT_##f]),                                                                        \
	 "0",                                                                                                        \
	 0,                                                                                                          \
	 1e18,                                                                                                       \
	 NULL,                                                                                                       \
	 "attention over " #f " pages, stored bytes/s; 0: read_bytes_per_s"},                                        \
	{                                                                                                            \
		name "_flops_per_s", IKV_OPT_REAL, AT(format_flops_per_s[IKV_FMT_##f]), "0", 0, 1e21, NULL,          \
		    "its arithmetic, in addition to the bytes, FLOP/s; 0: not modelled"                              \
	},                                                                                                           \
	{                                                                                                            \
		name "_fine_ns", IKV_OPT_REAL, AT(format_fine_ns[IKV_FMT_##f]), "0", 0, 1e12, NULL,                  \
		    "in addition, per token of a KV head that is read beside one that stands out, ns"                \
	}
const struct ikv_option ikv_machine_options[] = {
    {"read_bytes_per_s", IKV_OPT_REAL, AT(read_bytes_per_s), "1e11", 1, 1e18, NULL,
     "fast-tier read bandwidth seen by attention, bytes/s"},
    {"cache_bytes", IKV_OPT_REAL, AT(cache_bytes), "0", 0, 1e18, NULL,
     "the first so many bytes of a layer's read run at cache_bytes_per_s; 0: no such term"},
    {"cache_bytes_per_s", IKV_OPT_REAL, AT(cache_bytes_per_s), "0", 0, 1e18, NULL, "rate of those bytes, bytes/s"},
    FORMAT(FP16, "fp16"),
    FORMAT(FP8, "fp8"),
    FORMAT(INT8, "int8"),
    FORMAT(INT4, "int4"),
    FORMAT(INT4_RESIDUAL, "int4_residual"),
    FORMAT(BF16, "bf16"),
    FORMAT(KIVI8, "kivi8"),
    FORMAT(KIVI4, "kivi4"),
    FORMAT(KIVI2, "kivi2"),
    FORMAT(SPARSE, "sparse"),
    {"page_overhead_ns", IKV_OPT_REAL, AT(page_overhead_ns), "0", 0, 1e12, NULL,
     "per page of a KV head that is read, ns"},
    {"jump_ns", IKV_OPT_REAL, AT(jump_ns), "0", 0, 1e12, NULL,
     "per run of adjacent pages, ns"},
    {"lone_page_ns", IKV_OPT_REAL, AT(lone_page_ns), "0", 0, 1e12, NULL,
     "per page of a KV head that was re-encoded without the other heads, ns"},
    {"lone_bytes_per_s", IKV_OPT_REAL, AT(lone_bytes_per_s), "0", 0, 1e18, NULL,
     "in addition, bytes/s of re-encoded pages of a KV head that is read without the others; 0: not modelled"},
    {"lone_fp16_bytes_per_s", IKV_OPT_REAL, AT(lone_fp16_bytes_per_s), "0", 0, 1e18, NULL,
     "in addition, bytes/s of FP16 pages of a KV head that is read without the others; 0: not modelled"},
    {"format_change_ns", IKV_OPT_REAL, AT(format_change_ns), "0", 0, 1e12, NULL,
     "per page format of 128 tokens of a KV head after the first, ns"},
    {"flops_per_s", IKV_OPT_REAL, AT(flops_per_s), "0", 0, 1e21, NULL,
     "attention arithmetic, FLOP/s; 0: not modelled"},
    {"kernel_overhead_ns", IKV_OPT_REAL, AT(kernel_overhead_ns), "0", 0, 1e12, NULL,
     "per attention launch or call, ns"},
    {"format_overhead_ns", IKV_OPT_REAL, AT(format_overhead_ns), "0", 0, 1e12, NULL,
     "per page format of an attention call after the first, ns"},
    {"sequence_overhead_ns", IKV_OPT_REAL, AT(sequence_overhead_ns), "0", 0, 1e12, NULL,
     "per sequence of the batch and layer, ns"},
    {"plan_overhead_ns", IKV_OPT_REAL, AT(plan_overhead_ns), "0", 0, 1e12, NULL,
     "per plan of a call: heads that select pages of their own have one each, ns"},
    {"step_overhead_ns", IKV_OPT_REAL, AT(step_overhead_ns), "0", 0, 1e12, NULL,
     "per decode step outside attention and weights, ns"},
    {"link_bytes_per_s", IKV_OPT_REAL, AT(link_bytes_per_s), "0", 0, 1e18, NULL,
     "slower tier to fast tier, bytes/s; 0: not modelled"},
    {"link_latency_ns", IKV_OPT_REAL, AT(link_latency_ns), "0", 0, 1e12, NULL, "per batch of transfers, ns"},
    {"recode_bytes_per_s", IKV_OPT_REAL, AT(recode_bytes_per_s), "0", 0, 1e18, NULL,
     "re-encoding pages, bytes/s; 0: not modelled"},
    {"weight_bytes_per_s", IKV_OPT_REAL, AT(weight_bytes_per_s), "0", 0, 1e18, NULL,
     "reading weights for the rest of a layer, bytes/s; 0: not modelled"},
    {"prefill_flops_per_s", IKV_OPT_REAL, AT(prefill_flops_per_s), "0", 0, 1e21, NULL,
     "dense arithmetic of a prefill, FLOP/s; 0: not modelled"},
    {"measured_from_bytes", IKV_OPT_REAL, AT(measured_from_bytes), "0", 0, 1e18, NULL,
     "least KV bytes of one layer and call that the constants were measured at; 0: not stated"},
    {"measured_to_bytes", IKV_OPT_REAL, AT(measured_to_bytes), "0", 0, 1e18, NULL,
     "most KV bytes of one layer and call that they were measured at; 0: not stated"},
    {"measured_group", IKV_OPT_REAL, AT(measured_group), "0", 0, 1e6, NULL,
     "query heads of a KV head that they were measured with; 0: any"},
    {"measured_kv_heads", IKV_OPT_REAL, AT(measured_kv_heads), "0", 0, 1e6, NULL,
     "KV heads that they were measured with; 0: any"},
    {"measured_page_tokens", IKV_OPT_REAL, AT(measured_page_tokens), "0", 0, 1e6, NULL,
     "tokens of a page that they were measured with; 0: any"},
    IKV_OPTION_END};

static double nanoseconds(double amount, double per_s)
{
	return per_s > 0 ? amount / per_s * 1e9 : 0;
}

/* Reading one layer. The first cache_bytes run at a rate of their own: faster where they come from a cache,
 * slower where a small read cannot fill the machine. */
static double read_ns(const struct ikv_machine *m, double bytes)
{
	double first = 0;
	if (m->cache_bytes > 0 && m->cache_bytes_per_s > 0)
		first = bytes < m->cache_bytes ? bytes : m->cache_bytes;
	return nanoseconds(first, m->cache_bytes_per_s) + nanoseconds(bytes - first, m->read_bytes_per_s);
}

/* Reading all layers: bytes of formats with a rate of their own at that, the others as plain reads. */
static double attention_ns(const struct ikv_machine *m, const struct ikv_cost_work *w, double layers)
{
	double ns = (double)w->pages * m->page_overhead_ns + (double)w->jumps * m->jump_ns +
		    (double)w->lone_pages * m->lone_page_ns + nanoseconds((double)w->lone_bytes, m->lone_bytes_per_s) +
		    nanoseconds((double)w->lone_fp16_bytes, m->lone_fp16_bytes_per_s) +
		    (double)w->changes * m->format_change_ns;
	double plain = (double)w->kv_bytes;
	for (int f = 0; f < IKV_FMT_COUNT; f++) {
		ns += nanoseconds(w->format_flops[f], m->format_flops_per_s[f]) +
		      w->format_fine[f] * m->format_fine_ns[f];
		if (m->format_bytes_per_s[f] > 0) {
			ns += nanoseconds((double)w->format_bytes[f], m->format_bytes_per_s[f]);
			plain -= (double)w->format_bytes[f];
		}
	}
	return ns + layers * read_ns(m, (plain > 0 ? plain : 0) / layers);
}

uint32_t ikv_cost_more_formats(const struct ikv_cost_work *w)
{
	uint32_t n = 0;
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		n += w->format_bytes[f] > 0;
	return n ? n - 1 : 0;
}

/* Where both are stated. */
static bool differs(double measured, uint32_t asked)
{
	return measured > 0 && asked > 0 && measured != asked;
}

void ikv_cost_step(const struct ikv_machine *m, const struct ikv_cost_work *w, struct ikv_cost_time *t)
{
	double layers = w->layers ? w->layers : 1, layer_bytes = (double)w->kv_bytes / layers;
	double read = attention_ns(m, w, layers);
	double arithmetic = nanoseconds(w->flops, m->flops_per_s);
	double fetch = nanoseconds((double)w->fetch_bytes, m->link_bytes_per_s);
	double ahead = nanoseconds((double)w->prefetch_bytes, m->link_bytes_per_s);
	if (w->fetch_bytes)
		fetch += m->link_latency_ns;
	if (w->prefetch_bytes)
		ahead += m->link_latency_ns;
	t->overhead = m->step_overhead_ns + w->extra_ns +
		      w->layers * (m->kernel_overhead_ns + ikv_cost_more_formats(w) * m->format_overhead_ns +
				   w->sequences * m->sequence_overhead_ns) +
		      (double)w->plans * m->plan_overhead_ns;
	t->attention = read > arithmetic ? read : arithmetic;
	t->weights = nanoseconds((double)w->weight_bytes, m->weight_bytes_per_s);
	t->recode = nanoseconds((double)w->recode_bytes, m->recode_bytes_per_s);
	double busy = t->overhead + t->attention + t->weights + t->recode;
	t->transfer = fetch + ahead;
	t->hidden = ahead < busy ? ahead : busy;
	t->exposed = t->transfer - t->hidden;
	t->total = busy + t->exposed;
	t->outside = layer_bytes < m->measured_from_bytes ||
		     (m->measured_to_bytes > 0 && layer_bytes > m->measured_to_bytes) ||
		     differs(m->measured_group, w->group) || differs(m->measured_kv_heads, w->kv_heads) ||
		     differs(m->measured_page_tokens, w->page_tokens);
}

int ikv_cost_compare(const struct ikv_cost_args *a, struct ikv_cost_report *r, struct ikv_err *err)
{
	if (!a->batch || !a->q_heads || !a->kv_heads || !a->query_tokens || !a->head_dim || !a->total_kv_tokens)
		return ikv_err_set(err, IKV_BAD_INPUT, "cost: batch, heads, tokens and head_dim must not be 0");
	if (a->selected_kv_tokens > a->total_kv_tokens)
		return ikv_err_set(err, IKV_BAD_INPUT, "cost: selected_kv_tokens: got %llu, expected at most %llu",
				   (unsigned long long)a->selected_kv_tokens, (unsigned long long)a->total_kv_tokens);
	if (!(a->bytes_per_value > 0) || !isfinite(a->bytes_per_value))
		return ikv_err_set(err, IKV_BAD_INPUT, "cost: bytes_per_value: got %g, expected more than 0",
				   a->bytes_per_value);
	double flops = 4.0 * (double)a->batch * (double)a->q_heads * (double)a->query_tokens * (double)a->head_dim;
	double bytes = 2.0 * (double)a->batch * (double)a->kv_heads * (double)a->head_dim * a->bytes_per_value;
	double total = (double)a->total_kv_tokens, selected = (double)a->selected_kv_tokens;
	*r = (struct ikv_cost_report){
	    .dense_flops = flops * total,
	    .semantic_flops = flops * selected,
	    .dense_kv_bytes = bytes * total,
	    .semantic_kv_bytes = bytes * selected,
	    .flops_saved_pct = 100 * (1 - selected / total),
	    .kv_bytes_saved_pct = 100 * (1 - selected / total),
	    .selected_fraction = selected / total,
	};
	return 0;
}

uint64_t ikv_kivi_bytes(const struct ikv_kivi_config *c, uint64_t tokens, uint32_t d_qk, uint32_t d_v)
{
	enum { SCALE_AND_ZERO = 4, FP16 = 2 };
	uint64_t k_open = tokens % c->residual, v_open = tokens < c->residual ? tokens : c->residual;
	uint64_t k = tokens - k_open, v = tokens - v_open;
	uint64_t k_groups = (k + c->group - 1) / c->group * d_qk, v_groups = v * ((d_v + c->group - 1) / c->group);
	return (k * d_qk * c->bits + 7) / 8 + (v * d_v * c->bits + 7) / 8 + SCALE_AND_ZERO * (k_groups + v_groups) +
	       FP16 * (k_open * d_qk + v_open * d_v);
}
