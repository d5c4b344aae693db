#include "gpu/moves.h"
#include "intentkv/alloc.h"

enum moves_what moves_decide(unsigned where, enum ikv_place wanted)
{
	bool host = where & MOVES_HOST, queued = where & MOVES_QUEUED, slow = wanted == IKV_PLACE_SLOW;
	if (host == slow) /* it is there; a move away from there is not wanted any more */
		return queued ? MOVES_STAY : MOVES_NOTHING;
	if (queued)
		return wanted == IKV_PLACE_FAST ? MOVES_HURRY : MOVES_NOTHING;
	return wanted == IKV_PLACE_FAST ? MOVES_NOW : MOVES_BESIDE;
}

int moves_add(struct moves *m, const struct moves_item *x, struct ikv_err *err)
{
	if (m->count == m->cap) {
		uint32_t want = m->cap ? 2 * m->cap : 64;
		if (ikv_grow(&m->items, m->cap, want, sizeof *m->items, err))
			return -1;
		m->cap = want;
	}
	m->items[m->count++] = *x;
	return 0;
}

bool moves_take(struct moves *m, uint32_t list, uint32_t page, uint32_t head, struct moves_item *out)
{
	for (uint32_t i = m->count; i-- > 0;) { /* mostly one of the newest */
		const struct moves_item *x = &m->items[i];
		if (x->list != list || x->page != page || x->head != head)
			continue;
		*out = *x;
		for (m->count--; i < m->count; i++)
			m->items[i] = m->items[i + 1];
		return true;
	}
	return false;
}

int moves_split(struct moves *m, uint32_t layer, uint32_t layers, struct moves *to, struct ikv_err *err)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < m->count; i++) {
		if (layer < layers && m->items[i].list % layers != layer) {
			m->items[kept++] = m->items[i];
			continue;
		}
		if (moves_add(to, &m->items[i],
			      err)) { /* nothing is lost: what was moved is in `to`, the rest here */
			while (i < m->count)
				m->items[kept++] = m->items[i++];
			m->count = kept;
			return -1;
		}
	}
	m->count = kept;
	return 0;
}

void moves_free(struct moves *m)
{
	ikv_free(m->items);
	*m = (struct moves){0};
}

void moves_account(const struct moves_times *t, double *transfer, double *exposed)
{
	double after = t->end > t->attention ? t->end - t->attention : 0;
	after = after < t->beside ? after : t->beside;
	*transfer = t->before + t->beside;
	*exposed = t->before + after;
}
