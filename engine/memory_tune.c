/* Self-tuning of the memory manager's two thresholds, from what the sequences that step re-access. */
#include "memory_state.h"

static uint32_t window(const struct ikv_memory *m)
{
	uint64_t n = 2 * (uint64_t)m->demote_after;
	return n < MEMORY_WINDOW ? (uint32_t)n : MEMORY_WINDOW - 1;
}

void memory_tune_advance(struct memory_sequence *s)
{
	s->step++;
	s->stepped = true;
	s->demoted_at[s->step % MEMORY_WINDOW] = 0;
	s->touched_again[s->step % MEMORY_WINDOW] = 0;
}

void memory_tune_demoted(struct memory_sequence *s, struct memory_page *p)
{
	p->watched = true;
	p->demoted_step = s->step;
	s->demoted_at[s->step % MEMORY_WINDOW]++;
}

/* Re-accessed means: read again within twice the threshold of its demotion. */
void memory_tune_touched(const struct ikv_memory *m, struct memory_sequence *s, struct memory_page *p)
{
	if (p->watched && s->step - p->demoted_step <= window(m))
		s->touched_again[p->demoted_step % MEMORY_WINDOW]++;
	p->watched = false;
}

/* Whether at least `enough` of a unit's coolable FP16 pages were read since; counts them in *warm till then. */
static bool warm_enough(const struct ikv_memory *m, const struct memory_unit *u, uint32_t since, uint64_t enough,
			uint64_t *warm)
{
	for (uint32_t i = 0; i < u->count && *warm < enough; i++)
		if (u->cold_since[i] != MEMORY_NEVER && u->cold_since[i] >= since)
			*warm += m->pages[u->slots[i]].format == IKV_FMT_FP16;
	return *warm >= enough;
}

/* More than half of the FP16 pages that could be demoted, in the sequences that stepped since the last tuning,
 * were not read in their last adapt_every steps. */
static bool mostly_cold(const struct ikv_memory *m)
{
	uint64_t fp16 = 0, warm = 0;
	for (uint32_t i = 0; i < m->sequence_count; i++)
		fp16 += m->sequences[i].stepped ? m->sequences[i].fp16 : 0;
	if (fp16 < 2)
		return false;
	for (uint32_t i = 0; i < m->sequence_count; i++) {
		const struct memory_sequence *s = &m->sequences[i];
		uint32_t since = s->step < m->config.adapt_every ? 0 : s->step - (uint32_t)m->config.adapt_every;
		for (uint32_t g = 0; g < m->groups && s->stepped && s->fp16; g++)
			if (warm_enough(m, &m->units[i * m->groups + g], since, (fp16 + 1) / 2, &warm))
				return false;
	}
	return true;
}

void memory_tune(struct ikv_memory *m)
{
	uint64_t demoted = 0, again = 0;
	uint32_t n = window(m);
	for (uint32_t k = 0; k < m->sequence_count; k++) {
		const struct memory_sequence *s = &m->sequences[k];
		for (uint32_t i = 0; s->stepped && i <= n && i <= s->step; i++) {
			demoted += s->demoted_at[(s->step - i) % MEMORY_WINDOW];
			again += s->touched_again[(s->step - i) % MEMORY_WINDOW];
		}
	}
	if (demoted && (double)again > 0.30 * (double)demoted) {
		m->demote_after += m->demote_after < MEMORY_COLD_MAX;
		m->promote_after -= m->promote_after > MEMORY_HOT_MIN;
	} else if (mostly_cold(m)) {
		m->demote_after -= m->demote_after > MEMORY_COLD_MIN;
		m->promote_after += m->promote_after < MEMORY_HOT_MAX;
	}
	for (uint32_t k = 0; k < m->sequence_count; k++)
		m->sequences[k].stepped = false;
}
