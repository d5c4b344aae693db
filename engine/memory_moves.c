/* What happens to single pages: tier moves, re-encoding, prefetch, cold demotion. */
#include "intentkv/alloc.h"
#include "memory_state.h"

int memory_act_on(struct ikv_memory *m, uint32_t slot, enum ikv_move move, enum ikv_format format, uint32_t tier,
		  uint64_t bytes, struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	if (m->action_count == m->action_cap) {
		if (ikv_grow(&m->actions, m->action_count, (size_t)m->action_cap * 2, sizeof *m->actions, err))
			return -1;
		m->action_cap *= 2;
	}
	m->actions[m->action_count++] = (struct ikv_action){
	    .seq = p->unit / m->groups,
	    .group = p->unit % m->groups,
	    .page = p->page,
	    .move = (uint8_t)move,
	    .from_format = move == IKV_MOVE_ENCODE ? IKV_FMT_FP16 : p->format,
	    .to_format = (uint8_t)format,
	    .from_tier = p->tier,
	    .to_tier = (uint8_t)tier,
	    .bytes = bytes,
	};
	m->out->moves[move]++;
	m->out->moved_bytes[move] += bytes;
	memory_count(m, p, -1);
	bool arrives = p->tier != 0 && tier == 0, leaves = p->tier == 0 && tier != 0;
	if (p->format != format)
		p->uses = p->lower = 0;
	p->format = (uint8_t)format;
	p->tier = (uint8_t)tier;
	memory_count(m, p, 1);
	if (leaves && !p->pinned)
		m->residency->remove(m->residency_state, slot);
	if (arrives && !p->pinned)
		m->residency->insert(m->residency_state, slot, memory_bytes(m, p), m->step);
	return 0;
}

static bool may_unselected(void *ctx, uint32_t slot)
{
	const struct ikv_memory *m = ctx;
	const struct memory_page *p = &m->pages[slot];
	/* What was brought ahead in this very step stays for the next. */
	return p->selected != m->epoch && !(p->hint == MEMORY_HINT_ARRIVED && p->hint_step == m->step);
}

static bool may_any(void *ctx, uint32_t slot)
{
	(void)ctx, (void)slot;
	return true;
}

static uint32_t pinned_victim(const struct ikv_memory *m)
{
	for (uint32_t s = m->lists[MEMORY_LIST_PINNED].head; s != MEMORY_END; s = m->pages[s].next)
		if (m->pages[s].selected != m->epoch)
			return s;
	return MEMORY_END;
}

/* Move a page out of the fast tier into the first slower one that has room. */
static int evict(struct ikv_memory *m, uint32_t slot, struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	uint64_t bytes = memory_bytes(m, p);
	uint32_t last = m->tier_count - 1;
	for (uint32_t t = 1; t < m->tier_count; t++) {
		uint64_t capacity = (uint64_t)m->tiers[t].capacity_bytes;
		if (capacity && (m->tier_bytes[t] > capacity || bytes > capacity - m->tier_bytes[t]))
			continue;
		if (memory_act_on(m, slot, IKV_MOVE_EVICT, (enum ikv_format)p->format, t, bytes, err))
			return -1;
		if (p->list == MEMORY_LIST_PINNED)
			memory_relist(m, slot);
		return 0;
	}
	return ikv_err_set(err, IKV_FAILED,
			   "memory tier %.15s is full: %llu bytes in use and %llu more needed, capacity %lld",
			   m->tiers[last].name, (unsigned long long)m->tier_bytes[last], (unsigned long long)bytes,
			   (long long)m->tiers[last].capacity_bytes);
}

/* The next page to give up, or MEMORY_END. The dry flags hold because a call only adds selected pages. */
static uint32_t victim(struct ikv_memory *m, bool pinned)
{
	uint32_t slot = MEMORY_END;
	if (!m->dry_unpinned)
		slot = m->residency->victim(m->residency_state, may_unselected, m);
	m->dry_unpinned = slot == MEMORY_END;
	if (slot == MEMORY_END && pinned && !m->dry_pinned) {
		slot = pinned_victim(m);
		m->dry_pinned = slot == MEMORY_END;
	}
	return slot;
}

int memory_room(struct ikv_memory *m, uint64_t bytes, bool pinned, struct ikv_err *err)
{
	uint64_t capacity = (uint64_t)m->tiers[0].capacity_bytes;
	if (!capacity)
		return 1;
	if (bytes > capacity)
		return 0;
	while (m->tier_bytes[0] > capacity - bytes) {
		uint32_t slot = victim(m, pinned);
		if (slot == MEMORY_END)
			return 0;
		if (evict(m, slot, err))
			return -1;
	}
	return 1;
}

int memory_shrink(struct ikv_memory *m, struct ikv_err *err)
{
	int room = memory_room(m, 0, true, err);
	if (room)
		return room < 0 ? -1 : 0;
	/* The step's own set exceeds the tier: what does not fit is read through from below. */
	while (m->tier_bytes[0] > (uint64_t)m->tiers[0].capacity_bytes) {
		uint32_t slot = m->residency->victim(m->residency_state, may_any, m);
		if (slot == MEMORY_END)
			slot = m->lists[MEMORY_LIST_PINNED].head;
		if (slot == MEMORY_END)
			break; /* open pages alone: they stay */
		if (evict(m, slot, err))
			return -1;
	}
	return 0;
}

/* Re-encode for a lower request, if that is allowed and has been asked for often enough. */
static int lower_request(struct ikv_memory *m, uint32_t slot, unsigned request, double pressure, struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	unsigned floor = m->config.floor == IKV_FMT_SKIP ? IKV_FMT_INT4 : (unsigned)m->config.floor;
	if (!m->config.demote || p->pinned || !(pressure > m->config.recode_pressure)) {
		p->lower = 0;
		return 0;
	}
	if (memory_precision(request) < memory_precision(floor))
		request = floor;
	if (memory_precision(request) >= memory_precision(p->format) || m->page_bytes[request] > memory_bytes(m, p))
		return 0;
	if (++p->lower < m->config.recode_after_uses)
		return 0;
	if (memory_act_on(m, slot, IKV_MOVE_DEMOTE, (enum ikv_format)request, p->tier, m->page_bytes[request], err))
		return -1;
	memory_relist(m, slot);
	p->demoted = true;
	return 0;
}

/* The page gets its higher requested format, if there is room. */
static int promote(struct ikv_memory *m, uint32_t slot, unsigned request, struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	bool lossy = m->config.promotion == IKV_PROMOTE_LOSSY;
	uint64_t now = p->tier == 0 ? memory_bytes(m, p) : 0, then = m->page_bytes[request];
	int room = memory_room(m, then > now ? then - now : 0, true, err);
	if (room <= 0)
		return room;
	/* An exact copy is FP16 wherever it comes from; it is encoded on arrival. */
	if (memory_act_on(m, slot, lossy ? IKV_MOVE_PROMOTE : IKV_MOVE_REFETCH, (enum ikv_format)request, 0,
			  lossy ? then : m->page_bytes[IKV_FMT_FP16], err))
		return -1;
	p->demoted = false;
	memory_relist(m, slot);
	return 0;
}

/* A selected page that is not in the fast tier: fetch it, or read it through. */
static int fetch(struct ikv_memory *m, uint32_t slot, bool refetch, unsigned request, struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	m->out->misses++;
	bool wanted = p->hint != MEMORY_HINT_NONE && m->step - p->hint_step <= MEMORY_WASTED_AFTER;
	if (p->predicted == m->epoch || wanted)
		m->out->prefetch_late++;
	else
		m->out->prefetch_missed++;
	p->hint = MEMORY_HINT_NONE;
	if (refetch) {
		if (promote(m, slot, request, err))
			return -1;
		if (p->tier == 0)
			return 0;
	}
	int room = memory_room(m, memory_bytes(m, p), true, err);
	if (room < 0)
		return -1;
	if (!room) {
		m->out->streamed_bytes += memory_bytes(m, p);
		return 0;
	}
	if (memory_act_on(m, slot, IKV_MOVE_FETCH, (enum ikv_format)p->format, 0, memory_bytes(m, p), err))
		return -1;
	if (p->pinned)
		memory_relist(m, slot);
	return 0;
}

int memory_read_page(struct ikv_memory *m, uint32_t slot, struct ikv_page_ref *ref, double pressure,
		     struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	unsigned request = ref->request;
	int want = request < IKV_FMT_COUNT ? memory_precision(request) : 0, have = memory_precision(p->format);
	if (want == 0)
		want = have; /* no request */
	bool hot = !p->open && want > have && (int64_t)p->uses > m->promote_after;
	if (p->tier == 0) {
		m->out->hits++;
		if (p->hint == MEMORY_HINT_ARRIVED)
			m->out->prefetch_useful++;
		p->hint = MEMORY_HINT_NONE;
	} else if (fetch(m, slot, hot && m->config.promotion == IKV_PROMOTE_REFETCH, request, err)) {
		return -1;
	}
	if (hot && p->tier == 0 && memory_precision(p->format) < want && promote(m, slot, request, err))
		return -1;
	if (want >= have)
		p->lower = 0;
	else if (!p->open && lower_request(m, slot, request, pressure, err))
		return -1;
	ref->stored = p->format;
	m->out->read_bytes += memory_bytes(m, p);
	return 0;
}

static int arrival_push(struct ikv_memory *m, uint32_t slot, struct ikv_err *err)
{
	if (m->arrival_count == m->arrival_cap) {
		uint32_t cap = m->arrival_cap ? m->arrival_cap * 2 : 64;
		struct memory_arrival *ring = ikv_alloc(cap, sizeof *ring, err);
		if (!ring)
			return -1;
		for (uint32_t i = 0; i < m->arrival_count; i++)
			ring[i] = m->arrivals[(m->arrival_head + i) % m->arrival_cap];
		ikv_free(m->arrivals);
		m->arrivals = ring;
		m->arrival_cap = cap;
		m->arrival_head = 0;
	}
	m->arrivals[(m->arrival_head + m->arrival_count++) % m->arrival_cap] = (struct memory_arrival){slot, m->step};
	return 0;
}

int memory_prefetch(struct ikv_memory *m, const struct ikv_memory_use *use, struct ikv_err *err)
{
	const struct memory_unit *u = &m->units[use->seq * m->groups + use->group];
	for (uint32_t i = 0; i < use->prefetch_count; i++) {
		if (use->prefetch[i] >= u->count)
			continue; /* predicted from before a roll-back */
		uint32_t slot = u->slots[use->prefetch[i]];
		struct memory_page *p = &m->pages[slot];
		if (p->tier == 0 || p->selected == m->epoch)
			continue;
		int room = memory_room(m, memory_bytes(m, p), false, err);
		if (room < 0)
			return -1;
		p->hint = room ? MEMORY_HINT_ARRIVED : MEMORY_HINT_WANTED;
		p->hint_step = m->step;
		if (!room)
			continue;
		if (arrival_push(m, slot, err) ||
		    memory_act_on(m, slot, IKV_MOVE_PREFETCH, (enum ikv_format)p->format, 0, memory_bytes(m, p), err))
			return -1;
		if (p->pinned)
			memory_relist(m, slot);
	}
	return 0;
}

void memory_settle_arrivals(struct ikv_memory *m)
{
	while (m->arrival_count) {
		struct memory_arrival a = m->arrivals[m->arrival_head];
		struct memory_page *p = &m->pages[a.slot];
		bool open = p->hint == MEMORY_HINT_ARRIVED && p->hint_step == a.step;
		if (open && m->step - a.step < MEMORY_WASTED_AFTER)
			break;
		if (open) {
			m->out->prefetch_wasted++;
			p->hint = MEMORY_HINT_NONE;
		}
		m->arrival_head = (m->arrival_head + 1) % m->arrival_cap;
		m->arrival_count--;
	}
}

int memory_demote_cold(struct ikv_memory *m, struct ikv_err *err)
{
	const struct memory_list_ends *cold = &m->lists[MEMORY_LIST_COLD];
	while (cold->head != MEMORY_END) {
		uint32_t slot = cold->head;
		struct memory_page *p = &m->pages[slot];
		if (m->step - p->cold_since < (uint64_t)m->demote_after)
			break;
		enum ikv_format to = (enum ikv_format)m->colder[p->format];
		if (memory_act_on(m, slot, IKV_MOVE_DEMOTE, to, p->tier, m->page_bytes[to], err))
			return -1;
		p->cold_since = m->step;
		p->demoted = true;
		memory_tune_demoted(m, p);
		memory_list_remove(m, slot);
		if (m->colder[to] != to)
			memory_list_push(m, slot, MEMORY_LIST_COLD);
	}
	return 0;
}
