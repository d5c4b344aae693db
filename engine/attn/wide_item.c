/* One item: blocks of selected tokens, decoded once for a chunk of query rows. */
#include <math.h>
#include "attn/join.h"
#include "attn/wide.h"
#include "intentkv/alloc.h"

#define SPAN 64 /* channels of V that stay in the first-level cache while rows go by */

struct wide_scratch {
	float *q;                    /* [panels][d_qk][WIDE_ROWS], scaled */
	float *acc;                  /* [rows][acc_step] */
	float *scores;               /* [WIDE_PANELS][block_tokens][WIDE_ROWS] */
	float *k, *v;                /* [block_tokens][step]; the same where V aliases K */
	uint32_t *positions, *index; /* [block_tokens]: of a token, of its page in the plan */
	uint32_t *limits, *lengths;  /* [rows]: last position that a row sees; which query row it is */
	size_t *at;                  /* [rows]: its place in the unit's arrays */
	struct wide_softmax *state;  /* [panels] */
};

struct cursor { /* of the tiles of a piece that take part; one is found ahead, so that it can be fetched */
	uint32_t index, last, i; /* where to look on */
	uint64_t most;           /* last position that any row sees */
	bool more;
	struct tile tile;
	struct flash_heads at;
	uint32_t page, position, mask; /* its page's index in the plan, its first token's position, tokens taken */
};

int wide_scratch_create(struct wide_scratch **out, const struct wide *w, struct ikv_err *err)
{
	const size_t rows = w->chunk_rows, tokens = w->block_tokens;
	struct wide_scratch *all = ikv_alloc(w->members, sizeof *all, err);
	if (!all)
		return -1;
	*out = all;
	for (uint32_t m = 0; m < w->members; m++) {
		struct wide_scratch *s = &all[m];
		s->q = ikv_alloc(rows * w->g.d_qk, sizeof *s->q, err);
		s->acc = ikv_alloc(rows * w->acc_step, sizeof *s->acc, err);
		s->scores = ikv_alloc(WIDE_PANELS * tokens * WIDE_ROWS, sizeof *s->scores, err);
		s->k = ikv_alloc(tokens * w->k_step, sizeof *s->k, err);
		s->v = w->g.v_aliases_k ? s->k : ikv_alloc(tokens * w->v_step, sizeof *s->v, err);
		s->positions = ikv_alloc(tokens, sizeof *s->positions, err);
		s->index = ikv_alloc(tokens, sizeof *s->index, err);
		s->limits = ikv_alloc(rows, sizeof *s->limits, err);
		s->lengths = ikv_alloc(rows, sizeof *s->lengths, err);
		s->at = ikv_alloc(rows, sizeof *s->at, err);
		s->state = ikv_alloc(rows / WIDE_ROWS, sizeof *s->state, err);
		if (!s->q || !s->acc || !s->scores || !s->k || !s->v || !s->positions || !s->index || !s->limits ||
		    !s->lengths || !s->at || !s->state)
			return -1;
	}
	return 0;
}

void wide_scratch_destroy(struct wide_scratch *all, uint32_t members)
{
	for (uint32_t m = 0; all && m < members; m++) {
		struct wide_scratch *s = &all[m];
		if (s->v != s->k)
			ikv_free(s->v);
		ikv_free(s->q);
		ikv_free(s->acc);
		ikv_free(s->scores);
		ikv_free(s->k);
		ikv_free(s->positions);
		ikv_free(s->index);
		ikv_free(s->limits);
		ikv_free(s->lengths);
		ikv_free(s->at);
		ikv_free(s->state);
	}
	ikv_free(all);
}

static uint32_t panels_of(const struct wide_item *x)
{
	return (x->row_count + WIDE_ROWS - 1) / WIDE_ROWS;
}

/* Queries to panels; copies of the last row fill the last panel. */
static void load_rows(const struct wide *w, const struct wide_item *x, struct wide_scratch *s)
{
	const struct ikv_attn_unit *u = w->jobs[x->job].unit;
	const uint32_t d_qk = w->g.d_qk, padded = panels_of(x) * WIDE_ROWS;
	const float *rows[WIDE_ROWS];
	for (uint32_t r = 0; r < padded; r++) {
		uint32_t row = x->row + (r < x->row_count ? r : x->row_count - 1), i = r % WIDE_ROWS;
		struct wide_softmax *state = &s->state[r / WIDE_ROWS];
		s->lengths[r] = row / x->heads;
		s->at[r] = (size_t)s->lengths[r] * u->q_count + x->first + row % x->heads;
		s->limits[r] = u->positions ? u->positions[s->lengths[r]] : UINT32_MAX;
		state->shift[i] = -INFINITY;
		state->sum[i] = 0;
		rows[i] = u->q + s->at[r] * d_qk;
		if (i == WIDE_ROWS - 1)
			w->kernels->pack(rows, d_qk, w->g.scale, s->q + (size_t)(r - i) * d_qk);
	}
	memset(s->acc, 0, padded * w->acc_step * sizeof *s->acc);
}

static void decode(const struct wide *w, const struct tile_shape *shape, bool v, const struct tile *t, float *rows,
		   size_t step)
{
	/* Tables of decoders are for pages, whose rows follow each other. */
	wide_decode *f = w->kernels->decode && tile_in_order(shape) ? w->kernels->decode[shape->format] : NULL;
	(f ? f : tile_decode)(shape, v, t, rows, step);
}

/* Rows of a tile behind the block's n, those with a bit only. */
static uint32_t take_tile(const struct wide *w, const struct tile_shape *shape, const struct tile *t, uint32_t mask,
			  struct wide_scratch *s, uint32_t n)
{
	float *k = s->k + n * w->k_step, *v = s->v + n * w->v_step;
	uint32_t kept = 0;
	decode(w, shape, false, t, k, w->k_step);
	if (!w->g.v_aliases_k || !shape->alias)
		decode(w, shape, true, t, v, w->v_step);
	for (uint32_t m = mask; m; m &= m - 1, kept++) {
		uint32_t from = (uint32_t)__builtin_ctz(m);
		if (from == kept)
			continue;
		memcpy(k + kept * w->k_step, k + from * w->k_step, w->g.d_qk * sizeof *k);
		if (v != k)
			memcpy(v + kept * w->v_step, v + from * w->v_step, w->g.d_v * sizeof *v);
	}
	return kept;
}

/* The next tile with a token that takes part and that some row may see. */
static void find_tile(const struct wide *w, const struct wide_item *x, struct cursor *c)
{
	const struct ikv_attn_unit *u = w->jobs[x->job].unit;
	for (c->more = false; !c->more && c->index < c->last;) {
		const struct ikv_page_ref *r = &u->plan->pages[c->index];
		uint32_t first = c->i * TILE_TOKENS;
		uint64_t position = (uint64_t)r->page * w->g.page_tokens + first;
		if (position > c->most)
			return;
		c->mask = flash_taken(u->plan, r, c->i);
		if (c->mask) {
			c->more = true;
			c->page = c->index;
			c->position = (uint32_t)position;
			w->locate(w->source, u, x->kv_head, c->index, c->i, &c->tile, &c->at);
			c->tile.rows = r->hi - first < TILE_TOKENS ? r->hi - first : TILE_TOKENS;
		}
		c->i++;
		if (c->i * TILE_TOKENS >= r->hi) {
			c->index++;
			c->i = c->index < c->last ? u->plan->pages[c->index].lo / TILE_TOKENS : 0;
		}
	}
}

/* The next tokens, in ascending order of positions; 0 at the end. */
static uint32_t fill_block(const struct wide *w, const struct wide_item *x, struct cursor *c, struct wide_scratch *s)
{
	uint32_t n = 0;
	while (c->more && n + TILE_TOKENS <= w->block_tokens) {
		struct tile t = c->tile;
		const struct tile_shape *shape = c->at.shape;
		uint32_t mask = c->mask, page = c->page, position = c->position;
		find_tile(w, x, c);
		t.ahead = c->more ? c->tile.k - t.k : 0;
		uint32_t end = n + take_tile(w, shape, &t, mask, s, n);
		for (; n < end; n++, mask &= mask - 1) {
			s->positions[n] = position + (uint32_t)__builtin_ctz(mask);
			s->index[n] = page;
		}
	}
	return n;
}

/* Tokens of a block that a row limited to `limit` sees: they are the first ones. */
static uint32_t seen(const struct wide_scratch *s, uint32_t n, uint32_t limit)
{
	while (n && s->positions[n - 1] > limit)
		n--;
	return n;
}

static void add_bias(const struct ikv_attn_unit *u, const struct wide_scratch *s, uint32_t panel, uint32_t n,
		     float *scores)
{
	uint32_t from = 0;
	while (from < n && s->positions[from] < u->bias_first)
		from++;
	for (uint32_t i = 0; i < WIDE_ROWS; i++) {
		const float *bias = u->bias + (size_t)s->lengths[panel * WIDE_ROWS + i] * u->bias_tokens;
		for (uint32_t t = from; t < n && s->positions[t] - u->bias_first < u->bias_tokens; t++) {
			float *x = scores + (size_t)t * WIDE_ROWS + i, add = bias[s->positions[t] - u->bias_first];
			*x = add == -INFINITY ? add : *x + add;
		}
	}
}

/* What each page of the block received, in a panel of which `rows` rows count. */
static void add_mass(const struct wide *w, const struct wide_job *j, const struct wide_scratch *s, uint32_t panel,
		     uint32_t rows, uint32_t n, const float *weights)
{
	const struct wide_softmax *state = &s->state[panel];
	for (uint32_t t = 0, end; t < n; t = end) {
		float sum[WIDE_ROWS];
		for (end = t + 1; end < n && s->index[end] == s->index[t];)
			end++;
		w->kernels->add(weights + (size_t)t * WIDE_ROWS, end - t, sum);
		for (uint32_t i = 0; i < rows; i++) {
			size_t at = s->at[panel * WIDE_ROWS + i] * j->unit->plan->count + s->index[t];
			float *mass = j->unit->mass + at, *from = j->shifts + at, shift = state->shift[i];
			if (shift == -INFINITY) /* nothing seen so far */
				continue;
			*mass = *from == shift ? *mass + sum[i] : *mass * expf(*from - shift) + sum[i];
			*from = shift;
		}
	}
}

static void rescale(const struct wide *w, const float *factor, float *acc)
{
	for (uint32_t i = 0; i < WIDE_ROWS; i++)
		if (factor[i] != 1)
			w->micro->scale(acc + i * w->acc_step, (uint32_t)w->acc_step, factor[i]);
}

/* A block of n tokens for `count` panels. */
static void attend_panels(const struct wide *w, const struct wide_item *x, struct wide_scratch *s, uint32_t n,
			  uint32_t panel, uint32_t count)
{
	const struct wide_job *j = &w->jobs[x->job];
	const size_t q_step = (size_t)w->g.d_qk * WIDE_ROWS, s_step = (size_t)w->block_tokens * WIDE_ROWS;
	uint32_t sees[WIDE_PANELS], most = 0;
	bool whole[WIDE_PANELS];
	for (uint32_t p = 0; p < count; p++) {
		const uint32_t *limits = s->limits + (panel + p) * WIDE_ROWS;
		uint32_t high = limits[0], low = limits[0];
		for (uint32_t i = 1; i < WIDE_ROWS; i++) {
			high = limits[i] > high ? limits[i] : high;
			low = limits[i] < low ? limits[i] : low;
		}
		sees[p] = seen(s, n, high);
		whole[p] = seen(s, sees[p], low) == sees[p];
		most = sees[p] > most ? sees[p] : most;
	}
	if (!most)
		return;
	w->kernels->scores(s->q + panel * q_step, q_step, count, s->k, w->k_step, most, w->g.d_qk, s->scores, s_step);
	for (uint32_t p = 0; p < count; p++) {
		float *scores = s->scores + p * s_step;
		uint32_t first = (panel + p) * WIDE_ROWS;
		if (j->unit->bias)
			add_bias(j->unit, s, panel + p, sees[p], scores);
		if (w->kernels->weigh(scores, sees[p], s->positions, whole[p] ? NULL : s->limits + first,
				      &s->state[panel + p]))
			rescale(w, s->state[panel + p].factor, s->acc + first * w->acc_step);
		if (j->shifts)
			add_mass(w, j, s, panel + p,
				 x->row_count - first < WIDE_ROWS ? x->row_count - first : WIDE_ROWS, sees[p],
				 scores);
	}
	for (uint32_t c = 0; c < w->acc_step; c += SPAN) {
		uint32_t span = w->acc_step - c < SPAN ? (uint32_t)w->acc_step - c : SPAN;
		for (uint32_t p = 0; p < count; p++)
			w->kernels->sums(s->scores + p * s_step, sees[p], s->v + c, w->v_step, span,
					 s->acc + (panel + p) * WIDE_ROWS * w->acc_step + c, w->acc_step);
	}
}

/* Answers where the plan is one piece, else what joins to them. */
static void store_rows(const struct wide *w, const struct wide_item *x, struct wide_scratch *s)
{
	const struct wide_job *j = &w->jobs[x->job];
	const struct ikv_attn_unit *u = j->unit;
	for (uint32_t r = 0; r < x->row_count; r++) {
		const struct wide_softmax *state = &s->state[r / WIDE_ROWS];
		double sums[2] = {state->shift[r % WIDE_ROWS], state->sum[r % WIDE_ROWS]};
		size_t at = s->at[r], page = at * u->plan->count;
		struct join one = {.pieces = 1, .acc = s->acc + r * w->acc_step, .sums = sums};
		if (j->splits > 1) {
			size_t to = x->split * j->rows + at;
			memcpy(j->acc + to * w->acc_step, one.acc, w->acc_step * sizeof *one.acc);
			memcpy(j->sums + 2 * to, sums, sizeof sums);
			continue;
		}
		if (j->shifts) {
			one.mass = u->mass + page;
			one.shifts = j->shifts + page;
			one.pages = u->plan->count;
		}
		if (sums[1] > 0) /* else they are zeros */
			w->micro->scale(s->acc + r * w->acc_step, (uint32_t)w->acc_step, (float)(1 / sums[1]));
		memcpy(u->out + at * w->g.d_v, one.acc, w->g.d_v * sizeof *u->out);
		join_row(&one, 0, NULL, u->lse ? u->lse + at : NULL);
	}
}

void wide_attend(const struct wide *w, const struct wide_item *x, uint32_t member)
{
	struct wide_scratch *s = &w->scratch[member];
	const struct wide_job *j = &w->jobs[x->job];
	const struct ikv_plan *plan = j->unit->plan;
	uint32_t first = x->split * j->split_pages, panels = panels_of(x);
	uint32_t last = plan->count - first < j->split_pages ? plan->count : first + j->split_pages;
	struct cursor c = {.index = first,
			   .last = last,
			   .most = j->unit->positions ? 0 : UINT64_MAX,
			   .i = first < last ? plan->pages[first].lo / TILE_TOKENS : 0};
	load_rows(w, x, s);
	for (uint32_t r = 0; r < x->row_count; r++) {
		c.most = s->limits[r] > c.most ? s->limits[r] : c.most;
		for (uint32_t p = first; j->shifts && p < last; p++) {
			j->unit->mass[s->at[r] * plan->count + p] = 0;
			j->shifts[s->at[r] * plan->count + p] = -INFINITY;
		}
	}
	find_tile(w, x, &c);
	for (uint32_t n; (n = fill_block(w, x, &c, s)) > 0;)
		for (uint32_t p = 0; p < panels; p += WIDE_PANELS)
			attend_panels(w, x, s, n, p, panels - p < WIDE_PANELS ? panels - p : WIDE_PANELS);
	store_rows(w, x, s);
}
