/* One step of the memory manager: all sequences that step together, their selected pages first. */
#include <string.h>
#include "memory_state.h"

static int check_uses(const struct ikv_memory *m, uint64_t step, const struct ikv_memory_use *uses, uint32_t count,
		      struct ikv_err *err)
{
	if (step < m->step)
		return ikv_err_set(err, IKV_FAILED, "memory: step %llu after step %llu", (unsigned long long)step,
				   (unsigned long long)m->step);
	for (uint32_t i = 0; i < count; i++) {
		const struct ikv_memory_use *use = &uses[i];
		if (use->seq >= m->sequence_count || use->group >= m->groups)
			return ikv_err_set(err, IKV_FAILED, "memory: no sequence %u, group %u (have %u, %u)",
					   use->seq, use->group, m->sequence_count, m->groups);
		if (m->sequences[use->seq].step >= MEMORY_NEVER - 1)
			return ikv_err_set(err, IKV_FAILED, "memory: sequence %u has taken part in %u steps",
					   use->seq, MEMORY_NEVER - 1);
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

/* There, and as it should be: to read it nothing has to be decided. */
static bool in_place(const struct memory_page *p, const struct ikv_page_ref *ref)
{
	return p->tier == 0 && p->format == ref->request && p->hint == MEMORY_HINT_NONE;
}

#define MARK_AHEAD 24 /* pages on: what is fetched meanwhile */

/* Selected pages are known before anything moves. */
static void mark(struct ikv_memory *m, const struct ikv_memory_use *use)
{
	struct memory_unit *u = &m->units[use->seq * m->groups + use->group];
	struct memory_sequence *s = &m->sequences[use->seq];
	struct ikv_page_ref *refs = use->plan->pages;
	uint32_t plain = 0, pinned = m->slot_cap; /* both ends of the batch */
	bool steady = u->tally == &use->tally;
	uint64_t bytes = 0;
	for (uint32_t k = 0, n = use->plan->count; k < n; k++) {
		uint32_t page = refs[k].page, slot = u->slots[page];
		struct memory_page *p = &m->pages[slot];
		const struct memory_page *ahead = &m->pages[u->slots[refs[k + MARK_AHEAD < n ? k + MARK_AHEAD : k].page]];
		__builtin_prefetch(ahead, 1);
		__builtin_prefetch((const char *)(ahead + 1) - 1, 1);
		if (in_place(p, &refs[k])) {
			p->lower = 0;
			refs[k].stored = p->format;
			bytes += memory_bytes(m, p);
		} else {
			steady = false;
		}
		if (p->kept == m->epoch)
			continue;
		p->kept = m->epoch;
		p->accesses = memory_decayed(m, p, s->step) + 1;
		p->last_step = s->step;
		p->uses++;
		if (p->watched)
			memory_tune_touched(m, s, p);
		if (u->cold_since[page] != MEMORY_NEVER)
			u->cold_since[page] = s->step;
		if (p->tier == 0 && !p->open)
			m->batch[p->pinned ? --pinned : plain++] = slot;
	}
	u->steady = steady;
	u->steady_bytes = bytes;
	m->residency->touch(m->resident[MEMORY_PLAIN], m->batch, plain, m->step);
	for (uint32_t i = pinned, j = m->slot_cap; i + 1 < j; i++) { /* filled from the end: back into order */
		uint32_t slot = m->batch[--j];
		m->batch[j] = m->batch[i];
		m->batch[i] = slot;
	}
	m->residency->touch(m->resident[MEMORY_PINNED], m->batch + pinned, m->slot_cap - pinned, m->step);
}

/* A page that is missed is told apart by whether it was predicted; selected pages no longer leave the fast tier. */
static void mark_predicted(struct ikv_memory *m, const struct ikv_memory_use *use)
{
	const struct memory_unit *u = &m->units[use->seq * m->groups + use->group];
	for (uint32_t k = 0; k < use->prefetch_count && u->below; k++)
		if (use->prefetch[k] < u->count)
			m->pages[u->slots[use->prefetch[k]]].predicted = m->epoch;
}

/* The number of this call. Stamps of 2^32 calls ago must not pass for its own. */
static void next_epoch(struct ikv_memory *m)
{
	if (++m->epoch)
		return;
	for (uint32_t s = 0; s < m->slot_count; s++)
		m->pages[s].kept = m->pages[s].predicted = 0;
	for (uint32_t u = 0; u < m->sequence_count * m->groups; u++)
		m->units[u].epoch = 0;
	for (uint32_t s = 0; s < m->sequence_count; s++)
		m->sequences[s].epoch = 0;
	m->epoch = 1;
}

/* Who takes part, and whose tally pays for a unit's pages. */
static void enter(struct ikv_memory *m, struct ikv_memory_use *use)
{
	struct memory_sequence *s = &m->sequences[use->seq];
	struct memory_unit *u = &m->units[use->seq * m->groups + use->group];
	memset(&use->tally, 0, sizeof use->tally);
	if (s->epoch != m->epoch) {
		s->epoch = m->epoch;
		m->taking[m->taking_count++] = use->seq;
		memory_tune_advance(s);
	}
	if (u->epoch != m->epoch) {
		u->epoch = m->epoch;
		u->tally = &use->tally;
	}
	use->tally.moves[IKV_MOVE_REFETCH] = u->reopened;
	use->tally.moved_bytes[IKV_MOVE_REFETCH] = u->reopened * m->page_bytes[IKV_FMT_FP16];
	u->reopened = 0;
}

/* First encodings of the sequences that take part; those of the others wait for theirs. */
static int tell_encodes(struct ikv_memory *m, struct ikv_err *err)
{
	uint32_t waiting = 0;
	for (uint32_t i = 0; i < m->encode_count; i++) {
		struct memory_page *p = &m->pages[m->encodes[i]];
		if (!p->encode)
			continue; /* cut off or opened again meanwhile */
		if (memory_sequence(m, p)->epoch != m->epoch) {
			m->encodes[waiting++] = m->encodes[i];
			continue;
		}
		p->encode = false;
		memory_charge(m, p->unit);
		if (memory_act_on(m, m->encodes[i], IKV_MOVE_ENCODE, (enum ikv_format)p->format, p->tier,
				  memory_bytes(m, p), err))
			return -1;
	}
	m->encode_count = waiting;
	return 0;
}

static int begin(struct ikv_memory *m, uint64_t step, struct ikv_memory_use *uses, uint32_t count,
		 struct ikv_err *err)
{
	memset(&m->rest, 0, sizeof m->rest);
	m->tally = &m->rest;
	m->action_count = m->taking_count = 0;
	m->dry[MEMORY_PLAIN] = m->dry[MEMORY_PINNED] = false;
	m->adapt_count += step != m->step;
	m->step = step;
	next_epoch(m);
	for (uint32_t i = 0; i < count; i++)
		enter(m, &uses[i]);
	if (tell_encodes(m, err))
		return -1;
	for (uint32_t i = 0; i < count; i++)
		mark(m, &uses[i]);
	return 0;
}

static int read_plan(struct ikv_memory *m, struct ikv_memory_use *use, struct ikv_err *err)
{
	const struct memory_unit *u = &m->units[use->seq * m->groups + use->group];
	uint64_t hits = 0, bytes = 0;
	m->tally = &use->tally;
	if (u->steady) {
		if (use->missed)
			memset(use->missed, 0, use->plan->count);
		use->tally.hits += use->plan->count;
		use->tally.read_bytes += u->steady_bytes;
		return 0;
	}
	for (uint32_t k = 0; k < use->plan->count; k++) {
		struct ikv_page_ref *ref = &use->plan->pages[k];
		struct memory_page *p = &m->pages[u->slots[ref->page]];
		if (use->missed)
			use->missed[k] = p->tier != 0;
		if (in_place(p, ref)) {
			p->lower = 0;
			ref->stored = p->format;
			hits++;
			bytes += memory_bytes(m, p);
		} else if (memory_read_page(m, u->slots[ref->page], ref, use->pressure, err)) {
			return -1;
		}
	}
	use->tally.hits += hits;
	use->tally.read_bytes += bytes;
	return 0;
}

void ikv_memory_tally_add(struct ikv_memory_tally *to, const struct ikv_memory_tally *from)
{
	to->hits += from->hits;
	to->misses += from->misses;
	for (int k = 0; k < IKV_MOVE_COUNT; k++) {
		to->moved_bytes[k] += from->moved_bytes[k];
		to->moves[k] += from->moves[k];
	}
	to->streamed_bytes += from->streamed_bytes;
	to->prefetch_useful += from->prefetch_useful;
	to->prefetch_late += from->prefetch_late;
	to->prefetch_wasted += from->prefetch_wasted;
	to->prefetch_missed += from->prefetch_missed;
	to->read_bytes += from->read_bytes;
}

static void report(const struct ikv_memory *m, const struct ikv_memory_use *uses, uint32_t count,
		   struct ikv_memory_step *out)
{
	memset(out, 0, sizeof *out);
	out->rest = out->total = m->rest;
	for (uint32_t i = 0; i < count; i++)
		ikv_memory_tally_add(&out->total, &uses[i].tally);
	out->actions = m->actions;
	out->action_count = m->action_count;
	memcpy(out->tier_bytes, m->tier_bytes, sizeof out->tier_bytes);
	memcpy(out->tier_pages, m->tier_pages, sizeof out->tier_pages);
	memcpy(out->format_pages, m->format_pages, sizeof out->format_pages);
	out->occupancy = ikv_memory_occupancy(m);
	out->demote_after = m->demote_after;
	out->promote_after = m->promote_after;
}

int ikv_memory_act(struct ikv_memory *m, uint64_t step, struct ikv_memory_use *uses, uint32_t count,
		   struct ikv_memory_step *out, struct ikv_err *err)
{
	if (check_uses(m, step, uses, count, err) || begin(m, step, uses, count, err) || memory_demote_cold(m, err) ||
	    memory_shrink(m, uses, count, err))
		return -1;
	for (uint32_t i = 0; i < count; i++)
		mark_predicted(m, &uses[i]);
	for (uint32_t i = 0; i < count; i++)
		if (read_plan(m, &uses[i], err))
			return -1;
	for (uint32_t i = 0; i < m->taking_count; i++)
		memory_settle_arrivals(m, &m->sequences[m->taking[i]]);
	for (uint32_t i = 0; i < count; i++) {
		m->tally = &uses[i].tally;
		if (memory_prefetch(m, &uses[i], err))
			return -1;
	}
	if (m->config.demote && m->config.adapt_every && m->adapt_count >= m->config.adapt_every) {
		m->adapt_count = 0;
		memory_tune(m);
	}
	report(m, uses, count, out);
	return 0;
}
