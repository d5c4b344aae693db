#include <math.h>
#include "attn/join.h"
#include "attn/wide.h"
#include "intentkv/alloc.h"

#define CHUNK_ROWS   256             /* most query rows of a chunk */
#define CHUNK_BYTES  (576u << 10)    /* that their queries and sums take, if that leaves them a panel */
#define BLOCK_TOKENS 96              /* of a block */
#define ITEMS        32              /* into which a unit is cut, if its plan is long enough */
#define SPLITS_MAX   16              /* pieces of a plan */
#define SPLIT_TOKENS 2048            /* a piece holds at least so many tokens */
#define WAKE         ((uint64_t)2e6) /* multiplications from which waking threads pays */

int wide_create(struct wide **out, const struct ikv_geometry *g, const struct micro_kernels *micro, uint32_t members,
		struct ikv_err *err)
{
	struct wide *w = ikv_alloc(1, sizeof *w, err);
	if (!w)
		return -1;
	w->g = *g;
	w->micro = micro;
	w->kernels = micro->wide;
	w->members = members;
	/* One line more than a power of two might be, so that rows do not share a set of the cache. */
	w->k_step = tile_padded(g->d_qk) + WIDE_PAD;
	w->v_step = g->v_aliases_k ? w->k_step : tile_padded(g->d_v) + WIDE_PAD;
	w->acc_step = tile_padded(g->d_v);
	size_t row = (g->d_qk + w->acc_step) * sizeof(float), panel = WIDE_ROWS * WIDE_PANELS;
	size_t rows = CHUNK_BYTES / row / panel * panel;
	w->chunk_rows = rows < WIDE_ROWS ? WIDE_ROWS : rows > CHUNK_ROWS ? CHUNK_ROWS : (uint32_t)rows;
	w->block_tokens = BLOCK_TOKENS;
	*out = w;
	return 0;
}

void wide_destroy(struct wide *w)
{
	if (!w)
		return;
	wide_scratch_destroy(w->scratch, w->members);
	ikv_free(w->jobs);
	ikv_free(w->items);
	ikv_free(w->acc);
	ikv_free(w->shifts);
	ikv_free(w->sums);
	ikv_free(w);
}

void wide_begin(struct wide *w, flash_locate *locate, const void *source)
{
	w->locate = locate;
	w->source = source;
}

bool wide_takes(const struct wide *w, const struct ikv_attn_unit *u)
{
	uint32_t group = w->g.q_heads / w->g.kv_heads;
	struct flash_heads at;
	struct tile t;
	if (!u->q_count)
		return false;
	if (ikv_attn_rows(u) > 1 || u->positions || u->bias)
		return true;
	if (!u->plan->count)
		return false;
	/* The first tile stands for the others: where formats are mixed either way is right. */
	w->locate(w->source, u, u->q_first / group, 0, u->plan->pages[0].lo / TILE_TOKENS, &t, &at);
	const struct wide_least *least = &w->kernels->least[at.shape->format];
	return (u->q_count < group ? u->q_count : group) >= (at.shape->alias ? least->alias : least->own);
}

/* Heads [h, end) of a unit use one KV head, end being the result. */
static uint32_t heads_end(const struct wide *w, const struct ikv_attn_unit *u, uint32_t h)
{
	uint32_t group = w->g.q_heads / w->g.kv_heads, end = h + group - (u->q_first + h) % group;
	return end < u->q_count ? end : u->q_count;
}

static uint32_t chunks_of(const struct wide *w, const struct ikv_attn_unit *u, uint32_t heads)
{
	uint64_t rows = (uint64_t)ikv_attn_rows(u) * heads;
	return (uint32_t)((rows + w->chunk_rows - 1) / w->chunk_rows);
}

/* Pieces of a plan: enough items for many threads, but none with few tokens. */
static uint32_t splits_of(const struct wide *w, const struct ikv_attn_unit *u, uint32_t *split_pages, uint64_t *items)
{
	uint64_t chunks = 0;
	for (uint32_t h = 0, end; h < u->q_count; h = end) {
		end = heads_end(w, u, h);
		chunks += chunks_of(w, u, end - h);
	}
	uint32_t pages = u->plan->count, least = (SPLIT_TOKENS + w->g.page_tokens - 1) / w->g.page_tokens;
	uint32_t want = chunks < ITEMS ? (uint32_t)(ITEMS / chunks) : 1;
	want = want < SPLITS_MAX ? want : SPLITS_MAX;
	uint32_t share = pages / want + (pages % want != 0), per = share > least ? share : least;
	uint32_t splits = pages ? (pages - 1) / per + 1 : 1;
	*split_pages = per;
	*items += chunks * splits;
	return splits;
}

static int reserve(struct wide *w, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	uint64_t jobs = 0, items = 0, mass = 0, rows = 0;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		uint32_t splits, split_pages;
		uint64_t n = (uint64_t)ikv_attn_rows(u) * u->q_count;
		if (!wide_takes(w, u))
			continue;
		jobs++;
		splits = splits_of(w, u, &split_pages, &items);
		rows += splits > 1 ? n * splits : 0;
		mass += u->mass ? n * u->plan->count : 0;
	}
	if (jobs > 0 && !w->scratch && wide_scratch_create(&w->scratch, w, err)) {
		wide_scratch_destroy(w->scratch, w->members);
		w->scratch = NULL;
		return -1;
	}
	if (ikv_reserve(&w->jobs, &w->jobs_cap, jobs, sizeof *w->jobs, err) ||
	    ikv_reserve(&w->items, &w->items_cap, items, sizeof *w->items, err) ||
	    ikv_reserve(&w->acc, &w->acc_cap, rows * w->acc_step, sizeof *w->acc, err) ||
	    ikv_reserve(&w->sums, &w->sums_cap, rows * 2, sizeof *w->sums, err))
		return -1;
	return ikv_reserve(&w->shifts, &w->shifts_cap, mass, sizeof *w->shifts, err);
}

int wide_check_queries(const struct wide *w, const struct ikv_attn_unit *u, struct ikv_err *err)
{
	const size_t n = (size_t)ikv_attn_rows(u) * u->q_count * w->g.d_qk;
	if (w->kernels->finite(u->q, n, w->g.scale))
		return 0;
	size_t i = 0;
	while (isfinite(u->q[i] * w->g.scale))
		i++;
	return ikv_err_set(err, IKV_BAD_INPUT, "query of head %zu, channel %zu is not finite",
			   u->q_first + i / w->g.d_qk % u->q_count, i % w->g.d_qk);
}

/* Items of a job, those of later rows first: with positions they see more. */
static void list_items(struct wide *w, uint32_t job)
{
	const struct wide_job *j = &w->jobs[job];
	const struct ikv_attn_unit *u = j->unit;
	uint32_t group = w->g.q_heads / w->g.kv_heads;
	for (uint32_t h = 0, end; h < u->q_count; h = end) {
		end = heads_end(w, u, h);
		uint32_t rows = ikv_attn_rows(u) * (end - h);
		for (uint32_t c = chunks_of(w, u, end - h); c-- > 0;) {
			uint32_t row = c * w->chunk_rows, left = rows - row;
			for (uint32_t k = 0; k < j->splits; k++)
				w->items[w->item_count++] = (struct wide_item){
				    .job = job,
				    .kv_head = (u->q_first + h) / group,
				    .first = h,
				    .heads = end - h,
				    .row = row,
				    .row_count = left < w->chunk_rows ? left : w->chunk_rows,
				    .split = k,
				};
		}
	}
	w->work += (uint64_t)j->rows * u->plan->count * w->g.page_tokens * (w->g.d_qk + w->g.d_v);
}

int wide_lay_out(struct wide *w, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	uint64_t items = 0;
	size_t rows = 0, mass = 0;
	w->job_count = w->item_count = w->next = 0;
	w->work = 0;
	if (reserve(w, units, count, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_attn_unit *u = &units[i];
		struct wide_job *j = &w->jobs[w->job_count];
		if (!wide_takes(w, u))
			continue;
		if (wide_check_queries(w, u, err))
			return -1;
		j->unit = u;
		j->rows = (size_t)ikv_attn_rows(u) * u->q_count;
		j->splits = splits_of(w, u, &j->split_pages, &items);
		j->acc = w->acc + rows * w->acc_step;
		j->sums = w->sums + rows * 2;
		j->shifts = u->mass ? w->shifts + mass : NULL;
		rows += j->splits > 1 ? j->rows * j->splits : 0;
		mass += u->mass ? j->rows * u->plan->count : 0;
		list_items(w, w->job_count++);
	}
	return 0;
}

/* Which thread takes an item does not matter to it. */
static void share(void *wide, uint32_t member)
{
	struct wide *w = wide;
	for (uint32_t i; (i = w->next++) < w->item_count;)
		wide_attend(w, &w->items[i], member);
}

static void join_share(void *wide, uint32_t member)
{
	struct wide *w = wide;
	for (uint32_t i = 0; i < w->job_count; i++) {
		const struct wide_job *j = &w->jobs[i];
		const struct ikv_attn_unit *u = j->unit;
		size_t begin = j->rows * member / w->members, end = j->rows * (member + 1) / w->members;
		for (size_t r = j->splits > 1 ? begin : end; r < end; r++) {
			struct join x = {.pieces = j->splits,
					 .acc = j->acc + r * w->acc_step,
					 .acc_step = j->rows * w->acc_step,
					 .sums = j->sums + 2 * r,
					 .sums_step = 2 * j->rows,
					 .pages = u->plan->count};
			if (j->shifts) {
				x.mass = u->mass + r * u->plan->count;
				x.shifts = j->shifts + r * u->plan->count;
			}
			join_row(&x, w->g.d_v, u->out + r * w->g.d_v, u->lse ? u->lse + r : NULL);
		}
	}
}

void wide_run(struct wide *w, struct crew *crew)
{
	if (!w->item_count)
		return;
	if (w->work < WAKE) {
		share(w, 0);
		for (uint32_t m = 0; m < w->members; m++)
			join_share(w, m);
		return;
	}
	crew_run(crew, share, w);
	crew_run(crew, join_share, w);
}
