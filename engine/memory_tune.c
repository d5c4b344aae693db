/* One step of the memory manager, and the self-tuning of its two thresholds. */
#include <string.h>
#include "memory_state.h"

static uint64_t window(const struct ikv_memory *m)
{
	uint64_t n = 2 * (uint64_t)m->demote_after;
	return n < MEMORY_WINDOW ? n : MEMORY_WINDOW - 1;
}

void memory_tune_advance(struct ikv_memory *m, uint64_t step)
{
	uint64_t n = step - m->step;
	for (uint64_t i = 0; i < n && i < MEMORY_WINDOW; i++) {
		m->demoted_at[(step - i) % MEMORY_WINDOW] = 0;
		m->touched_again[(step - i) % MEMORY_WINDOW] = 0;
	}
	m->step = step;
}

void memory_tune_demoted(struct ikv_memory *m, struct memory_page *p)
{
	p->watched = true;
	p->demoted_step = m->step;
	m->demoted_at[m->step % MEMORY_WINDOW]++;
}

/* Re-accessed means: read again within twice the threshold of its demotion. */
void memory_tune_touched(struct ikv_memory *m, struct memory_page *p)
{
	if (p->watched && m->step - p->demoted_step <= window(m))
		m->touched_again[p->demoted_step % MEMORY_WINDOW]++;
	p->watched = false;
}

/* Pages that could be demoted from FP16 and were not read since the last tuning, as a share. */
static bool mostly_cold(const struct ikv_memory *m)
{
	uint64_t warm = 0, since = m->step < (uint64_t)m->config.adapt_every ? 0 : m->step - m->config.adapt_every;
	uint64_t total = m->format_pages[IKV_FMT_FP16];
	for (uint32_t s = m->lists[MEMORY_LIST_COLD].tail; s != MEMORY_END; s = m->pages[s].prev) {
		if (m->pages[s].cold_since < since)
			break;
		warm += m->pages[s].format == IKV_FMT_FP16;
		if (2 * warm >= total)
			return false;
	}
	uint64_t exempt = m->lists[MEMORY_LIST_PINNED].count; /* pinned and open pages are not candidates */
	return total > exempt && 2 * warm < total - exempt && total - exempt > 1;
}

void memory_tune(struct ikv_memory *m)
{
	uint64_t demoted = 0, again = 0, n = window(m);
	for (uint64_t i = 0; i <= n && i <= m->step; i++) {
		demoted += m->demoted_at[(m->step - i) % MEMORY_WINDOW];
		again += m->touched_again[(m->step - i) % MEMORY_WINDOW];
	}
	if (demoted && (double)again > 0.30 * (double)demoted) {
		m->demote_after += m->demote_after < MEMORY_COLD_MAX;
		m->promote_after -= m->promote_after > MEMORY_HOT_MIN;
	} else if (mostly_cold(m)) {
		m->demote_after -= m->demote_after > MEMORY_COLD_MIN;
		m->promote_after += m->promote_after < MEMORY_HOT_MAX;
	}
}

static int check_uses(const struct ikv_memory *m, uint64_t step, const struct ikv_memory_use *uses, uint32_t count,
		      struct ikv_err *err)
{
	if (step < m->step)
		return ikv_err_set(err, IKV_FAILED, "memory: step %llu after step %llu", (unsigned long long)step,
				   (unsigned long long)m->step);
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_memory_use *use = &uses[i];
		if (use->seq >= m->sequences || use->group >= m->groups)
			return ikv_err_set(err, IKV_FAILED, "memory: no sequence %u, group %u (have %u, %u)",
					   use->seq, use->group, m->sequences, m->groups);
		uint32_t pages = m->units[use->seq * m->groups + use->group].count;
		for (uint32_t k = 0; k < use->plan->count; k++) {
			uint32_t page = use->plan->pages[k].page;
			if (page >= pages || (k && page <= use->plan->pages[k - 1].page))
				return ikv_err_set(err, IKV_FAILED,
						   "memory: plan entry %u of sequence %u is page %u: %s", k, use->seq,
						   page, page >= pages ? "no such page" : "not ascending");
		}
	}
	return 0;
}

static void touch(struct ikv_memory *m, uint32_t slot)
{
	struct memory_page *p = &m->pages[slot];
	if (p->selected == m->epoch)
		return;
	p->selected = m->epoch;
	p->accesses = memory_decayed(m, p, m->step) + 1;
	p->last_step = p->cold_since = m->step;
	p->uses++;
	memory_tune_touched(m, p);
	if (p->list != MEMORY_LIST_NONE && m->lists[p->list].tail != slot) {
		enum memory_list list = (enum memory_list)p->list;
		memory_list_remove(m, slot);
		memory_list_push(m, slot, list);
	}
	if (p->tier == 0 && !p->open && !p->pinned)
		m->residency->touch(m->residency_state, slot, m->step);
}

/* Selected and predicted pages are known before anything moves. */
static void mark(struct ikv_memory *m, const struct ikv_memory_use *use)
{
	const struct memory_unit *u = &m->units[use->seq * m->groups + use->group];
	for (uint32_t k = 0; k < use->plan->count; k++)
		touch(m, u->slots[use->plan->pages[k].page]);
	for (uint32_t k = 0; k < use->prefetch_count; k++)
		if (use->prefetch[k] < u->count)
			m->pages[u->slots[use->prefetch[k]]].predicted = m->epoch;
}

static int begin(struct ikv_memory *m, uint64_t step, struct ikv_memory_step *out, struct ikv_err *err)
{
	memset(out, 0, sizeof *out);
	m->out = out;
	m->action_count = 0;
	m->dry_unpinned = m->dry_pinned = false;
	m->epoch++;
	m->adapt_count += step != m->step;
	memory_tune_advance(m, step);
	out->moves[IKV_MOVE_REFETCH] = m->reopened;
	out->moved_bytes[IKV_MOVE_REFETCH] = m->reopened_bytes;
	m->reopened = 0;
	m->reopened_bytes = 0;
	for (uint32_t i = 0; i < m->encode_count; i++) {
		struct memory_page *p = &m->pages[m->encodes[i]];
		if (!p->encode)
			continue; /* cut off or opened again meanwhile */
		p->encode = false;
		if (memory_act_on(m, m->encodes[i], IKV_MOVE_ENCODE, (enum ikv_format)p->format, p->tier,
				  memory_bytes(m, p), err))
			return -1;
	}
	m->encode_count = 0;
	return 0;
}

int ikv_memory_act(struct ikv_memory *m, uint64_t step, struct ikv_memory_use *uses, uint32_t count,
		   struct ikv_memory_step *out, struct ikv_err *err)
{
	if (check_uses(m, step, uses, count, err) || begin(m, step, out, err))
		return -1;
	for (uint32_t i = 0; i < count; i++)
		mark(m, &uses[i]);
	if (memory_demote_cold(m, err) || memory_shrink(m, err))
		return -1;
	for (uint32_t i = 0; i < count; i++) {
		const struct memory_unit *u = &m->units[uses[i].seq * m->groups + uses[i].group];
		for (uint32_t k = 0; k < uses[i].plan->count; k++) {
			struct ikv_page_ref *ref = &uses[i].plan->pages[k];
			if (memory_read_page(m, u->slots[ref->page], ref, uses[i].pressure, err))
				return -1;
		}
	}
	memory_settle_arrivals(m);
	for (uint32_t i = 0; i < count; i++)
		if (memory_prefetch(m, &uses[i], err))
			return -1;
	if (m->config.demote && m->config.adapt_every && m->adapt_count >= m->config.adapt_every) {
		m->adapt_count = 0;
		memory_tune(m);
	}
	out->actions = m->actions;
	out->action_count = m->action_count;
	memcpy(out->tier_bytes, m->tier_bytes, sizeof out->tier_bytes);
	memcpy(out->tier_pages, m->tier_pages, sizeof out->tier_pages);
	memcpy(out->format_pages, m->format_pages, sizeof out->format_pages);
	out->occupancy = ikv_memory_occupancy(m);
	out->demote_after = m->demote_after;
	out->promote_after = m->promote_after;
	m->out = NULL;
	return 0;
}
