/* Saved state of the memory manager: everything that a later step depends on, checked on the way back. */
#include <string.h>
#include "intentkv/alloc.h"
#include "memory_state.h"
#include "serial.h"

#define MAGIC      0x4d564b49u /* "IKVM" */
#define PAGE_BYTES 66

/* What the state belongs to: it loads only into a manager of the same settings. */
static void put_setup(struct serial_out *o, const struct ikv_memory *m)
{
	const struct ikv_memory_config *c = &m->config;
	serial_put(o, MAGIC, 4);
	serial_put(o, MEMORY_STATE_VERSION, 4);
	serial_put(o, m->sequences, 4);
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
}
#define SETUP_BYTES_MAX 512

static void put_page(struct serial_out *o, const struct memory_page *p)
{
	serial_put(o, p->unit, 4);
	serial_put(o, p->page, 4);
	serial_put_real(o, p->accesses);
	serial_put(o, p->last_step, 8);
	serial_put(o, p->cold_since, 8);
	serial_put(o, p->demoted_step, 8);
	serial_put(o, p->hint_step, 8);
	serial_put(o, p->uses, 4);
	serial_put(o, p->lower, 4);
	serial_put(o, p->format, 1);
	serial_put(o, p->tier, 1);
	serial_put(o, p->policy, 1);
	serial_put(o, p->hint, 1);
	serial_put(o,
		   (unsigned)p->open | (unsigned)p->pinned << 1 | (unsigned)p->demoted << 2 |
		       (unsigned)p->watched << 3 | (unsigned)p->encode << 4,
		   2);
	serial_put(o, p->list, 4);
}

size_t ikv_memory_save(const struct ikv_memory *m, void *buffer, size_t size)
{
	struct serial_out o = {buffer, size, 0};
	put_setup(&o, m);
	serial_put(&o, m->step, 8);
	serial_put(&o, (uint64_t)m->demote_after, 8);
	serial_put(&o, (uint64_t)m->promote_after, 8);
	serial_put(&o, (uint64_t)m->adapt_count, 8);
	serial_put(&o, m->reopened, 4);
	serial_put(&o, m->reopened_bytes, 8);
	for (int i = 0; i < MEMORY_WINDOW; i++) {
		serial_put(&o, m->demoted_at[i], 4);
		serial_put(&o, m->touched_again[i], 4);
	}
	for (uint32_t s = 0; s < m->sequences; s++)
		serial_put(&o, m->tokens[s], 4);
	serial_put(&o, m->slot_cap, 4);
	serial_put(&o, m->slot_count, 4);
	for (uint32_t s = 0; s < m->slot_count; s++)
		put_page(&o, &m->pages[s]);
	serial_put(&o, m->free_count, 4);
	for (uint32_t i = 0; i < m->free_count; i++)
		serial_put(&o, m->free_slots[i], 4);
	for (int l = MEMORY_LIST_COLD; l <= MEMORY_LIST_PINNED; l++) {
		serial_put(&o, m->lists[l].count, 4);
		for (uint32_t s = m->lists[l].head; s != MEMORY_END; s = m->pages[s].next)
			serial_put(&o, s, 4);
	}
	serial_put(&o, m->encode_count, 4);
	for (uint32_t i = 0; i < m->encode_count; i++)
		serial_put(&o, m->encodes[i], 4);
	serial_put(&o, m->arrival_count, 4);
	for (uint32_t i = 0; i < m->arrival_count; i++) {
		const struct memory_arrival *a = &m->arrivals[(m->arrival_head + i) % m->arrival_cap];
		serial_put(&o, a->slot, 4);
		serial_put(&o, a->step, 8);
	}
	bool fits = o.at && o.used < o.size;
	o.used += m->residency->save(m->residency_state, fits ? o.at + o.used : NULL, fits ? o.size - o.used : 0);
	return o.used;
}

static int bad(struct ikv_err *err, const char *what)
{
	return ikv_err_set(err, IKV_BAD_INPUT, "saved memory state: %s", what);
}

static void get_page(struct serial_in *in, struct memory_page *p, uint8_t *list)
{
	p->unit = (uint32_t)serial_get(in, 4);
	p->page = (uint32_t)serial_get(in, 4);
	p->accesses = serial_get_real(in);
	p->last_step = serial_get(in, 8);
	p->cold_since = serial_get(in, 8);
	p->demoted_step = serial_get(in, 8);
	p->hint_step = serial_get(in, 8);
	p->uses = (uint32_t)serial_get(in, 4);
	p->lower = (uint32_t)serial_get(in, 4);
	p->format = (uint8_t)serial_get(in, 1);
	p->tier = (uint8_t)serial_get(in, 1);
	p->policy = (uint8_t)serial_get(in, 1);
	p->hint = (uint8_t)serial_get(in, 1);
	unsigned flags = (unsigned)serial_get(in, 2);
	p->open = flags & 1;
	p->pinned = flags & 2;
	p->demoted = flags & 4;
	p->watched = flags & 8;
	p->encode = flags & 16;
	p->prev = p->next = MEMORY_END;
	*list = (uint8_t)serial_get(in, 4);
}

/* A used page: its place among its unit's pages is free and its values make sense. */
static int adopt(struct ikv_memory *m, uint32_t slot, struct ikv_err *err)
{
	const struct memory_page *p = &m->pages[slot];
	if (p->unit >= m->sequences * m->groups)
		return bad(err, "a page of an unknown sequence");
	uint32_t tokens = m->tokens[p->unit / m->groups];
	struct memory_unit *u = &m->units[p->unit];
	if (p->page >= ikv_pages(tokens, m->page_tokens) || p->format == IKV_FMT_SKIP || p->format >= IKV_FMT_COUNT ||
	    p->tier >= m->tier_count || p->policy >= IKV_POLICY_COUNT || p->hint > MEMORY_HINT_ARRIVED ||
	    p->last_step > m->step || p->cold_since > m->step || p->demoted_step > m->step ||
	    p->hint_step > m->step || !(p->accesses >= 0) || p->open != (p->page == tokens / m->page_tokens) ||
	    (p->open && (p->tier || p->format != IKV_FMT_FP16)))
		return bad(err, "a page with impossible values");
	if (u->slots[p->page] != MEMORY_END)
		return bad(err, "the same page twice");
	u->slots[p->page] = slot;
	u->count++;
	memory_count(m, p, 1);
	return 0;
}

static int load_pages(struct ikv_memory *m, struct serial_in *in, struct ikv_err *err)
{
	uint32_t cap = (uint32_t)serial_get(in, 4), count = serial_get_count(in, PAGE_BYTES - 4);
	if (in->bad || count > cap || cap / 2 > (count > 64 ? count : 64))
		return bad(err, "cut short");
	if (count && memory_slots_reserve(m, cap, err))
		return -1;
	m->slot_count = count;
	for (uint32_t s = 0; s < count; s++)
		get_page(in, &m->pages[s], &m->pages[s].list);
	uint64_t used = 0, expected = 0;
	for (uint32_t u = 0; u < m->sequences * m->groups; u++) {
		uint32_t pages = ikv_pages(m->tokens[u / m->groups], m->page_tokens);
		expected += pages;
		if (pages > count)
			return bad(err, "fewer pages than tokens need");
		m->units[u].slots = ikv_alloc(pages, sizeof(uint32_t), err);
		if (!m->units[u].slots)
			return -1;
		memset(m->units[u].slots, 0xff, pages * sizeof(uint32_t));
		m->units[u].cap = pages;
	}
	for (uint32_t s = 0; s < count; s++) {
		m->pages[s].list = MEMORY_LIST_NONE;
		if (m->pages[s].unit == MEMORY_END)
			continue;
		if (adopt(m, s, err))
			return -1;
		used++;
	}
	return used == expected ? 0 : bad(err, "fewer pages than tokens need");
}

static int load_lists(struct ikv_memory *m, struct serial_in *in, struct ikv_err *err)
{
	m->free_count = serial_get_count(in, 4);
	if (m->free_count > m->slot_count)
		return bad(err, "too many free slots");
	uint32_t used = 0;
	for (uint32_t i = 0; i < m->free_count; i++) {
		uint32_t s = (uint32_t)serial_get(in, 4);
		/* `list` marks free slots while they are read. */
		if (s >= m->slot_count || m->pages[s].unit != MEMORY_END || m->pages[s].list)
			return bad(err, "a free slot that is not free");
		m->pages[s].list = MEMORY_LIST_COLD;
		m->free_slots[i] = s;
	}
	for (uint32_t s = 0; s < m->slot_count; s++) {
		used += m->pages[s].unit != MEMORY_END;
		m->pages[s].list = MEMORY_LIST_NONE;
	}
	if (used + m->free_count != m->slot_count)
		return bad(err, "a lost slot");
	for (int l = MEMORY_LIST_COLD; l <= MEMORY_LIST_PINNED; l++) {
		uint32_t count = serial_get_count(in, 4);
		for (uint32_t i = 0; i < count; i++) {
			uint32_t s = (uint32_t)serial_get(in, 4);
			if (s >= m->slot_count || m->pages[s].unit == MEMORY_END || m->pages[s].list)
				return bad(err, "a page listed wrongly");
			if (memory_list_of(m, &m->pages[s]) != (enum memory_list)l)
				return bad(err, "a page in the wrong list");
			memory_list_push(m, s, (enum memory_list)l);
		}
	}
	for (uint32_t s = 0; s < m->slot_count; s++)
		if (m->pages[s].unit != MEMORY_END && memory_list_of(m, &m->pages[s]) != m->pages[s].list)
			return bad(err, "a page missing from its list");
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
	n = serial_get_count(in, 12);
	m->arrivals = ikv_alloc(n ? n : 1, sizeof *m->arrivals, err);
	if (!m->arrivals)
		return -1;
	m->arrival_count = n;
	m->arrival_cap = n ? n : 1;
	for (uint32_t i = 0; i < n; i++) {
		m->arrivals[i].slot = (uint32_t)serial_get(in, 4);
		m->arrivals[i].step = serial_get(in, 8);
		if (m->arrivals[i].slot >= m->slot_count || m->arrivals[i].step > m->step)
			return bad(err, "an unknown page");
	}
	return 0;
}

struct census {
	const struct ikv_memory *m;
	uint32_t right, wrong;
};

static bool count_resident(void *ctx, uint32_t slot)
{
	struct census *c = ctx;
	const struct memory_page *p = &c->m->pages[slot];
	bool ok = slot < c->m->slot_count && p->unit != MEMORY_END && p->tier == 0 && !p->open && !p->pinned;
	*(ok ? &c->right : &c->wrong) += 1;
	return false;
}

/* The residency policy must know exactly the closed, unpinned pages of the fast tier. */
static int check_resident(const struct ikv_memory *m, struct ikv_err *err)
{
	struct census c = {m, 0, 0};
	uint32_t expected = 0;
	for (uint32_t s = 0; s < m->slot_count; s++) {
		const struct memory_page *p = &m->pages[s];
		expected += p->unit != MEMORY_END && p->tier == 0 && !p->open && !p->pinned;
	}
	m->residency->victim(m->residency_state, count_resident, &c);
	return c.wrong || c.right != expected ? bad(err, "the residency policy knows other pages") : 0;
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
	m->reopened = (uint32_t)serial_get(in, 4);
	m->reopened_bytes = serial_get(in, 8);
	for (int i = 0; i < MEMORY_WINDOW; i++) {
		m->demoted_at[i] = (uint32_t)serial_get(in, 4);
		m->touched_again[i] = (uint32_t)serial_get(in, 4);
	}
	for (uint32_t s = 0; s < m->sequences; s++)
		m->tokens[s] = (uint32_t)serial_get(in, 4);
	if (load_pages(m, in, err) || load_lists(m, in, err) || load_queues(m, in, err))
		return -1;
	if (in->bad)
		return bad(err, "cut short");
	if (m->residency->load(m->residency_state, in->at + in->used, in->size - in->used, err))
		return -1;
	return check_resident(m, err);
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
