#include <cuda_runtime_api.h>
#include <float.h>
#include <math.h>
#include <string.h>
#include "gpu/mla_decode.h"
#include "gpu/split.h"
#include "intentkv/alloc.h"

/* Of one call: counts, and offsets in the buffers. */
struct sizes {
	uint32_t jobs, rows, heads, pieces;
	size_t segments_at, jobs_at, refs_at, masks_at, factor_at, q_at, in_bytes;
	size_t lse_at, mass_at, mass, out_bytes; /* mass: elements */
	size_t part_sums_at, sums_at, group_mass_at, group_mass, work_bytes;
	uint32_t page_groups;
};

void mla_decode_free(struct mla_decode *d)
{
	device_release(&d->in);
	device_release(&d->out);
	device_release(&d->work);
	call_graph_free(&d->graph);
	ikv_free(d->plans.items);
	ikv_free(d->jobs);
	ikv_free(d->loads);
	ikv_free(d->pieces);
}

/* Units to jobs: heads that share a KV head, at most MLA_JOB_MAX of them. */
static int list_jobs(struct mla_decode *d, const struct pages *p, const struct ikv_attn_unit *units, uint32_t count,
		     struct sizes *z, struct ikv_err *err)
{
	uint32_t group = p->g.q_heads / p->g.kv_heads, most = group < MLA_JOB_MAX ? group : MLA_JOB_MAX;
	size_t jobs = 0;
	for (uint32_t i = 0; i < count; i++)
		if (ikv_attn_rows(&units[i]) > 1 || units[i].positions || units[i].bias)
			return ikv_err_set(err, IKV_UNAVAILABLE,
					   "backend cuda: several query rows, positions or a bias where V aliases K");
	for (uint32_t i = 0; i < count; i++) /* each KV head may be entered and left inside its group */
		jobs += units[i].q_count ? units[i].q_count / most + 2 * (units[i].q_count / group + 2) : 0;
	if (call_plans_begin(&d->plans, count, err) ||
	    call_room(&d->jobs, &d->jobs_cap, jobs, sizeof *d->jobs, err) ||
	    call_room(&d->loads, &d->loads_cap, jobs, sizeof *d->loads, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		uint32_t plan = u->q_count ? call_plans_find(&d->plans, u->plan) : 0;
		if (plan == UINT32_MAX)
			plan = call_plans_add(&d->plans, u->plan, NULL);
		for (uint32_t h = 0, n; h < u->q_count; h += n) {
			n = group - (u->q_first + h) % group;
			n = n < u->q_count - h ? n : u->q_count - h;
			n = n < most ? n : most;
			z->heads = n > z->heads ? n : z->heads;
			d->loads[z->jobs] = (struct split_job){u->plan->count * z->page_groups, SPLIT_PIECE_BYTES / MLA_PIECE_GROUPS};
			d->jobs[z->jobs++] = (struct mla_decode_job){i, plan, n, (u->q_first + h) / group};
		}
		z->rows += u->q_count;
		if (u->mass) {
			z->mass += (size_t)u->q_count * u->plan->count;
			z->group_mass += (size_t)u->q_count * u->plan->count * z->page_groups;
		}
	}
	return 0;
}

/* May a page that is read have another format than FP16. */
static bool reads_codes(const struct mla_decode *d, const struct pages *p, const struct ikv_attn_unit *units,
			const struct sizes *z)
{
	for (uint32_t i = 0; i < z->jobs; i++) {
		const struct ikv_attn_unit *u = &units[d->jobs[i].unit];
		if (pages_only_format(pages_list(p, u->seq, u->layer), d->jobs[i].kv_head) != IKV_FMT_FP16)
			return true;
	}
	return false;
}

static void count_bytes(const struct mla_decode *d, struct pages *p, const struct ikv_attn_unit *units,
			const struct sizes *z)
{
	for (uint32_t i = 0; i < z->jobs; i++) {
		const struct mla_decode_job *j = &d->jobs[i];
		const struct ikv_attn_unit *u = &units[j->unit];
		const struct pages_list *l = pages_list(p, u->seq, u->layer);
		if (i && d->jobs[i - 1].unit == j->unit && d->jobs[i - 1].kv_head == j->kv_head)
			continue;
		for (uint32_t k = 0; k < u->plan->count; k++) {
			const struct ikv_page_ref *r = &u->plan->pages[k];
			uint32_t f = l->table[(size_t)r->page * p->g.kv_heads + j->kv_head] & 15;
			p->stats.kv_bytes_read += (r->hi - r->lo) * (p->own[f] / p->g.page_tokens);
		}
	}
}

static void lay_out(const struct mla_decode *d, const struct pages *p, const struct mla_config *c, struct sizes *z)
{
	size_t rows = (size_t)z->pieces * c->width * c->rows;
	z->segments_at = 0;
	z->jobs_at = call_up(z->pieces * sizeof(struct mla_segment));
	z->refs_at = z->jobs_at + call_up(z->jobs * sizeof(struct mla_job));
	z->masks_at = z->refs_at + call_up(d->plans.refs * sizeof(struct ikv_page_ref));
	z->factor_at = z->masks_at + call_up(d->plans.masks * 8);
	z->q_at = z->factor_at + call_up(4 * (size_t)z->rows);
	z->in_bytes = z->q_at + call_up(2 * (size_t)z->rows * MLA_DIM);
	z->lse_at = 4 * (size_t)z->rows * p->g.d_v; /* no gaps: all of it is copied back */
	z->mass_at = z->lse_at + 4 * (size_t)z->rows;
	z->out_bytes = z->mass_at + 4 * z->mass;
	z->part_sums_at = call_up(4 * (c->joins ? rows : 0) * MLA_OUT);
	z->sums_at = z->part_sums_at + call_up(8 * rows);
	z->group_mass_at = z->sums_at + call_up(8 * (size_t)z->rows);
	z->work_bytes = z->group_mass_at + call_up(8 * z->group_mass);
}

void mla_query(const float *q, uint32_t d_qk, float scale, uint16_t *rounded, float *factor)
{
	float most = 0, sign = scale < 0 ? -1 : 1;
	int up = 0;
	for (uint32_t k = 0; k < d_qk; k++)
		most = fmaxf(most, fabsf(q[k]));
	if (most > 0)
		up = 10 - ilogbf(most);
	for (uint32_t k = 0; k < MLA_DIM; k++)
		rounded[k] = k < d_qk ? ikv_fp16_from_float(sign * ldexpf(q[k], up)) : 0;
	/* Products stay below 2^11 · 65504 · 576, and scores are to be finite. */
	*factor = fminf(fmaxf((float)ldexp(fabs(scale) * 1.4426950408889634, -up), FLT_MIN), 1e27f);
}

static int put_queries(const struct ikv_geometry *g, const struct ikv_attn_unit *units, uint32_t count, uint16_t *q,
		       float *factor, struct ikv_err *err)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		for (uint32_t h = 0; h < u->q_count; h++, q += MLA_DIM, factor++) {
			const float *row = u->q + (size_t)h * g->d_qk;
			for (uint32_t k = 0; k < g->d_qk; k++)
				if (!isfinite(row[k] * g->scale))
					return ikv_err_set(err, IKV_BAD_INPUT,
							   "query of head %u, channel %u is not finite",
							   u->q_first + h, k);
			mla_query(row, g->d_qk, g->scale, q, factor);
		}
	}
	return 0;
}

static void put_jobs(const struct mla_decode *d, const struct pages *p, const struct ikv_attn_unit *units,
		     const struct sizes *z)
{
	uint8_t *in = d->in.host, *device = d->in.device;
	struct mla_job *jobs = (struct mla_job *)(in + z->jobs_at);
	struct mla_segment *segments = (struct mla_segment *)(in + z->segments_at);
	uint32_t row = 0;
	uint64_t mass = 0;
	for (uint32_t i = 0; i < z->jobs; i++) {
		const struct mla_decode_job *j = &d->jobs[i];
		const struct ikv_attn_unit *u = &units[j->unit];
		jobs[i] = (struct mla_job){.row = row,
					   .heads = j->heads,
					   .pages = u->plan->count,
					   .groups = u->plan->count * z->page_groups,
					   .mass = u->mass ? mass : UINT64_MAX,
					   .group_mass = u->mass ? mass * z->page_groups : UINT64_MAX};
		row += j->heads;
		mass += u->mass ? (uint64_t)j->heads * u->plan->count : 0;
	}
	for (uint32_t i = 0; i < z->pieces; i++)
		if (!jobs[d->pieces[i].job].parts++)
			jobs[d->pieces[i].job].first_part = i;
	for (uint32_t i = 0; i < z->pieces; i++) {
		const struct split_piece *x = &d->pieces[i];
		const struct mla_decode_job *j = &d->jobs[x->job];
		const struct ikv_attn_unit *u = &units[j->unit];
		const struct call_plan *plan = &d->plans.items[j->plan];
		const struct mla_job *job = &jobs[x->job];
		const attend_entry *table = pages_list(p, u->seq, u->layer)->device_table;
		segments[x->at] =
		    (struct mla_segment){.refs = (const struct ikv_page_ref *)(device + z->refs_at) + plan->refs,
					 .masks = (const uint64_t *)(device + z->masks_at) + plan->masks,
					 .table = table ? table + j->kv_head : NULL,
					 .stride = p->g.kv_heads,
					 .job = x->job,
					 .first = x->first,
					 .end = x->end,
					 .row = job->row,
					 .heads = j->heads,
					 .parts = job->parts,
					 .part = i,
					 .next = x->next,
					 .groups = job->groups,
					 .group_mass = job->group_mass};
	}
}

/* The call's work on the stream: while a graph is recorded, or by itself, with what goes on beside attention (`beside`). */
static int enqueue(const struct mla_step *x, struct pages *beside, void *stream, struct ikv_err *err)
{
	const char *doing = "compute attention";
	if (device_failed(cudaMemcpyAsync(x->in_device, x->in, x->in_bytes, cudaMemcpyHostToDevice, stream), doing, err) ||
	    (beside ? tier_begin(beside, err) : call_mark(x->clock[0], stream, err)) ||
	    device_failed(mla_launch(&x->args, &x->config, stream), doing, err) ||
	    (beside ? tier_end(beside, err) : call_mark(x->clock[1], stream, err)))
		return -1;
	return device_failed(cudaMemcpyAsync(x->out, x->out_device, x->out_bytes, cudaMemcpyDeviceToHost, stream), doing,
			     err);
}

/* In a graph, which holds no streams but the call's own. */
static int enqueue_alone(const void *step, void *stream, struct ikv_err *err)
{
	return enqueue(step, NULL, stream, err);
}

static int launch(struct mla_decode *d, struct pages *p, const struct mla_config *c, const struct sizes *z,
		  struct ikv_err *err)
{
	uint8_t *in = d->in.device, *out = d->out.device, *work = d->work.device;
	struct mla_step x;
	memset(&x, 0, sizeof x); /* gaps too: steps are compared as bytes */
	x.args.segments = (const struct mla_segment *)(in + z->segments_at);
	x.args.jobs = (const struct mla_job *)(in + z->jobs_at);
	x.args.q = (const uint16_t *)(in + z->q_at);
	x.args.factor = (const float *)(in + z->factor_at);
	x.args.out = (float *)out;
	x.args.lse = (float *)(out + z->lse_at);
	x.args.mass = (float *)(out + z->mass_at);
	x.args.group_mass = c->mass ? (float *)(work + z->group_mass_at) : NULL;
	x.args.parts = (float *)work;
	x.args.part_sums = (float *)(work + z->part_sums_at);
	x.args.sums = c->mass ? (float *)(work + z->sums_at) : NULL;
	x.args.d_v = p->g.d_v;
	x.args.page_groups = z->page_groups;
	x.args.width = c->width;
	x.args.keep = c->width > 1;
	x.config = *c;
	x.in = d->in.host;
	x.in_device = in;
	x.out = d->out.host;
	x.out_device = out;
	memcpy(x.clock, p->device.clock, sizeof x.clock);
	x.in_bytes = z->in_bytes;
	x.out_bytes = z->out_bytes;
	cudaStream_t stream = p->device.stream;
	const uint32_t kind = c->joins | c->mass << 1 | (uint32_t)mla_joins_early(c) << 2 | c->codes << 3;
	if (p->tier.stream ? enqueue(&x, p, stream, err) /* pages move on streams of their own */
			   : call_graph_run(&d->graph, &x, &d->step, sizeof x, kind, enqueue_alone, stream, err))
		return -1;
	if (device_failed(cudaStreamSynchronize(stream), "compute attention", err))
		return -1;
	p->stats.device_ns += p->tier.stream ? 0 : call_marked_ns(p->device.clock);
	return 0;
}

int mla_decode_run(struct mla_decode *d, struct pages *p, const struct ikv_attn_unit *units, uint32_t count,
		   struct ikv_err *err)
{
	struct sizes z = {.page_groups = (p->g.page_tokens + MLA_GROUP - 1) / MLA_GROUP};
	struct mla_config c = {0};
	if (list_jobs(d, p, units, count, &z, err))
		return -1;
	if (!z.jobs)
		return 0;
	mla_configure(z.heads, d->hopper, &c);
	uint32_t lists = (p->device.multiprocessors - tier_blocks(p)) / c.width;
	lists = lists ? lists : 1;
	if (call_room(&d->pieces, &d->pieces_cap, split_most(z.jobs, lists), sizeof *d->pieces, err))
		return -1;
	const struct split_rule rule = {.blocks = lists, .least = c.groups, .round = c.groups, .slack = 1};
	z.pieces = split_jobs(d->loads, z.jobs, &rule, d->pieces, &c.lists);
	c.jobs = z.jobs;
	c.joins = z.pieces > z.jobs;
	c.mass = z.mass != 0;
	c.codes = reads_codes(d, p, units, &z);
	lay_out(d, p, &c, &z);
	if (device_reserve(&d->in, z.in_bytes, true, err) || device_reserve(&d->out, z.out_bytes, true, err) ||
	    device_reserve(&d->work, z.work_bytes, false, err) ||
	    put_queries(&p->g, units, count, (uint16_t *)((uint8_t *)d->in.host + z.q_at),
			(float *)((uint8_t *)d->in.host + z.factor_at), err))
		return -1;
	call_plans_put(&d->plans, (struct ikv_page_ref *)((uint8_t *)d->in.host + z.refs_at),
		       (uint64_t *)((uint8_t *)d->in.host + z.masks_at));
	put_jobs(d, p, units, &z);
	if (launch(d, p, &c, &z, err))
		return -1;
	count_bytes(d, p, units, &z);
	const uint8_t *out = d->out.host;
	call_answers((const float *)out, (const float *)(out + z.lse_at), (const float *)(out + z.mass_at), &p->g, units,
		     count);
	return 0;
}
