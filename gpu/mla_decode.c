#include <cuda_runtime_api.h>
#include <float.h>
#include <math.h>
#include <string.h>
#include "gpu/mla_decode.h"
#include "gpu/split.h"
#include "intentkv/alloc.h"

/* Of one call: counts, and offsets in the buffers. */
struct sizes {
	uint32_t jobs, plans, rows, heads, pieces;
	size_t refs, masks; /* elements */
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
	ikv_free(d->plans);
	ikv_free(d->jobs);
	ikv_free(d->loads);
	ikv_free(d->pieces);
}

static int room(void *array, size_t *cap, size_t need, size_t size, struct ikv_err *err)
{
	if (need <= *cap)
		return 0;
	size_t want = need < 2 * *cap ? 2 * *cap : need;
	if (ikv_grow(array, 0, want, size, err))
		return -1;
	*cap = want;
	return 0;
}

/* Number of the unit's plan; units that share one mostly follow each other. */
static uint32_t plan_of(struct mla_decode *d, struct sizes *z, const struct ikv_plan *plan)
{
	for (uint32_t i = z->plans; i-- > 0 && z->plans - i <= 16;)
		if (d->plans[i].plan == plan)
			return i;
	d->plans[z->plans] = (struct decode_plan){plan, z->refs, z->masks, NULL};
	z->refs += plan->count;
	z->masks += plan->mask_used;
	return z->plans++;
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
	if (room(&d->plans, &d->plans_cap, count, sizeof *d->plans, err) ||
	    room(&d->jobs, &d->jobs_cap, jobs, sizeof *d->jobs, err) ||
	    room(&d->loads, &d->loads_cap, jobs, sizeof *d->loads, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		uint32_t plan = u->q_count ? plan_of(d, z, u->plan) : 0;
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

static size_t up(size_t bytes)
{
	return (bytes + 127) & ~(size_t)127;
}

static void lay_out(const struct pages *p, const struct mla_config *c, struct sizes *z)
{
	size_t rows = (size_t)z->pieces * c->width * c->rows;
	z->segments_at = 0;
	z->jobs_at = up(z->pieces * sizeof(struct mla_segment));
	z->refs_at = z->jobs_at + up(z->jobs * sizeof(struct mla_job));
	z->masks_at = z->refs_at + up(z->refs * sizeof(struct ikv_page_ref));
	z->factor_at = z->masks_at + up(z->masks * 8);
	z->q_at = z->factor_at + up(4 * (size_t)z->rows);
	z->in_bytes = z->q_at + up(2 * (size_t)z->rows * MLA_DIM);
	z->lse_at = 4 * (size_t)z->rows * p->g.d_v; /* no gaps: all of it is copied back */
	z->mass_at = z->lse_at + 4 * (size_t)z->rows;
	z->out_bytes = z->mass_at + 4 * z->mass;
	z->part_sums_at = up(4 * (c->joins ? rows : 0) * MLA_OUT);
	z->sums_at = z->part_sums_at + up(8 * rows);
	z->group_mass_at = z->sums_at + up(8 * (size_t)z->rows);
	z->work_bytes = z->group_mass_at + up(8 * z->group_mass);
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

static void put_plans(const struct mla_decode *d, const struct sizes *z)
{
	uint8_t *in = d->in.host;
	for (uint32_t i = 0; i < z->plans; i++) {
		const struct decode_plan *x = &d->plans[i];
		if (x->plan->count)
			memcpy(in + z->refs_at + x->refs * sizeof(struct ikv_page_ref), x->plan->pages,
			       x->plan->count * sizeof(struct ikv_page_ref));
		if (x->plan->mask_used)
			memcpy(in + z->masks_at + 8 * x->masks, x->plan->masks, 8 * (size_t)x->plan->mask_used);
	}
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
		const struct decode_plan *plan = &d->plans[j->plan];
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

static void take_answers(const struct mla_decode *d, const struct ikv_geometry *g, const struct ikv_attn_unit *units,
			 uint32_t count, const struct sizes *z)
{
	const uint8_t *out = d->out.host;
	const float *rows = (const float *)out, *lse = (const float *)(out + z->lse_at);
	const float *mass = (const float *)(out + z->mass_at);
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		size_t n = (size_t)u->q_count * g->d_v, pages = (size_t)u->q_count * u->plan->count;
		if (n)
			memcpy(u->out, rows, n * sizeof *rows);
		if (u->lse && n)
			memcpy(u->lse, lse, u->q_count * sizeof *lse);
		if (u->mass && pages)
			memcpy(u->mass, mass, pages * sizeof *mass);
		rows += n;
		lse += u->q_count;
		mass += u->mass ? pages : 0;
	}
}

static int launch(struct mla_decode *d, struct pages *p, const struct mla_config *c, const struct sizes *z,
		  struct ikv_err *err)
{
	uint8_t *in = d->in.device, *out = d->out.device, *work = d->work.device;
	struct mla_args args = {.segments = (const struct mla_segment *)(in + z->segments_at),
				.jobs = (const struct mla_job *)(in + z->jobs_at),
				.q = (const uint16_t *)(in + z->q_at),
				.factor = (const float *)(in + z->factor_at),
				.out = (float *)out,
				.lse = (float *)(out + z->lse_at),
				.mass = (float *)(out + z->mass_at),
				.group_mass = c->mass ? (float *)(work + z->group_mass_at) : NULL,
				.parts = (float *)work,
				.part_sums = (float *)(work + z->part_sums_at),
				.sums = c->mass ? (float *)(work + z->sums_at) : NULL,
				.d_v = p->g.d_v,
				.page_groups = z->page_groups,
				.width = c->width,
				.keep = c->width > 1};
	cudaStream_t stream = p->device.stream;
	const char *doing = "compute attention";
	if (device_failed(cudaMemcpyAsync(in, d->in.host, z->in_bytes, cudaMemcpyHostToDevice, stream), doing, err) ||
	    tier_begin(p, err) || device_failed(mla_launch(&args, c, stream), doing, err) || tier_end(p, err) ||
	    device_failed(cudaMemcpyAsync(d->out.host, out, z->out_bytes, cudaMemcpyDeviceToHost, stream), doing, err))
		return -1;
	return device_failed(cudaStreamSynchronize(stream), doing, err);
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
	if (room(&d->pieces, &d->pieces_cap, split_most(z.jobs, lists), sizeof *d->pieces, err))
		return -1;
	const struct split_rule rule = {.blocks = lists, .least = c.groups, .round = c.groups, .slack = 1};
	z.pieces = split_jobs(d->loads, z.jobs, &rule, d->pieces, &c.lists);
	c.jobs = z.jobs;
	c.joins = z.pieces > z.jobs;
	c.mass = z.mass != 0;
	lay_out(p, &c, &z);
	if (device_reserve(&d->in, z.in_bytes, true, err) || device_reserve(&d->out, z.out_bytes, true, err) ||
	    device_reserve(&d->work, z.work_bytes, false, err) ||
	    put_queries(&p->g, units, count, (uint16_t *)((uint8_t *)d->in.host + z.q_at),
			(float *)((uint8_t *)d->in.host + z.factor_at), err))
		return -1;
	put_plans(d, &z);
	put_jobs(d, p, units, &z);
	if (launch(d, p, &c, &z, err))
		return -1;
	count_bytes(d, p, units, &z);
	take_answers(d, &p->g, units, count, &z);
	return 0;
}
