/* Ranges become pieces that stand for pages in the attention loop: a piece's page number is its first token, so tiles
 * begin where ranges do. */
#include "attn/flash.h"
#include "attn/geometry.h"
#include "attn/isa.h"
#include "intentkv/alloc.h"
#include "intentkv/ranges.h"

#define PIECE_TOKENS 256 /* threads share work by pieces */

struct ikv_ranges {
	struct ikv_geometry g;
	struct flash *flash;
	struct tile_shape shape; /* of the running call */
	const struct ikv_rows *rows;
	struct ikv_page_ref *pieces; /* of all plans, one after the other */
	uint32_t *owner;             /* range of each piece */
	struct ikv_plan *plans;      /* one for all queries, or one each */
	struct ikv_attn_unit *units;
	float *mass; /* by piece */
	size_t pieces_cap, owner_cap, plans_cap, units_cap, mass_cap;
};

int ikv_ranges_create(struct ikv_ranges **out, const struct ikv_geometry *g, const struct ikv_backend_config *config,
		      struct ikv_err *err)
{
	struct ikv_geometry own = *g;
	own.layers = 1;
	own.page_tokens = PIECE_TOKENS;
	if (geometry_check(&own, 1, err))
		return -1;
	const struct micro_kernels *micro = isa_micro(config->isa, err);
	struct ikv_ranges *r = micro ? ikv_alloc(1, sizeof *r, err) : NULL;
	if (!r)
		return -1;
	r->g = own;
	if (flash_create(&r->flash, &r->g, micro, config->threads, err)) {
		ikv_free(r);
		return -1;
	}
	*out = r;
	return 0;
}

void ikv_ranges_destroy(struct ikv_ranges *r)
{
	if (!r)
		return;
	flash_destroy(r->flash);
	ikv_free(r->pieces);
	ikv_free(r->owner);
	ikv_free(r->plans);
	ikv_free(r->units);
	ikv_free(r->mass);
	ikv_free(r);
}

static int check(const struct ikv_ranges_call *c, uint32_t heads, struct ikv_err *err)
{
	uint64_t queries = (uint64_t)c->q_len * heads;
	for (uint32_t i = 0; i < c->count; i++) {
		const struct ikv_range *a = &c->ranges[i];
		if (a->lo >= a->hi)
			return ikv_err_set(err, IKV_BAD_INPUT, "range %u, [%u, %u), is empty", i, a->lo, a->hi);
		if (a->hi > c->rows.tokens)
			return ikv_err_set(err, IKV_BAD_INPUT, "range %u, [%u, %u): the sequence has %u tokens", i,
					   a->lo, a->hi, c->rows.tokens);
		if (i && a->lo < a[-1].hi)
			return ikv_err_set(
			    err, IKV_BAD_INPUT,
			    "range %u, [%u, %u), %s range %u, [%u, %u); expected ascending ranges apart", i, a->lo,
			    a->hi, a->hi <= a[-1].lo ? "lies before" : "overlaps", i - 1, a[-1].lo, a[-1].hi);
	}
	if (queries > UINT32_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT, "ranges: %u queries of %u heads are too many", c->q_len,
				   heads);
	return 0;
}

static uint64_t pieces_of(const struct ikv_ranges_call *c)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < c->count; i++)
		n += (c->ranges[i].hi - c->ranges[i].lo - 1) / PIECE_TOKENS + 1;
	return n;
}

/* Pieces of the tokens before `end`. */
static void lay_out(struct ikv_ranges *r, const struct ikv_ranges_call *c, uint32_t end, size_t first,
		    struct ikv_plan *plan)
{
	*plan = (struct ikv_plan){.pages = r->pieces + first, .page_tokens = PIECE_TOKENS};
	for (uint32_t i = 0; i < c->count; i++) {
		uint32_t hi = c->ranges[i].hi < end ? c->ranges[i].hi : end;
		for (uint32_t t = c->ranges[i].lo; t < hi; t += PIECE_TOKENS) {
			uint32_t n = hi - t < PIECE_TOKENS ? hi - t : PIECE_TOKENS;
			r->owner[first + plan->count] = i;
			plan->pages[plan->count++] =
			    (struct ikv_page_ref){.page = t, .hi = (uint16_t)n, .mask = IKV_NO_MASK};
			if (hi - t <= PIECE_TOKENS)
				break; /* t + PIECE_TOKENS might overflow */
		}
	}
}

static void locate(const void *source, const struct ikv_attn_unit *u, uint32_t kv_head, uint32_t index, uint32_t i,
		   struct tile *tile, struct flash_heads *heads)
{
	const struct ikv_ranges *r = source;
	const struct ikv_rows *rows = r->rows;
	size_t t = (size_t)u->plan->pages[index].page + (size_t)i * TILE_TOKENS;
	size_t size = rows->is_float ? sizeof(float) : sizeof(uint16_t);
	*heads = (struct flash_heads){&r->shape, r->g.kv_heads - kv_head, (ptrdiff_t)(size * rows->k_head),
				      (ptrdiff_t)(size * (r->g.v_aliases_k ? rows->k_head : rows->v_head))};
	tile->k = (const uint8_t *)rows->k + size * (t * rows->k_token + kv_head * rows->k_head);
	tile->v = r->g.v_aliases_k ? tile->k
				   : (const uint8_t *)rows->v + size * (t * rows->v_token + kv_head * rows->v_head);
	tile->group = tile->k;
}

static void set_rows(struct ikv_ranges *r, const struct ikv_rows *rows)
{
	size_t size = rows->is_float ? sizeof(float) : sizeof(uint16_t);
	tile_shape(&r->shape, rows->is_float ? TILE_FLOAT : (enum ikv_format)TILE_HALF, r->g.d_qk, r->g.d_v,
		   r->g.v_aliases_k);
	r->shape.k_step = size * rows->k_token;
	r->shape.v_step = r->g.v_aliases_k ? r->shape.k_step : size * rows->v_token;
	r->rows = rows;
}

/* Shares of pieces to those of ranges: n units of `rows` query rows each. */
static void gather_mass(const struct ikv_ranges *r, const struct ikv_ranges_call *c, uint32_t n, uint32_t rows)
{
	float *to = c->mass;
	for (uint32_t i = 0; i < n; i++) {
		const struct ikv_attn_unit *u = &r->units[i];
		const uint32_t *owner = r->owner + (u->plan->pages - r->pieces);
		const float *from = u->mass;
		for (size_t row = 0; row < (size_t)rows * r->g.q_heads; row++) {
			memset(to, 0, c->count * sizeof *to);
			for (uint32_t p = 0; p < u->plan->count; p++)
				to[owner[p]] += from[p];
			from += u->plan->count;
			to += c->count;
		}
	}
}

int ikv_ranges_attend(struct ikv_ranges *r, const struct ikv_ranges_call *c, struct ikv_err *err)
{
	/* A query with a position has a plan of its own, others share one and its reads. */
	uint32_t heads = r->g.q_heads, n = c->position ? c->q_len : c->q_len != 0, rows = c->position ? 1 : c->q_len;
	if (check(c, heads, err))
		return -1;
	uint64_t each = pieces_of(c);
	if (ikv_reserve(&r->pieces, &r->pieces_cap, n * each + 1, sizeof *r->pieces, err) ||
	    ikv_reserve(&r->owner, &r->owner_cap, n * each + 1, sizeof *r->owner, err) ||
	    ikv_reserve(&r->plans, &r->plans_cap, n, sizeof *r->plans, err) ||
	    ikv_reserve(&r->units, &r->units_cap, n, sizeof *r->units, err) ||
	    (c->mass &&
	     ikv_reserve(&r->mass, &r->mass_cap, (size_t)c->q_len * heads * each + 1, sizeof *r->mass, err)))
		return -1;
	for (uint32_t i = 0; i < n; i++) {
		bool all = !c->position || c->position[i] == UINT32_MAX;
		lay_out(r, c, all ? UINT32_MAX : c->position[i] + 1, i * each, &r->plans[i]);
		r->units[i] = (struct ikv_attn_unit){.q_count = heads,
						     .plan = &r->plans[i],
						     .q = c->q + (size_t)i * heads * r->g.d_qk,
						     .out = c->out + (size_t)i * heads * r->g.d_v,
						     .lse = c->lse ? c->lse + (size_t)i * heads : NULL,
						     .mass = c->mass ? r->mass + (size_t)i * heads * each : NULL,
						     .q_len = rows};
	}
	set_rows(r, &c->rows);
	if (flash_attend(r->flash, r->units, n, locate, r, 0, err))
		return -1;
	if (c->mass)
		gather_mass(r, c, n, rows);
	return 0;
}
