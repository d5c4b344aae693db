#include <cuda_runtime_api.h>
#include <math.h>
#include <string.h>
#include "gpu/decode.h"
#include "gpu/split.h"
#include "intentkv/alloc.h"

/* Of one call: counts, and offsets in the buffers. */
struct sizes {
	uint32_t jobs, rows, heads, pieces;
	size_t words;       /* tiles of all jobs */
	uint32_t tiles_max; /* of one */
	size_t segments_at, jobs_at, lists_at, refs_at, masks_at, q_at, in_bytes;
	size_t lse_at, mass_at, mass, out_bytes; /* mass: elements */
	size_t tile_mass, words_at, work_bytes, sums_at, parts_bytes;
	uint32_t slot_bytes;
	uint32_t formats; /* a bit each */
	uint32_t choice;  /* where the search for the next unit's begins */
};

void decode_free(struct decode *d)
{
	device_release(&d->in);
	device_release(&d->out);
	device_release(&d->work);
	device_release(&d->parts);
	call_graph_free(&d->graph);
	ikv_free(d->cut);
	ikv_free(d->plans.items);
	ikv_free(d->jobs);
	ikv_free(d->loads);
	ikv_free(d->pieces);
}

/* Number of the unit's plan. */
static uint32_t plan_of(struct decode *d, struct pages *p, const struct selection *s, struct sizes *z,
			const struct ikv_attn_unit *u)
{
	uint32_t found = call_plans_find(&d->plans, u->plan);
	if (found != UINT32_MAX)
		return found;
	const struct ikv_page_ref *kept = s ? selection_find(s, u, &z->choice) : NULL;
	p->stats.plans_kept += kept != NULL;
	return call_plans_add(&d->plans, u->plan, kept);
}

/* Units to jobs: heads that share a KV head, at most ATTEND_HEADS_MAX of them. */
static int list_jobs(struct decode *d, struct pages *p, const struct selection *s, const struct ikv_attn_unit *units,
		     uint32_t count, struct sizes *z, struct ikv_err *err)
{
	uint32_t group = p->g.q_heads / p->g.kv_heads, most = group < ATTEND_HEADS_MAX ? group : ATTEND_HEADS_MAX;
	size_t jobs = 0, all = 0;
	for (uint32_t i = 0; i < count; i++) { /* each KV head may be entered and left inside its group */
		const struct ikv_attn_unit *u = &units[i];
		all += ikv_attn_rows(u) * (size_t)u->q_count;
		jobs +=
		    u->q_count ? ikv_attn_rows(u) * (size_t)(u->q_count / most + 2 * (u->q_count / group + 2)) : 0;
	}
	if (all >= ATTEND_ROWS_MAX)
		return ikv_err_set(err, IKV_FAILED, "backend cuda: more than 2^27 query rows in one call");
	if (call_plans_begin(&d->plans, count, err) ||
	    call_room(&d->jobs, &d->jobs_cap, jobs, sizeof *d->jobs, err) ||
	    call_room(&d->loads, &d->loads_cap, jobs, sizeof *d->loads, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		uint32_t plan = u->q_count ? plan_of(d, p, s, z, u) : 0, rows = ikv_attn_rows(u);
		for (uint32_t r = 0; r < rows; r++) {
			uint64_t limit = u->positions ? (uint64_t)u->positions[r] + 1 : UINT64_MAX;
			for (uint32_t h = 0, n; h < u->q_count; h += n) {
				n = group - (u->q_first + h) % group;
				n = n < u->q_count - h ? n : u->q_count - h;
				n = n < most ? n : most;
				z->heads = n > z->heads ? n : z->heads;
				d->jobs[z->jobs++] =
				    (struct decode_job){i, plan, r, n, (u->q_first + h) / group, limit};
			}
		}
		z->rows += rows * u->q_count;
		if (u->mass) {
			z->mass += (size_t)rows * u->q_count * u->plan->count;
			z->tile_mass += (size_t)rows * u->q_count * u->plan->count * p->tiles;
		}
	}
	return 0;
}

/* Stored bytes of a reference's tokens. */
static uint64_t bytes_read(const struct pages *p, const struct ikv_page_ref *r, uint32_t f)
{
	uint32_t n = r->hi - r->lo;
	uint64_t page = p->own[tile_format(f)];
	return n == p->g.page_tokens ? page : n * page / p->g.page_tokens;
}

/* What each job reads, and the largest tile of the call. The page table is asked only where formats differ. */
static void weigh_jobs(struct decode *d, struct pages *p, const struct ikv_attn_unit *units, struct sizes *z)
{
	z->slot_bytes = 128;
	for (uint32_t i = 0; i < z->jobs; i++) {
		const struct decode_job *j = &d->jobs[i];
		const struct ikv_attn_unit *u = &units[j->unit];
		const struct pages_list *l = pages_list(p, u->seq, u->layer);
		double bytes = 0;
		uint32_t only = u->plan->count ? pages_only_format(l, j->kv_head) : IKV_FMT_SKIP;
		only = only == IKV_FMT_BF16 ? IKV_FMT_SKIP : only; /* which has two forms */
		for (uint32_t k = 0; k < u->plan->count; k++) {
			const struct ikv_page_ref *r = &u->plan->pages[k];
			uint32_t f = only ? only : l->table[(size_t)r->page * p->g.kv_heads + j->kv_head] & 15;
			uint32_t tile = tile_bytes(f, p->steps), slot = tile_room(tile);
			z->slot_bytes = slot > z->slot_bytes ? slot : z->slot_bytes;
			bytes += tile;
			z->formats |= 1u << f;
			if (!j->row &&
			    (i == 0 || d->jobs[i - 1].unit != j->unit || d->jobs[i - 1].kv_head != j->kv_head))
				p->stats.kv_bytes_read += bytes_read(p, r, f);
		}
		uint32_t tiles = u->plan->count * p->tiles;
		d->loads[i] = (struct split_job){tiles, u->plan->count ? bytes / u->plan->count : 1};
		z->words += tiles;
		z->tiles_max = tiles > z->tiles_max ? tiles : z->tiles_max;
	}
}

static void lay_out(const struct decode *d, const struct pages *p, const struct attend_config *c, struct sizes *z)
{
	const struct ikv_geometry *g = &p->g;
	z->segments_at = 0;
	z->jobs_at = call_up(z->pieces * sizeof(struct attend_segment));
	z->lists_at = z->jobs_at + call_up(z->jobs * sizeof(struct attend_job));
	z->refs_at = z->lists_at + call_up(z->jobs * sizeof(struct attend_list));
	z->masks_at = z->refs_at + call_up(d->plans.refs * sizeof(struct ikv_page_ref));
	z->q_at = z->masks_at + call_up(d->plans.masks * 8);
	z->in_bytes = z->q_at + call_up(4 * (size_t)z->rows * g->d_qk);
	z->lse_at = 4 * (size_t)z->rows * g->d_v; /* no gaps: all of it is copied back */
	z->mass_at = z->lse_at + 4 * (size_t)z->rows;
	z->out_bytes = z->mass_at + 4 * z->mass;
	z->words_at = call_up(8 * z->tile_mass);
	z->work_bytes = z->words_at + call_up(8 * z->words);
	z->sums_at = attend_part_bytes(z->pieces, c->heads, c->steps);
	z->parts_bytes = z->sums_at + z->sums_at / 2;
}

static int put_queries(const struct ikv_geometry *g, const struct ikv_attn_unit *units, uint32_t count, float *q,
		       struct ikv_err *err)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		for (size_t k = 0; k < (size_t)ikv_attn_rows(u) * u->q_count * g->d_qk; k++) {
			if (!isfinite(u->q[k] * g->scale))
				return ikv_err_set(err, IKV_BAD_INPUT, "query of head %u, channel %u is not finite",
						   u->q_first + (uint32_t)(k / g->d_qk % u->q_count),
						   (uint32_t)(k % g->d_qk));
			*q++ = u->q[k];
		}
	}
	return 0;
}

static void put_jobs(const struct decode *d, const struct pages *p, const struct ikv_attn_unit *units,
		     const struct sizes *z)
{
	struct attend_job *jobs = (struct attend_job *)((uint8_t *)d->in.host + z->jobs_at);
	uint32_t row = 0;
	uint64_t mass = 0;
	for (uint32_t i = 0; i < z->jobs; i++) {
		const struct decode_job *j = &d->jobs[i];
		const struct ikv_attn_unit *u = &units[j->unit];
		jobs[i] = (struct attend_job){.row = row,
					      .heads = j->heads,
					      .tiles = u->plan->count * p->tiles,
					      .pages = u->plan->count,
					      .mass = u->mass ? mass : UINT64_MAX,
					      .tile_mass = mass * p->tiles};
		row += j->heads;
		mass += u->mass ? (uint64_t)j->heads * u->plan->count : 0;
	}
	for (uint32_t i = 0; i < z->pieces; i++)
		if (!jobs[d->pieces[i].job].parts++)
			jobs[d->pieces[i].job].first_part = i;
}

/* What the words of each job are made of, and where each block begins. */
static void put_lists(const struct decode *d, const struct pages *p, const struct ikv_attn_unit *units,
		      const struct sizes *z)
{
	uint8_t *in = d->in.host, *device = d->in.device;
	const struct attend_job *jobs = (const struct attend_job *)(in + z->jobs_at);
	struct attend_list *lists = (struct attend_list *)(in + z->lists_at);
	uint64_t first = 0;
	for (uint32_t i = 0; i < z->jobs; i++) {
		const struct decode_job *j = &d->jobs[i];
		const struct call_plan *plan = &d->plans.items[j->plan];
		const attend_entry *table = pages_list(p, units[j->unit].seq, units[j->unit].layer)->device_table;
		lists[i] =
		    (struct attend_list){.refs = plan->kept ? plan->kept
							    : (const struct ikv_page_ref *)(device + z->refs_at) +
								  plan->refs,
					 .masks = (const uint64_t *)(device + z->masks_at) + plan->masks,
					 .table = table ? table + j->kv_head : NULL,
					 .first = first,
					 .limit = j->limit,
					 .stride = p->g.kv_heads,
					 .tiles = jobs[i].tiles,
					 .parts = jobs[i].parts};
		first += jobs[i].tiles;
	}
}

/* The call's work on the stream: while a graph is recorded, or by itself, with what goes on beside attention (`beside`). */
static int enqueue(const struct decode_step *x, struct pages *beside, void *stream, struct ikv_err *err)
{
	const char *doing = "compute attention";
	const struct attend_list *lists = (const struct attend_list *)((uint8_t *)x->in_device + x->lists_at);
	if (device_failed(cudaMemcpyAsync(x->in_device, x->in, x->in_bytes, cudaMemcpyHostToDevice, stream), doing, err) ||
	    (!beside && call_mark(x->clock[0], stream, err)) ||
	    device_failed(attend_resolve(lists, x->jobs, x->tiles_max, (attend_word *)x->args.words, x->args.page_tokens,
					 x->steps, 0, stream),
			  doing, err) ||
	    (beside && tier_begin(beside, err)) || device_failed(attend_launch(&x->args, &x->config, stream), doing, err) ||
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

static int launch(struct decode *d, struct pages *p, const struct attend_config *c, uint32_t slots,
		  const struct sizes *z, struct ikv_err *err)
{
	uint8_t *in = d->in.device, *out = d->out.device, *work = d->work.device;
	struct decode_step x;
	memset(&x, 0, sizeof x); /* gaps too: steps are compared as bytes */
	x.args.words = (attend_word *)(work + z->words_at);
	x.args.segments = (const struct attend_segment *)(in + z->segments_at);
	x.args.jobs = (const struct attend_job *)(in + z->jobs_at);
	x.args.q = (const float *)(in + z->q_at);
	x.args.out = (float *)out;
	x.args.lse = (float *)(out + z->lse_at);
	x.args.mass = (float *)(out + z->mass_at);
	x.args.tile_mass = z->mass ? (float *)work : NULL;
	x.args.parts = d->parts.device;
	x.args.part_sums = (float *)((uint8_t *)d->parts.device + z->sums_at);
	x.args.d_qk = p->g.d_qk;
	x.args.d_v = p->g.d_v;
	x.args.page_tokens = p->g.page_tokens;
	x.args.scale = p->g.scale;
	x.args.slots = slots;
	x.args.slot_bytes = z->slot_bytes;
	for (uint32_t f = 0; f < ATTEND_FORMATS; f++)
		x.args.bytes[f] = tile_bytes(f, p->steps);
	split_segments(d->pieces, z->pieces, (const struct attend_job *)((uint8_t *)d->in.host + z->jobs_at),
		       (struct attend_segment *)((uint8_t *)d->in.host + z->segments_at), &x.args);
	x.config.steps = c->steps;
	x.config.heads = c->heads;
	x.config.format = c->format;
	x.config.four_bits = c->four_bits;
	x.config.blocks = c->blocks;
	x.config.warps = c->warps;
	x.config.shared = c->shared;
	x.config.overlap = p->device.bulk && !p->tier.stream ? 2 : 0;
	x.in = d->in.host;
	x.in_device = d->in.device;
	x.out = d->out.host;
	x.out_device = d->out.device;
	memcpy(x.clock, p->device.clock, sizeof x.clock);
	x.in_bytes = z->in_bytes;
	x.out_bytes = z->out_bytes;
	x.lists_at = z->lists_at;
	x.jobs = z->jobs;
	x.tiles_max = z->tiles_max;
	x.steps = p->steps;
	const char *doing = "compute attention";
	cudaStream_t stream = p->device.stream;
	if (p->tier.stream) { /* pages move on streams of their own, which no graph holds */
		if (enqueue(&x, p, stream, err))
			return -1;
	} else if (call_graph_run(&d->graph, &x, &d->step, sizeof x, 0, enqueue_alone, stream, err)) {
		return -1;
	}
	if (device_failed(cudaStreamSynchronize(stream), doing, err))
		return -1;
	p->stats.device_ns += p->tier.stream ? 0 : call_marked_ns(p->device.clock);
	return 0;
}

/* Cut the jobs, unless they are as those of the call before. */
static int cut_jobs(struct decode *d, const struct pages *p, const struct sizes *z, uint32_t warps, struct ikv_err *err)
{
	uint32_t blocks = p->device.multiprocessors - tier_blocks(p);
	blocks = blocks < ATTEND_BLOCKS_MAX ? blocks : ATTEND_BLOCKS_MAX;
	bool same = d->cut_jobs == z->jobs && d->cut_blocks == blocks && d->cut_warps == warps;
	for (uint32_t i = 0; same && i < z->jobs; i++)
		same = d->cut[i].tiles == d->loads[i].tiles && d->cut[i].weight == d->loads[i].weight;
	if (same)
		return 0;
	d->cut_jobs = 0;
	if (call_room(&d->pieces, &d->pieces_cap, split_most(z->jobs, blocks), sizeof *d->pieces, err) ||
	    call_room(&d->cut, &d->cut_cap, z->jobs, sizeof *d->cut, err))
		return -1;
	const struct split_rule rule = {.blocks = blocks, .least = warps, .round = 1, .slack = ATTEND_SLACK};
	d->cut_pieces = split_jobs(d->loads, z->jobs, &rule, d->pieces, &d->cut_used);
	memcpy(d->cut, d->loads, z->jobs * sizeof *d->cut);
	d->cut_jobs = z->jobs;
	d->cut_blocks = blocks;
	d->cut_warps = warps;
	return 0;
}

/* Room in a buffer of the device, all of it set to `byte` when it is taken. */
static int reserve_set(struct device_buffer *b, size_t bytes, int byte, void *stream, struct ikv_err *err)
{
	if (bytes <= b->bytes)
		return 0;
	if (device_reserve(b, bytes, false, err))
		return -1;
	if (device_failed(cudaMemsetAsync(b->device, byte, b->bytes, stream), "clear device memory", err)) {
		device_release(b); /* the next call would take it for set */
		return -1;
	}
	return 0;
}

static int run(struct decode *d, struct pages *p, const struct selection *s, const struct ikv_attn_unit *units,
	       uint32_t count, struct ikv_err *err)
{
	struct sizes z = {0};
	struct attend_config c;
	if (list_jobs(d, p, s, units, count, &z, err))
		return -1;
	if (!z.jobs)
		return 0;
	weigh_jobs(d, p, units, &z);
	uint32_t slots = attend_configure(p->steps, attend_heads(z.heads), z.slot_bytes, p->device.shared_bytes,
					   z.formats ? z.formats : 1u << IKV_FMT_FP16, &c);
	if (!slots)
		return ikv_err_set(
		    err, IKV_UNAVAILABLE,
		    "backend cuda: %u bytes of shared memory a block do not do for heads of %u channels",
		    p->device.shared_bytes, 16 * p->steps);
	if (z.words > UINT32_MAX)
		return ikv_err_set(err, IKV_FAILED, "backend cuda: %zu tiles in one call, more than 2^32", z.words);
	if (cut_jobs(d, p, &z, c.warps, err))
		return -1;
	z.pieces = d->cut_pieces;
	c.blocks = d->cut_used;
	lay_out(d, p, &c, &z);
	if (device_reserve(&d->in, z.in_bytes, true, err) || device_reserve(&d->out, z.out_bytes, true, err) ||
	    reserve_set(&d->work, z.work_bytes, 0, p->device.stream, err) || /* words are read in pairs */
	    reserve_set(&d->parts, z.parts_bytes, 0xff, p->device.stream, err) ||
	    put_queries(&p->g, units, count, (float *)((uint8_t *)d->in.host + z.q_at), err))
		return -1;
	call_plans_put(&d->plans, (struct ikv_page_ref *)((uint8_t *)d->in.host + z.refs_at),
		       (uint64_t *)((uint8_t *)d->in.host + z.masks_at));
	put_jobs(d, p, units, &z);
	put_lists(d, p, units, &z);
	if (launch(d, p, &c, slots, &z, err)) {
		device_release(&d->parts); /* whatever it holds */
		return -1;
	}
	const uint8_t *out = d->out.host;
	call_answers((const float *)out, (const float *)(out + z.lse_at), (const float *)(out + z.mass_at), &p->g, units,
		     count);
	return 0;
}

int decode_run(struct decode *d, struct pages *p, const struct selection *s, const struct ikv_attn_unit *units,
	       uint32_t count, struct ikv_err *err)
{
	uint64_t read = p->stats.kv_bytes_read;
	int rc = run(d, p, s, units, count, err);
	if (rc)
		p->stats.kv_bytes_read = read;
	return rc;
}
