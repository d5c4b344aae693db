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
	    .accesses = (float)memory_decayed(m, p, memory_sequence(m, p)->step),
	    .bytes = bytes,
	};
	m->units[p->unit].steady = false;
	m->tally->moves[move]++;
	m->tally->moved_bytes[move] += bytes;
	memory_count(m, p, -1);
	bool arrives = p->tier != 0 && tier == 0, leaves = p->tier == 0 && tier != 0;
	bool resized = p->format != format && p->tier == 0 && tier == 0 && !p->open && m->residency->resize;
	if (p->format != format)
		p->uses = p->lower = 0;
	p->format = (uint8_t)format;
	p->tier = (uint8_t)tier;
	memory_count(m, p, 1);
	if (leaves)
		m->residency->evict(memory_resident(m, p), slot);
	else if (resized)
		m->residency->resize(memory_resident(m, p), slot, memory_bytes(m, p));
	if (arrives)
		m->residency->insert(memory_resident(m, p), slot, memory_bytes(m, p), m->step);
	return 0;
}

void memory_charge(struct ikv_memory *m, uint32_t unit)
{
	m->tally = m->units[unit].epoch == m->epoch ? m->units[unit].tally : &m->rest;
}

static bool may_unkept(void *ctx, uint32_t slot)
{
	const struct ikv_memory *m = ctx;
	return m->pages[slot].kept != m->epoch;
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
		return memory_act_on(m, slot, IKV_MOVE_EVICT, (enum ikv_format)p->format, t, bytes, err);
	}
	return ikv_err_set(err, IKV_FAILED,
			   "memory tier %.15s is full: %llu bytes in use and %llu more needed, capacity %lld",
			   m->tiers[last].name, (unsigned long long)m->tier_bytes[last], (unsigned long long)bytes,
			   (long long)m->tiers[last].capacity_bytes);
}

/* The next page to give up, pinned ones only if `pinned`; MEMORY_END if there is none. The dry flags hold because
 * a call only adds kept pages. */
static uint32_t victim(struct ikv_memory *m, bool pinned)
{
	for (int k = MEMORY_PLAIN; k <= (pinned ? MEMORY_PINNED : MEMORY_PLAIN); k++) {
		if (m->dry[k])
			continue;
		uint32_t slot = m->residency->victim(m->resident[k], may_unkept, m);
		if (slot != MEMORY_END)
			return slot;
		m->dry[k] = true;
	}
	return MEMORY_END;
}

/* Free `bytes` of the fast tier at the cost of pages that are not kept. 1: done, 0: no such room, -1: error. */
static int make_room(struct ikv_memory *m, uint64_t bytes, bool pinned, struct ikv_err *err)
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

static struct memory_unit *unit_of(const struct ikv_memory *m, const struct ikv_memory_use *use)
{
	return &m->units[use->seq * m->groups + use->group];
}

int memory_shrink(struct ikv_memory *m, struct ikv_memory_use *uses, uint32_t count, struct ikv_err *err)
{
	uint32_t payer = 0;
	uint64_t capacity = (uint64_t)m->tiers[0].capacity_bytes;
	while (capacity && m->tier_bytes[0] > capacity) {
		uint32_t slot = victim(m, true);
		/* The step's own set exceeds the tier: what does not fit is read through from below. */
		for (int k = MEMORY_PLAIN; k < MEMORY_CLASSES && slot == MEMORY_END; k++)
			slot = m->residency->victim(m->resident[k], NULL, NULL);
		if (slot == MEMORY_END)
			break; /* open pages alone: they stay */
		while (payer < count && !unit_of(m, &uses[payer])->grown)
			payer++;
		if (payer < count) {
			uint64_t bytes = memory_bytes(m, &m->pages[slot]);
			struct memory_unit *u = unit_of(m, &uses[payer]);
			m->tally = &uses[payer].tally;
			u->grown -= u->grown < bytes ? u->grown : bytes;
		} else {
			memory_charge(m, m->pages[slot].unit);
		}
		if (evict(m, slot, err))
			return -1;
	}
	for (uint32_t i = 0; i < count; i++)
		unit_of(m, &uses[i])->grown = 0;
	return 0;
}

/* Re-encode for a lower request, if that is allowed and has been asked for often enough. */
static int lower_request(struct ikv_memory *m, uint32_t slot, unsigned request, double pressure, struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	unsigned floor = memory_lowest(m);
	if (!m->config.demote || p->pinned || !(pressure > m->config.recode_pressure)) {
		p->lower = 0;
		return 0;
	}
	if (memory_precision[request] < memory_precision[floor])
		request = floor;
	if (memory_precision[request] >= memory_precision[p->format] || m->page_bytes[request] > memory_bytes(m, p))
		return 0;
	if (++p->lower < m->config.recode_after_uses)
		return 0;
	if (memory_act_on(m, slot, IKV_MOVE_DEMOTE, (enum ikv_format)request, p->tier, m->page_bytes[request], err))
		return -1;
	memory_warm(m, p);
	p->demoted = true;
	return 0;
}

/* Room is about to be made for a page that is not in the fast tier. */
static void tell_miss(struct ikv_memory *m, uint32_t slot, uint64_t bytes)
{
	if (m->residency->miss)
		m->residency->miss(memory_resident(m, &m->pages[slot]), slot, bytes);
}

/* The page gets its higher requested format, if there is room. */
static int promote(struct ikv_memory *m, uint32_t slot, unsigned request, struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	bool lossy = m->config.promotion == IKV_PROMOTE_LOSSY;
	uint64_t now = p->tier == 0 ? memory_bytes(m, p) : 0, then = m->page_bytes[request];
	if (p->tier != 0)
		tell_miss(m, slot, then);
	int room = make_room(m, then > now ? then - now : 0, true, err);
	if (room <= 0)
		return room;
	/* An exact copy is FP16 wherever it comes from; it is encoded on arrival. */
	if (memory_act_on(m, slot, lossy ? IKV_MOVE_PROMOTE : IKV_MOVE_REFETCH, (enum ikv_format)request, 0,
			  lossy ? then : m->page_bytes[IKV_FMT_FP16], err))
		return -1;
	p->demoted = false;
	memory_warm(m, p);
	return 0;
}

/* A selected page that is not in the fast tier: fetch it, or read it through. */
static int fetch(struct ikv_memory *m, uint32_t slot, bool refetch, unsigned request, struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	m->tally->misses++;
	bool wanted =
	    p->hint != MEMORY_HINT_NONE && memory_sequence(m, p)->step - p->hint_step <= MEMORY_WASTED_AFTER;
	if (p->predicted == m->epoch || wanted)
		m->tally->prefetch_late++;
	else
		m->tally->prefetch_missed++;
	p->hint = MEMORY_HINT_NONE;
	if (refetch) {
		if (promote(m, slot, request, err))
			return -1;
		if (p->tier == 0)
			return 0;
	}
	tell_miss(m, slot, memory_bytes(m, p));
	int room = make_room(m, memory_bytes(m, p), true, err);
	if (room < 0)
		return -1;
	if (!room) {
		m->tally->streamed_bytes += memory_bytes(m, p);
		return 0;
	}
	return memory_act_on(m, slot, IKV_MOVE_FETCH, (enum ikv_format)p->format, 0, memory_bytes(m, p), err);
}

int memory_read_page(struct ikv_memory *m, uint32_t slot, struct ikv_page_ref *ref, double pressure,
		     struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	unsigned request = ref->request;
	int want = request < IKV_FMT_COUNT ? memory_precision[request] : 0, have = memory_precision[p->format];
	if (want == 0)
		want = have; /* no request */
	bool hot = !p->open && want > have && (int64_t)p->uses > m->promote_after;
	if (p->tier == 0) {
		m->tally->hits++;
		if (p->hint == MEMORY_HINT_ARRIVED)
			m->tally->prefetch_useful++;
		p->hint = MEMORY_HINT_NONE;
	} else if (fetch(m, slot, hot && m->config.promotion == IKV_PROMOTE_REFETCH, request, err)) {
		return -1;
	}
	if (hot && p->tier == 0 && memory_precision[p->format] < want && promote(m, slot, request, err))
		return -1;
	if (want >= have)
		p->lower = 0;
	else if (!p->open && lower_request(m, slot, request, pressure, err))
		return -1;
	ref->stored = p->format;
	m->tally->read_bytes += memory_bytes(m, p);
	return 0;
}

static int arrival_push(struct memory_sequence *s, uint32_t slot, struct ikv_err *err)
{
	if (s->arrival_count == s->arrival_cap) {
		uint32_t cap = s->arrival_cap ? s->arrival_cap * 2 : 64;
		struct memory_arrival *ring = ikv_alloc(cap, sizeof *ring, err);
		if (!ring)
			return -1;
		for (uint32_t i = 0; i < s->arrival_count; i++)
			ring[i] = s->arrivals[(s->arrival_head + i) % s->arrival_cap];
		ikv_free(s->arrivals);
		s->arrivals = ring;
		s->arrival_cap = cap;
		s->arrival_head = 0;
	}
	s->arrivals[(s->arrival_head + s->arrival_count++) % s->arrival_cap] = (struct memory_arrival){slot, s->step};
	return 0;
}

int memory_prefetch(struct ikv_memory *m, const struct ikv_memory_use *use, struct ikv_err *err)
{
	const struct memory_unit *u = &m->units[use->seq * m->groups + use->group];
	struct memory_sequence *s = &m->sequences[use->seq];
	for (uint32_t i = 0; i < use->prefetch_count && u->below; i++) {
		if (use->prefetch[i] >= u->count)
			continue; /* predicted from before a roll-back */
		uint32_t slot = u->slots[use->prefetch[i]];
		struct memory_page *p = &m->pages[slot];
		if (p->tier == 0 || p->kept == m->epoch)
			continue;
		tell_miss(m, slot, memory_bytes(m, p));
		int room = make_room(m, memory_bytes(m, p), false, err);
		if (room < 0)
			return -1;
		p->hint = room ? MEMORY_HINT_ARRIVED : MEMORY_HINT_WANTED;
		p->hint_step = s->step;
		if (!room)
			continue;
		p->kept = m->epoch; /* the next one brought ahead does not push it out again */
		if (arrival_push(s, slot, err) ||
		    memory_act_on(m, slot, IKV_MOVE_PREFETCH, (enum ikv_format)p->format, 0, memory_bytes(m, p), err))
			return -1;
	}
	return 0;
}

void memory_settle_arrivals(struct ikv_memory *m, struct memory_sequence *s)
{
	while (s->arrival_count) {
		struct memory_arrival a = s->arrivals[s->arrival_head];
		struct memory_page *p = &m->pages[a.slot];
		bool mine = p->unit != MEMORY_END && memory_sequence(m, p) == s;
		bool open = mine && p->hint == MEMORY_HINT_ARRIVED && p->hint_step == a.step;
		if (open && s->step - a.step < MEMORY_WASTED_AFTER)
			break;
		if (open) {
			memory_charge(m, p->unit);
			m->tally->prefetch_wasted++;
			p->hint = MEMORY_HINT_NONE;
		}
		s->arrival_head = (s->arrival_head + 1) % s->arrival_cap;
		s->arrival_count--;
	}
}

static int demote_unit(struct ikv_memory *m, uint32_t unit, uint32_t limit, struct ikv_err *err)
{
	struct memory_unit *u = &m->units[unit];
	struct memory_sequence *s = &m->sequences[unit / m->groups];
	uint32_t coldest = MEMORY_NEVER;
	memory_charge(m, unit);
	for (uint32_t i = 0; i < u->count; i++) {
		if (u->cold_since[i] <= limit) {
			uint32_t slot = u->slots[i];
			struct memory_page *p = &m->pages[slot];
			enum ikv_format to = (enum ikv_format)m->colder[p->format];
			if (memory_act_on(m, slot, IKV_MOVE_DEMOTE, to, p->tier, m->page_bytes[to], err))
				return -1;
			p->demoted = true;
			memory_tune_demoted(s, p);
			memory_warm(m, p);
		}
		coldest = u->cold_since[i] < coldest ? u->cold_since[i] : coldest;
	}
	u->coldest = coldest;
	return 0;
}

int memory_demote_cold(struct ikv_memory *m, struct ikv_err *err)
{
	for (uint32_t i = 0; i < m->taking_count; i++) {
		uint32_t now = m->sequences[m->taking[i]].step;
		if (now < (uint64_t)m->demote_after)
			continue;
		uint32_t limit = now - (uint32_t)m->demote_after;
		for (uint32_t g = 0; g < m->groups; g++) {
			uint32_t unit = m->taking[i] * m->groups + g;
			if (m->units[unit].coldest <= limit && demote_unit(m, unit, limit, err))
				return -1;
		}
	}
	return 0;
}
