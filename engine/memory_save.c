/* Saved state of the memory manager: everything that a later step depends on, checked on the way back. */
#include <string.h>
#include "intentkv/alloc.h"
#include "memory_state.h"
#include "serial.h"

#define MAGIC      0x4d564b49u /* "IKVM" */
#define PAGE_BYTES 45

/* What the state belongs to: it loads only into a manager of the same settings. */
static void put_setup(struct serial_out *o, const struct ikv_memory *m)
{
	const struct ikv_memory_config *c = &m->config;
	serial_put(o, MAGIC, 4);
	serial_put(o, MEMORY_STATE_VERSION, 4);
	serial_put(o, m->sequence_count, 4);
	serial_put(o, m->groups, 4);
	serial_put(o, m->page_tokens, 4);
	serial_put(o, m->tier_count, 4);
	for (uint32_t t = 0; t < IKV_TIERS_MAX; t++)
		serial_put(o, (uint64_t)m->tiers[t].capacity_bytes, 8);
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		serial_put(o, m->page_bytes[f], 8);
	serial_put(o, (uint64_t)c->demote_cold_after_steps, 8);
	serial_put(o, (uint64_t)c->promote_hot_after_accesses, 8);
	serial_put(o, (uint64_t)c->adapt_every, 8);
	serial_put(o, (uint64_t)c->recode_after_uses, 8);
	serial_put(o, (uint64_t)c->promotion << 16 | (uint64_t)c->floor << 8 | c->demote, 8);
	serial_put_real(o, c->access_decay);
	serial_put_real(o, c->recode_pressure);
	for (size_t i = 0; i <= strlen(m->residency->name); i++)
		serial_put(o, (unsigned char)m->residency->name[i], 1);
	for (size_t i = 0; i < m->residency->config_bytes; i++) /* zeroed before it was filled, so no stray bytes */
		serial_put(o, ((const unsigned char *)m->residency_config)[i], 1);
}
#define SETUP_BYTES_MAX 512

static void put_page(struct serial_out *o, const struct ikv_memory *m, const struct memory_page *p)
{
	serial_put(o, p->unit, 4);
	serial_put(o, p->page, 4);
	serial_put_real(o, p->accesses);
	serial_put(o, p->last_step, 4);
	serial_put(o, p->unit == MEMORY_END ? 0 : m->units[p->unit].cold_since[p->page], 4);
	serial_put(o, p->demoted_step, 4);
	serial_put(o, p->hint_step, 4);
	serial_put(o, p->uses, 4);
	serial_put(o, p->lower, 4);
	serial_put(o, p->format, 1);
	serial_put(o, p->tier, 1);
	serial_put(o, p->policy, 1);
	serial_put(o, p->hint, 1);
	serial_put(o,
		   (unsigned)p->open | (unsigned)p->pinned << 1 | (unsigned)p->demoted << 2 |
		       (unsigned)p->watched << 3 | (unsigned)p->encode << 4,
		   1);
}

static void put_sequence(struct serial_out *o, const struct ikv_memory *m, uint32_t seq)
{
	const struct memory_sequence *s = &m->sequences[seq];
	serial_put(o, s->tokens, 4);
	serial_put(o, s->step, 4);
	serial_put(o, s->stepped, 1);
	for (int i = 0; i < MEMORY_WINDOW; i++) {
		serial_put(o, s->demoted_at[i], 4);
		serial_put(o, s->touched_again[i], 4);
	}
	for (uint32_t g = 0; g < m->groups; g++) {
		serial_put(o, m->units[seq * m->groups + g].reopened, 4);
		serial_put(o, m->units[seq * m->groups + g].grown, 8);
	}
}

static void put_arrivals(struct serial_out *o, const struct memory_sequence *s)
{
	serial_put(o, s->arrival_count, 4);
	for (uint32_t i = 0; i < s->arrival_count; i++) {
		const struct memory_arrival *a = &s->arrivals[(s->arrival_head + i) % s->arrival_cap];
		serial_put(o, a->slot, 4);
		serial_put(o, a->step, 4);
	}
}

/* A residency state with its length before it. */
static void put_resident(struct serial_out *o, const struct ikv_memory *m, int class)
{
	size_t length = m->residency->save(m->resident[class], NULL, 0);
	serial_put(o, length, 8);
	bool fits = o->at && o->used < o->size;
	o->used +=
	    m->residency->save(m->resident[class], fits ? o->at + o->used : NULL, fits ? o->size - o->used : 0);
}

size_t ikv_memory_save(const struct ikv_memory *m, void *buffer, size_t size)
{
	struct serial_out o = {buffer, size, 0};
	put_setup(&o, m);
	serial_put(&o, m->step, 8);
	serial_put(&o, (uint64_t)m->demote_after, 8);
	serial_put(&o, (uint64_t)m->promote_after, 8);
	serial_put(&o, (uint64_t)m->adapt_count, 8);
	for (uint32_t s = 0; s < m->sequence_count; s++)
		put_sequence(&o, m, s);
	serial_put(&o, m->slot_cap, 4);
	serial_put(&o, m->slot_count, 4);
	for (uint32_t s = 0; s < m->slot_count; s++)
		put_page(&o, m, &m->pages[s]);
	serial_put(&o, m->free_count, 4);
	for (uint32_t i = 0; i < m->free_count; i++)
		serial_put(&o, m->free_slots[i], 4);
	serial_put(&o, m->encode_count, 4);
	for (uint32_t i = 0; i < m->encode_count; i++)
		serial_put(&o, m->encodes[i], 4);
	for (uint32_t s = 0; s < m->sequence_count; s++)
		put_arrivals(&o, &m->sequences[s]);
	for (int k = 0; k < MEMORY_CLASSES; k++)
		put_resident(&o, m, k);
	return o.used;
}

static int bad(struct ikv_err *err, const char *what)
{
	return ikv_err_set(err, IKV_BAD_INPUT, "saved memory state: %s", what);
}

static void get_page(struct serial_in *in, struct memory_page *p, uint32_t *cold_since)
{
	p->unit = (uint32_t)serial_get(in, 4);
	p->page = (uint32_t)serial_get(in, 4);
	p->accesses = serial_get_real(in);
	p->last_step = (uint32_t)serial_get(in, 4);
	*cold_since = (uint32_t)serial_get(in, 4);
	p->demoted_step = (uint32_t)serial_get(in, 4);
	p->hint_step = (uint32_t)serial_get(in, 4);
	p->uses = (uint32_t)serial_get(in, 4);
	p->lower = (uint32_t)serial_get(in, 4);
	p->format = (uint8_t)serial_get(in, 1);
	p->tier = (uint8_t)serial_get(in, 1);
	p->policy = (uint8_t)serial_get(in, 1);
	unsigned hint = (unsigned)serial_get(in, 1), flags = (unsigned)serial_get(in, 1);
	in->bad |= hint > MEMORY_HINT_ARRIVED || flags > 31;
	p->hint = hint & 3;
	p->open = flags & 1;
	p->pinned = flags & 2;
	p->demoted = flags & 4;
	p->watched = flags & 8;
	p->encode = flags & 16;
}

/* A used page: its place among its unit's pages is free and its values make sense. */
static int adopt(struct ikv_memory *m, uint32_t slot, uint32_t cold_since, struct ikv_err *err)
{
	const struct memory_page *p = &m->pages[slot];
	if (p->unit >= m->sequence_count * m->groups)
		return bad(err, "a page of an unknown sequence");
	const struct memory_sequence *s = memory_sequence(m, p);
	struct memory_unit *u = &m->units[p->unit];
	if (p->page >= ikv_pages(s->tokens, m->page_tokens) || p->format == IKV_FMT_SKIP ||
	    p->format >= IKV_FMT_COUNT || p->tier >= m->tier_count || p->policy >= IKV_POLICY_COUNT ||
	    p->last_step > s->step || p->demoted_step > s->step || p->hint_step > s->step || !(p->accesses >= 0) ||
	    p->open != (p->page == s->tokens / m->page_tokens) ||
	    (p->open && (p->tier || p->format != IKV_FMT_FP16)) ||
	    (memory_can_cool(m, p) ? cold_since > s->step : cold_since != MEMORY_NEVER))
		return bad(err, "a page with impossible values");
	if (u->slots[p->page] != MEMORY_END)
		return bad(err, "the same page twice");
	u->slots[p->page] = slot;
	u->cold_since[p->page] = cold_since;
	u->count++;
	memory_count(m, p, 1);
	return 0;
}

static int load_sequence(struct ikv_memory *m, uint32_t seq, struct serial_in *in, struct ikv_err *err)
{
	struct memory_sequence *s = &m->sequences[seq];
	s->tokens = (uint32_t)serial_get(in, 4);
	s->step = (uint32_t)serial_get(in, 4);
	unsigned stepped = (unsigned)serial_get(in, 1);
	s->stepped = stepped;
	for (int i = 0; i < MEMORY_WINDOW; i++) {
		s->demoted_at[i] = (uint32_t)serial_get(in, 4);
		s->touched_again[i] = (uint32_t)serial_get(in, 4);
	}
	for (uint32_t g = 0; g < m->groups; g++) {
		m->units[seq * m->groups + g].reopened = (uint32_t)serial_get(in, 4);
		m->units[seq * m->groups + g].grown = serial_get(in, 8);
	}
	return in->bad || stepped > 1 || s->step == MEMORY_NEVER ? bad(err, "impossible steps of a sequence") : 0;
}

/* Empty places for all pages that the sequences' tokens make. */
static int reserve_units(struct ikv_memory *m, uint32_t count, uint64_t *expected, struct ikv_err *err)
{
	for (uint32_t i = 0; i < m->sequence_count * m->groups; i++) {
		uint32_t pages = ikv_pages(m->sequences[i / m->groups].tokens, m->page_tokens);
		struct memory_unit *u = &m->units[i];
		*expected += pages;
		if (pages > count)
			return bad(err, "fewer pages than tokens need");
		u->slots = ikv_alloc(pages, sizeof *u->slots, err);
		u->cold_since = ikv_alloc(pages, sizeof *u->cold_since, err);
		if (!u->slots || !u->cold_since)
			return -1;
		memset(u->slots, 0xff, pages * sizeof *u->slots);
		u->cap = pages;
	}
	return 0;
}

static int load_pages(struct ikv_memory *m, struct serial_in *in, struct ikv_err *err)
{
	uint32_t cap = (uint32_t)serial_get(in, 4), count = serial_get_count(in, PAGE_BYTES);
	uint64_t used = 0, expected = 0;
	if (in->bad || count > cap || cap / 2 > (count > 64 ? count : 64))
		return bad(err, "cut short");
	if ((count && memory_slots_reserve(m, cap, err)) || reserve_units(m, count, &expected, err))
		return -1;
	m->slot_count = count;
	for (uint32_t s = 0; s < count; s++) {
		uint32_t cold_since;
		get_page(in, &m->pages[s], &cold_since);
		if (in->bad)
			return bad(err, "a page with impossible values");
		if (m->pages[s].unit == MEMORY_END) {
			m->pages[s] = (struct memory_page){.unit = MEMORY_END};
			continue;
		}
		if (adopt(m, s, cold_since, err))
			return -1;
		used++;
	}
	return used == expected ? 0 : bad(err, "fewer pages than tokens need");
}

static int load_free(struct ikv_memory *m, struct serial_in *in, struct ikv_err *err)
{
	uint32_t used = 0;
	m->free_count = serial_get_count(in, 4);
	if (m->free_count > m->slot_count)
		return bad(err, "too many free slots");
	for (uint32_t i = 0; i < m->free_count; i++) {
		uint32_t s = (uint32_t)serial_get(in, 4);
		/* `kept` marks free slots while they are read. */
		if (s >= m->slot_count || m->pages[s].unit != MEMORY_END || m->pages[s].kept)
			return bad(err, "a free slot that is not free");
		m->pages[s].kept = 1;
		m->free_slots[i] = s;
	}
	for (uint32_t s = 0; s < m->slot_count; s++) {
		used += m->pages[s].unit != MEMORY_END;
		m->pages[s].kept = 0;
	}
	return used + m->free_count == m->slot_count ? 0 : bad(err, "a lost slot");
}

static int load_arrivals(struct ikv_memory *m, struct memory_sequence *s, struct serial_in *in, struct ikv_err *err)
{
	uint32_t n = serial_get_count(in, 8);
	s->arrivals = ikv_alloc(n ? n : 1, sizeof *s->arrivals, err);
	if (!s->arrivals)
		return -1;
	s->arrival_count = n;
	s->arrival_cap = n ? n : 1;
	for (uint32_t i = 0; i < n; i++) {
		s->arrivals[i].slot = (uint32_t)serial_get(in, 4);
		s->arrivals[i].step = (uint32_t)serial_get(in, 4);
		if (s->arrivals[i].slot >= m->slot_count || s->arrivals[i].step > s->step)
			return bad(err, "an unknown page");
	}
	return 0;
}

static int load_queues(struct ikv_memory *m, struct serial_in *in, struct ikv_err *err)
{
	uint32_t n = serial_get_count(in, 4);
	m->encodes = ikv_alloc(n ? n : 1, sizeof *m->encodes, err);
	if (!m->encodes)
		return -1;
	m->encode_count = n;
	m->encode_cap = n ? n : 1;
	for (uint32_t i = 0; i < n; i++)
		if ((m->encodes[i] = (uint32_t)serial_get(in, 4)) >= m->slot_count)
			return bad(err, "an unknown page");
	for (uint32_t s = 0; s < m->sequence_count; s++)
		if (load_arrivals(m, &m->sequences[s], in, err))
			return -1;
	return 0;
}

static bool is_resident(const struct memory_page *p, bool pinned)
{
	return p->unit != MEMORY_END && p->tier == 0 && !p->open && p->pinned == pinned;
}

/* Each residency state must know exactly its pages of the fast tier. */
static int load_resident(struct ikv_memory *m, int class, struct serial_in *in, struct ikv_err *err)
{
	uint64_t length = serial_get(in, 8);
	if (in->bad || length > in->size - in->used)
		return bad(err, "cut short");
	if (m->residency->load(m->resident[class], in->at + in->used, (size_t)length, err))
		return -1;
	in->used += (size_t)length;
	for (uint32_t s = 0; s < m->slot_cap; s++) {
		bool expected = s < m->slot_count && is_resident(&m->pages[s], class == MEMORY_PINNED);
		if (m->residency->holds(m->resident[class], s) != expected)
			return bad(err, "the residency policy knows other pages");
	}
	return 0;
}

static int load_all(struct ikv_memory *m, struct serial_in *in, struct ikv_err *err)
{
	m->step = serial_get(in, 8);
	m->demote_after = (int64_t)serial_get(in, 8);
	m->promote_after = (int64_t)serial_get(in, 8);
	m->adapt_count = (int64_t)serial_get(in, 8);
	if (m->demote_after < 1 || m->demote_after > 1000000 || m->promote_after < 1 || m->promote_after > 1000000 ||
	    m->adapt_count < 0 || m->adapt_count > 1000000)
		return bad(err, "impossible thresholds");
	for (uint32_t s = 0; s < m->sequence_count; s++)
		if (load_sequence(m, s, in, err))
			return -1;
	if (load_pages(m, in, err) || load_free(m, in, err) || load_queues(m, in, err))
		return -1;
	for (int k = 0; k < MEMORY_CLASSES; k++)
		if (load_resident(m, k, in, err))
			return -1;
	return in->used == in->size ? 0 : bad(err, "bytes left over");
}

int ikv_memory_load(struct ikv_memory *m, const void *buffer, size_t size, struct ikv_err *err)
{
	unsigned char setup[SETUP_BYTES_MAX];
	struct serial_out o = {setup, sizeof setup, 0};
	put_setup(&o, m);
	if (o.used > sizeof setup || size < o.used || memcmp(setup, buffer, o.used))
		return bad(err, "not a state of a manager with these settings");
	struct serial_in in = {buffer, size, o.used, false};
	struct ikv_memory *fresh, old;
	if (memory_shell(&fresh, m, err))
		return -1;
	if (load_all(fresh, &in, err)) {
		ikv_memory_destroy(fresh);
		return -1;
	}
	old = *m;
	*m = *fresh;
	*fresh = old;
	ikv_memory_destroy(fresh);
	return 0;
}
