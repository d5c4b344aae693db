/* KV memory manager: slots, growth of sequences and the answers about pages. */
#include <string.h>
#include "intentkv/alloc.h"
#include "memory_state.h"

static const char *const promotion_names[] = {"refetch", "lossy", NULL};
static const char *const format_names[] = {"SKIP", "FP16",  "FP8",   "INT8",  "INT4",   "INT4_RESIDUAL",
					   "BF16", "KIVI8", "KIVI4", "KIVI2", "SPARSE", NULL};
#define AT(field) offsetof(struct ikv_memory_config, field)
const struct ikv_option ikv_memory_options[] = {
    {"demote_cold_after_steps", IKV_OPT_INT, AT(demote_cold_after_steps), "10", 1, 1e6, NULL,
     "steps of its sequence without access after which a page is re-encoded to the next colder format"},
    {"promote_hot_after_accesses", IKV_OPT_INT, AT(promote_hot_after_accesses), "3", 1, 1e6, NULL,
     "accesses in its format after which a page takes a higher requested one"},
    {"adapt_every", IKV_OPT_INT, AT(adapt_every), "5", 0, 1e6, NULL,
     "steps between self-tunings of the two thresholds (2..50 steps, 1..20 accesses); 0: never"},
    {"promotion", IKV_OPT_ENUM, AT(promotion), "refetch", 0, 0, promotion_names,
     "refetch: an exact copy crosses the link; lossy: re-encode what is stored"},
    {"demote", IKV_OPT_BOOL, AT(demote), "true", 0, 0, NULL, "whether pages may be re-encoded colder at all"},
    {"floor", IKV_OPT_ENUM, AT(floor), "INT4", 0, 0, format_names,
     "demotion never goes below this precision; SKIP means the lowest real format, SPARSE"},
    {"access_decay", IKV_OPT_REAL, AT(access_decay), "0.9", 0, 1, NULL,
     "factor per step of its sequence on a page's access count"},
    {"recode_pressure", IKV_OPT_REAL, AT(recode_pressure), "0.8", 0, 1, NULL,
     "memory pressure above which a request below the stored format counts"},
    {"recode_after_uses", IKV_OPT_INT, AT(recode_after_uses), "3", 1, 1e6, NULL,
     "uses in a row asking for less under pressure before a page is re-encoded"},
    IKV_OPTION_END};

/* Order of precision; a page's bytes need not fall along it. */
const uint8_t memory_precision[IKV_FMT_COUNT] = {
    [IKV_FMT_FP16] = 9,          [IKV_FMT_BF16] = 9,  [IKV_FMT_KIVI8] = 8, [IKV_FMT_INT8] = 7,  [IKV_FMT_FP8] = 6,
    [IKV_FMT_INT4_RESIDUAL] = 5, [IKV_FMT_KIVI4] = 4, [IKV_FMT_INT4] = 3,  [IKV_FMT_KIVI2] = 2, [IKV_FMT_SPARSE] = 1};

static bool is_kivi(unsigned f)
{
	return f == IKV_FMT_KIVI8 || f == IKV_FMT_KIVI4 || f == IKV_FMT_KIVI2;
}

/* The next format below that does not take more bytes and is not below the floor. KIVI pages stay KIVI and others do
 * not become it: groups over tokens are a scheme of their own. */
static void fill_colder(struct ikv_memory *m)
{
	int floor = m->config.floor == IKV_FMT_SKIP ? 1 : memory_precision[m->config.floor];
	for (unsigned f = 0; f < IKV_FMT_COUNT; f++) {
		m->colder[f] = (uint8_t)f;
		for (int level = memory_precision[f] - 1; level >= floor && m->colder[f] == f; level--)
			for (unsigned g = 1; g < IKV_FMT_COUNT; g++)
				if (memory_precision[g] == level && is_kivi(f) == is_kivi(g) &&
				    m->page_bytes[g] <= m->page_bytes[f])
					m->colder[f] = (uint8_t)g;
	}
}

double memory_decayed_long(const struct ikv_memory *m, const struct memory_page *p, uint32_t step)
{
	uint32_t n = step - p->last_step;
	double factor = 1, base = m->config.access_decay;
	for (; n; n >>= 1, base *= base)
		if (n & 1)
			factor *= base;
	return p->accesses * factor;
}

bool memory_can_cool(const struct ikv_memory *m, const struct memory_page *p)
{
	return !p->open && !p->pinned && m->config.demote && m->colder[p->format] != p->format;
}

void memory_warm(struct ikv_memory *m, const struct memory_page *p)
{
	struct memory_unit *u = &m->units[p->unit];
	uint32_t now = memory_sequence(m, p)->step;
	bool cools = memory_can_cool(m, p);
	u->cold_since[p->page] = cools ? now : MEMORY_NEVER;
	if (cools && now < u->coldest)
		u->coldest = now;
}

void memory_count(struct ikv_memory *m, const struct memory_page *p, int sign)
{
	uint64_t one = sign < 0 ? UINT64_MAX : 1, bytes = memory_bytes(m, p);
	m->tier_bytes[p->tier] += sign < 0 ? 0 - bytes : bytes;
	m->tier_pages[p->tier] += one;
	m->format_pages[p->format] += one;
	m->units[p->unit].below += p->tier ? (uint32_t)one : 0;
	if (p->format == IKV_FMT_FP16 && !p->open && !p->pinned)
		memory_sequence(m, p)->fp16 += (uint32_t)one;
}

int memory_slots_reserve(struct ikv_memory *m, uint32_t slots, struct ikv_err *err)
{
	uint32_t cap = m->slot_cap ? m->slot_cap : 64;
	while (cap < slots)
		cap = cap > UINT32_MAX / 4 ? slots : cap * 2;
	if (cap == m->slot_cap)
		return 0;
	for (int k = 0; k < MEMORY_CLASSES; k++)
		if (m->residency->reserve(m->resident[k], cap, err))
			return -1;
	if (ikv_grow(&m->batch, 0, cap, sizeof *m->batch, err) ||
	    ikv_grow(&m->pages, m->slot_count, cap, sizeof *m->pages, err) ||
	    ikv_grow(&m->free_slots, m->free_count, cap, sizeof *m->free_slots, err))
		return -1;
	/* Room for one action a page, so that a step does not allocate. */
	if (m->action_cap < cap) {
		if (ikv_grow(&m->actions, 0, cap, sizeof *m->actions, err))
			return -1;
		m->action_cap = cap;
	}
	m->slot_cap = cap;
	return 0;
}

static int new_page(struct ikv_memory *m, uint32_t unit, struct ikv_err *err)
{
	struct memory_unit *u = &m->units[unit];
	uint32_t slot;
	if (u->count == u->cap) {
		uint32_t cap = u->cap ? u->cap * 2 : 16;
		if (ikv_grow(&u->slots, u->count, cap, sizeof *u->slots, err) ||
		    ikv_grow(&u->cold_since, u->count, cap, sizeof *u->cold_since, err))
			return -1;
		u->cap = cap;
	}
	if (m->free_count) {
		slot = m->free_slots[--m->free_count];
	} else {
		if (m->slot_count >= UINT32_MAX - 2)
			return ikv_err_set(err, IKV_FAILED, "more than %u pages", m->slot_count);
		if (memory_slots_reserve(m, m->slot_count + 1, err))
			return -1;
		slot = m->slot_count++;
	}
	m->pages[slot] = (struct memory_page){
	    .unit = unit,
	    .page = u->count,
	    .format = IKV_FMT_FP16,
	    .policy = IKV_ATTEND,
	    .open = true,
	    .last_step = m->sequences[unit / m->groups].step,
	};
	memory_count(m, &m->pages[slot], 1);
	u->cold_since[u->count] = MEMORY_NEVER;
	u->grown += m->page_bytes[IKV_FMT_FP16];
	u->slots[u->count++] = slot;
	return 0;
}

static void free_page(struct ikv_memory *m, uint32_t slot)
{
	struct memory_page *p = &m->pages[slot];
	m->residency->remove(memory_resident(m, p), slot);
	memory_count(m, p, -1);
	*p = (struct memory_page){.unit = MEMORY_END};
	m->free_slots[m->free_count++] = slot;
}

/* What a page inherits from the blocks it overlaps: the most exact of their formats, the strongest policy. */
struct first {
	enum ikv_format format;
	enum ikv_policy policy;
	bool pinned;
};

static struct first first_of(const struct ikv_memory *m, const struct ikv_layout *layout, uint32_t block,
			     uint32_t start, uint32_t end, const struct ikv_ladder *ladder, double pressure)
{
	/* Of two policies on a page the one that guards it more. */
	static const uint8_t strength[IKV_POLICY_COUNT] = {
	    [IKV_ALWAYS] = 4, [IKV_GLOBAL] = 3, [IKV_RECENT] = 2, [IKV_ATTEND] = 1, [IKV_SKIP_BLOCK] = 0};
	/* A page that nobody wants must still exist: it takes the lowest format allowed. */
	struct first f = {memory_lowest(m), IKV_SKIP_BLOCK, false};
	int best = 0;
	uint32_t owned = 0;
	for (; block < layout->count && layout->blocks[block].start < end; block++) {
		const struct ikv_block *b = &layout->blocks[block];
		if (b->end <= start)
			continue;
		owned += (b->end < end ? b->end : end) - (b->start > start ? b->start : start);
		enum ikv_format want = ikv_ladder_format(ladder, b, pressure);
		if (memory_precision[want] > best) {
			best = memory_precision[want];
			f.format = want;
		}
		if (strength[b->policy] > strength[f.policy])
			f.policy = b->policy;
		f.pinned |= b->policy == IKV_ALWAYS || b->policy == IKV_GLOBAL;
	}
	if (owned < end - start) { /* tokens of no block are those of one to be skipped */
		const struct ikv_block gap = {.kind = IKV_KIND_OTHER, .policy = IKV_SKIP_BLOCK};
		enum ikv_format want = ikv_ladder_format(ladder, &gap, pressure);
		if (memory_precision[want] > best)
			f.format = want;
	}
	return f;
}

static int close_page(struct ikv_memory *m, uint32_t slot, const struct first *f, struct ikv_err *err)
{
	struct memory_page *p = &m->pages[slot];
	if (f->format != IKV_FMT_FP16) {
		if (m->encode_count == m->encode_cap) {
			uint32_t cap = m->encode_cap ? m->encode_cap * 2 : 64;
			if (ikv_grow(&m->encodes, m->encode_count, cap, sizeof *m->encodes, err))
				return -1;
			m->encode_cap = cap;
		}
		m->encodes[m->encode_count++] = slot;
		p->encode = true;
	}
	memory_count(m, p, -1);
	p->open = false;
	p->policy = (uint8_t)f->policy;
	p->pinned = f->pinned;
	p->format = (uint8_t)f->format;
	memory_count(m, p, 1);
	memory_warm(m, p);
	m->residency->insert(memory_resident(m, p), slot, memory_bytes(m, p), m->step);
	return 0;
}

static int check_seq(const struct ikv_memory *m, uint32_t seq, uint32_t group, struct ikv_err *err)
{
	if (seq < m->sequence_count && group < m->groups)
		return 0;
	return ikv_err_set(err, IKV_FAILED, "memory: no sequence %u, group %u (have %u, %u)", seq, group,
			   m->sequence_count, m->groups);
}

int ikv_memory_grow(struct ikv_memory *m, uint32_t seq, const struct ikv_layout *layout,
		    const struct ikv_ladder *ladder, double pressure, struct ikv_err *err)
{
	if (check_seq(m, seq, 0, err))
		return -1;
	uint32_t tokens = layout->total_tokens, old = m->sequences[seq].tokens, pt = m->page_tokens;
	if (tokens < old)
		return ikv_err_set(err, IKV_FAILED, "memory: sequence %u cannot grow from %u to %u tokens", seq, old,
				   tokens);
	uint32_t pages = ikv_pages(tokens, pt), closed = tokens / pt, block = 0;
	for (uint32_t g = 0; g < m->groups; g++)
		while (m->units[seq * m->groups + g].count < pages)
			if (new_page(m, seq * m->groups + g, err))
				return -1;
	m->sequences[seq].tokens = tokens;
	for (uint32_t page = old / pt; page < closed; page++) {
		uint32_t start = page * pt;
		while (block < layout->count && layout->blocks[block].end <= start)
			block++;
		struct first f = first_of(m, layout, block, start, start + pt, ladder, pressure);
		for (uint32_t g = 0; g < m->groups; g++)
			if (close_page(m, m->units[seq * m->groups + g].slots[page], &f, err))
				return -1;
	}
	return 0;
}

/* A closed page becomes the sequence's last, open one: FP16, in the fast tier. */
static void reopen(struct ikv_memory *m, uint32_t slot)
{
	struct memory_page *p = &m->pages[slot];
	m->residency->remove(memory_resident(m, p), slot);
	/* Told with the next use: the exact rows came over the link. A page whose encoding was never told still
	 * lies in the backend as it was written. */
	if ((p->format != IKV_FMT_FP16 || p->tier != 0 || p->demoted) && !p->encode)
		m->units[p->unit].reopened++;
	memory_count(m, p, -1);
	p->format = IKV_FMT_FP16;
	p->tier = 0;
	p->open = true;
	p->pinned = p->demoted = p->watched = p->encode = false;
	p->hint = MEMORY_HINT_NONE;
	p->uses = p->lower = 0;
	memory_count(m, p, 1);
	memory_warm(m, p);
}

int ikv_memory_truncate(struct ikv_memory *m, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	if (check_seq(m, seq, 0, err))
		return -1;
	if (tokens > m->sequences[seq].tokens)
		return ikv_err_set(err, IKV_FAILED, "memory: sequence %u has %u tokens, cannot keep %u", seq,
				   m->sequences[seq].tokens, tokens);
	uint32_t pages = ikv_pages(tokens, m->page_tokens);
	for (uint32_t g = 0; g < m->groups; g++) {
		struct memory_unit *u = &m->units[seq * m->groups + g];
		while (u->count > pages)
			free_page(m, u->slots[--u->count]);
		if (tokens % m->page_tokens && !m->pages[u->slots[pages - 1]].open)
			reopen(m, u->slots[pages - 1]);
	}
	m->sequences[seq].tokens = tokens;
	return 0;
}

void ikv_memory_release(struct ikv_memory *m, uint32_t seq)
{
	if (seq >= m->sequence_count)
		return;
	ikv_memory_truncate(m, seq, 0, NULL);
	struct memory_sequence *s = &m->sequences[seq];
	s->step = s->arrival_head = s->arrival_count = 0;
	s->stepped = false;
	memset(s->demoted_at, 0, sizeof s->demoted_at);
	memset(s->touched_again, 0, sizeof s->touched_again);
	for (uint32_t g = 0; g < m->groups; g++) {
		m->units[seq * m->groups + g].reopened = 0;
		m->units[seq * m->groups + g].grown = 0;
		m->units[seq * m->groups + g].coldest = MEMORY_NEVER;
	}
}

double ikv_memory_occupancy(const struct ikv_memory *m)
{
	double capacity = (double)m->tiers[0].capacity_bytes, used = (double)m->tier_bytes[0];
	return capacity <= 0 ? 0 : used >= capacity ? 1 : used / capacity;
}

int ikv_memory_page(const struct ikv_memory *m, uint32_t seq, uint32_t group, uint32_t page,
		    struct ikv_page_state *state, struct ikv_err *err)
{
	if (check_seq(m, seq, group, err))
		return -1;
	const struct memory_unit *u = &m->units[seq * m->groups + group];
	if (page >= u->count)
		return ikv_err_set(err, IKV_FAILED, "memory: sequence %u has %u pages, no page %u", seq, u->count,
				   page);
	const struct memory_page *p = &m->pages[u->slots[page]];
	*state = (struct ikv_page_state){
	    .format = (enum ikv_format)p->format,
	    .tier = p->tier,
	    .accesses = memory_decayed(m, p, m->sequences[seq].step),
	    .last_step = p->last_step,
	    .policy = (enum ikv_policy)p->policy,
	    .open = p->open,
	    .pinned = p->pinned,
	    .demoted = p->demoted,
	};
	return 0;
}

static int check_setup(const struct ikv_memory_setup *s, struct ikv_err *err)
{
	if (s->tier_count < 1 || s->tier_count > IKV_TIERS_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT, "memory.tiers: got %u, expected 1 to %d", s->tier_count,
				   IKV_TIERS_MAX);
	for (uint32_t t = 0; t < s->tier_count; t++)
		if (s->tiers[t].capacity_bytes < 0 || (s->tiers[t].capacity_bytes == 0 && t + 1 < s->tier_count))
			return ikv_err_set(err, IKV_BAD_INPUT,
					   "memory.tiers: %.15s: only the last tier may be unbounded",
					   s->tiers[t].name);
	if (s->page_tokens < 1 || s->page_tokens > IKV_PAGE_TOKENS_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT, "memory.page_tokens: got %u, expected 1 to %d", s->page_tokens,
				   IKV_PAGE_TOKENS_MAX);
	if (s->residency->foresee)
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "memory.residency: %s needs to know the future; only `intentkv mrc` has it",
				   s->residency->name);
	if (!s->sequences || !s->groups || s->sequences > UINT32_MAX / s->groups)
		return ikv_err_set(err, IKV_BAD_INPUT, "memory: %u sequences of %u groups cannot be managed",
				   s->sequences, s->groups);
	for (int f = IKV_FMT_FP16; f < IKV_FMT_COUNT; f++)
		if (!s->page_bytes[f] || s->page_bytes[f] > UINT64_MAX >> 32)
			return ikv_err_set(err, IKV_BAD_INPUT, "memory: %llu bytes for a page in %s",
					   (unsigned long long)s->page_bytes[f], format_names[f]);
	return 0;
}

/* A manager with the settings of `like` and nothing in it. */
int memory_shell(struct ikv_memory **out, const struct ikv_memory *like, struct ikv_err *err)
{
	struct ikv_memory *m = ikv_alloc(1, sizeof *m, err);
	if (!m)
		return -1;
	m->config = like->config;
	m->residency = like->residency;
	memcpy(m->tiers, like->tiers, sizeof m->tiers);
	m->tier_count = like->tier_count;
	m->page_tokens = like->page_tokens;
	m->sequence_count = like->sequence_count;
	m->groups = like->groups;
	memcpy(m->page_bytes, like->page_bytes, sizeof m->page_bytes);
	m->demote_after = m->config.demote_cold_after_steps;
	m->promote_after = m->config.promote_hot_after_accesses;
	m->power[0] = 1;
	for (int i = 1; i < MEMORY_POWERS; i++)
		m->power[i] = m->power[i - 1] * m->config.access_decay;
	fill_colder(m);
	m->units = ikv_alloc((size_t)m->sequence_count * m->groups, sizeof *m->units, err);
	m->sequences = ikv_alloc(m->sequence_count, sizeof *m->sequences, err);
	m->taking = ikv_alloc(m->sequence_count, sizeof *m->taking, err);
	m->residency_config = ikv_alloc(1, m->residency->config_bytes, err);
	if (!m->units || !m->sequences || !m->taking || !m->residency_config)
		goto fail;
	if (m->residency->config_bytes && like->residency_config)
		memcpy(m->residency_config, like->residency_config, m->residency->config_bytes);
	for (int k = 0; k < MEMORY_CLASSES; k++)
		if (m->residency->create(&m->resident[k], m->residency_config, (uint64_t)m->tiers[0].capacity_bytes,
					 err))
			goto fail;
	*out = m;
	return 0;
fail:
	ikv_memory_destroy(m);
	return -1;
}

int ikv_memory_create(struct ikv_memory **out, const struct ikv_memory_setup *setup, struct ikv_err *err)
{
	struct ikv_memory like = {0};
	if (check_setup(setup, err))
		return -1;
	like.config = *setup->config;
	like.residency = setup->residency;
	/* Borrowed for the call, and only read. */
	memcpy(&like.residency_config, &setup->residency_config, sizeof like.residency_config);
	memcpy(like.tiers, setup->tiers, setup->tier_count * sizeof *setup->tiers);
	like.tier_count = setup->tier_count;
	like.page_tokens = setup->page_tokens;
	like.sequence_count = setup->sequences;
	like.groups = setup->groups;
	memcpy(like.page_bytes, setup->page_bytes, sizeof like.page_bytes);
	return memory_shell(out, &like, err);
}

void ikv_memory_destroy(struct ikv_memory *m)
{
	if (!m)
		return;
	for (uint64_t u = 0; m->units && u < (uint64_t)m->sequence_count * m->groups; u++) {
		ikv_free(m->units[u].slots);
		ikv_free(m->units[u].cold_since);
	}
	for (uint32_t s = 0; m->sequences && s < m->sequence_count; s++)
		ikv_free(m->sequences[s].arrivals);
	for (int k = 0; k < MEMORY_CLASSES; k++)
		if (m->resident[k])
			m->residency->destroy(m->resident[k]);
	ikv_free(m->residency_config);
	ikv_free(m->units);
	ikv_free(m->sequences);
	ikv_free(m->taking);
	ikv_free(m->pages);
	ikv_free(m->free_slots);
	ikv_free(m->batch);
	ikv_free(m->encodes);
	ikv_free(m->actions);
	ikv_free(m);
}
