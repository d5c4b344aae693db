/* SpecAttn: an EMA of attention mass per block, and which blocks stay until the next verification. */
#include <math.h>
#include <stdlib.h>
#include "intentkv/alloc.h"
#include "intentkv/specattn.h"
#include "serial.h"

#define AT(field) offsetof(struct ikv_specattn_config, field)
const struct ikv_option ikv_specattn_options[] = {
    {"enabled", IKV_OPT_BOOL, AT(enabled), "false", 0, 0, NULL, "whether verifications choose the ATTEND blocks"},
    {"alpha", IKV_OPT_REAL, AT(alpha), "0.1", 0, 1, NULL, "weight of the newest verification in the average"},
    {"top_k_blocks", IKV_OPT_INT, AT(top_k_blocks), "8", 0, 1e9, NULL, "ATTEND blocks kept"},
    {"gamma", IKV_OPT_INT, AT(gamma), "4", 1, 1e6, NULL, "draft tokens between verifications"},
    {"greedy", IKV_OPT_BOOL, AT(greedy), "false", 0, 0, NULL, "accept while the most likely tokens agree"},
    IKV_OPTION_END};

struct entry {
	uint64_t uid; /* 0: free */
	double ema, mass;
	uint64_t seen; /* verification that last saw the block */
	bool kept, known;
};
struct sequence {
	struct entry *entries; /* open addressing, linear probing; cap a power of two */
	uint32_t used, cap;
	uint64_t verifications;
};
struct rank {
	double ema;
	uint32_t block;
};
struct ikv_specattn {
	struct ikv_specattn_config config;
	struct sequence *sequences;
	struct rank *ranks;
	uint32_t count, rank_cap;
};

int ikv_specattn_create(struct ikv_specattn **out, const struct ikv_specattn_config *config, uint32_t sequences,
			struct ikv_err *err)
{
	struct ikv_specattn *s = ikv_alloc(1, sizeof *s, err);
	if (!s)
		return -1;
	s->config = *config;
	s->count = sequences;
	s->sequences = ikv_alloc(sequences, sizeof *s->sequences, err);
	if (!s->sequences) {
		ikv_free(s);
		return -1;
	}
	*out = s;
	return 0;
}

void ikv_specattn_destroy(struct ikv_specattn *s)
{
	for (uint32_t i = 0; s && i < s->count; i++)
		ikv_free(s->sequences[i].entries);
	if (s) {
		ikv_free(s->sequences);
		ikv_free(s->ranks);
	}
	ikv_free(s);
}

/* The block's entry, or the free one where it would go; NULL in an empty table. */
static struct entry *find(const struct sequence *q, uint64_t uid)
{
	if (!q->cap)
		return NULL;
	for (uint64_t i = ikv_mix64(uid);; i++) {
		struct entry *e = &q->entries[i & (q->cap - 1)];
		if (e->uid == uid || !e->uid)
			return e;
	}
}

/* Room for `more` new blocks. Blocks that left the layout two verifications ago are dropped. */
static int reserve(struct sequence *q, uint32_t more, struct ikv_err *err)
{
	uint64_t cap = q->cap ? q->cap : 16;
	if (q->cap && ((uint64_t)q->used + more) * 4 <= (uint64_t)q->cap * 3)
		return 0;
	uint32_t live = 0;
	for (uint32_t i = 0; i < q->cap; i++)
		live += q->entries[i].uid && q->entries[i].seen + 1 >= q->verifications;
	while (((uint64_t)live + more) * 4 > cap * 3)
		cap *= 2;
	if (cap > UINT32_MAX / 2)
		return ikv_err_set(err, IKV_FAILED, "specattn: too many blocks");
	struct sequence bigger = {ikv_alloc(cap, sizeof(struct entry), err), live, (uint32_t)cap, q->verifications};
	if (!bigger.entries)
		return -1;
	for (uint32_t i = 0; i < q->cap; i++)
		if (q->entries[i].uid && q->entries[i].seen + 1 >= q->verifications)
			*find(&bigger, q->entries[i].uid) = q->entries[i];
	ikv_free(q->entries);
	*q = bigger;
	return 0;
}

static int by_ema(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;
	if (x->ema != y->ema)
		return x->ema > y->ema ? -1 : 1;
	return x->block < y->block ? -1 : x->block > y->block;
}

/* Sum the mass of each uid (a block split in pieces counts as one), then move its average. */
static void update(const struct ikv_specattn *s, struct sequence *q, const struct ikv_layout *layout,
		   const double *mass)
{
	for (uint32_t i = 0; i < layout->count; i++) {
		uint64_t uid = layout->blocks[i].uid;
		struct entry *e = uid ? find(q, uid) : NULL;
		if (!e)
			continue;
		if (!e->uid) {
			*e = (struct entry){.uid = uid};
			q->used++;
		}
		if (e->seen != q->verifications)
			e->mass = 0;
		e->seen = q->verifications;
		e->mass += mass[i];
	}
	for (uint32_t i = 0; i < q->cap; i++) {
		struct entry *e = &q->entries[i];
		if (!e->uid || e->seen != q->verifications)
			continue;
		e->ema = e->known ? (1 - s->config.alpha) * e->ema + s->config.alpha * e->mass : e->mass;
		e->known = true;
		e->kept = false;
	}
}

int ikv_specattn_verify(struct ikv_specattn *s, uint32_t seq, const struct ikv_layout *layout, const double *mass,
			struct ikv_err *err)
{
	if (seq >= s->count)
		return ikv_err_set(err, IKV_FAILED, "specattn: no sequence %u", seq);
	for (uint32_t i = 0; i < layout->count; i++)
		if (!(mass[i] >= 0) || !isfinite(mass[i]))
			return ikv_err_set(err, IKV_BAD_INPUT, "specattn: mass of block \"%s\" is %g",
					   layout->blocks[i].name, mass[i]);
	struct sequence *q = &s->sequences[seq];
	if (layout->count > s->rank_cap) {
		if (ikv_grow(&s->ranks, 0, (size_t)layout->count * 2, sizeof *s->ranks, err))
			return -1;
		s->rank_cap = layout->count * 2;
	}
	q->verifications++;
	if (reserve(q, layout->count, err))
		return -1;
	update(s, q, layout, mass);
	uint32_t n = 0;
	for (uint32_t i = 0; i < layout->count; i++)
		if (layout->blocks[i].policy == IKV_ATTEND && layout->blocks[i].uid)
			s->ranks[n++] = (struct rank){find(q, layout->blocks[i].uid)->ema, i};
	qsort(s->ranks, n, sizeof *s->ranks, by_ema);
	int64_t kept = 0;
	for (uint32_t i = 0; i < n && kept < s->config.top_k_blocks; i++) {
		struct entry *e = find(q, layout->blocks[s->ranks[i].block].uid);
		kept += !e->kept;
		e->kept = true;
	}
	return 0;
}

bool ikv_specattn_keeps(const struct ikv_specattn *s, uint32_t seq, const struct ikv_block *block)
{
	if (!s->config.enabled || seq >= s->count || block->policy != IKV_ATTEND || !block->uid)
		return true;
	const struct sequence *q = &s->sequences[seq];
	const struct entry *e = q->verifications ? find(q, block->uid) : NULL;
	return !e || !e->uid || e->seen != q->verifications || e->kept;
}

double ikv_specattn_ema(const struct ikv_specattn *s, uint32_t seq, uint64_t uid)
{
	const struct entry *e = seq < s->count && uid ? find(&s->sequences[seq], uid) : NULL;
	return e && e->uid ? e->ema : NAN;
}

void ikv_specattn_forget(struct ikv_specattn *s, uint32_t seq)
{
	if (seq >= s->count)
		return;
	ikv_free(s->sequences[seq].entries);
	s->sequences[seq] = (struct sequence){0};
}

size_t ikv_specattn_save(const struct ikv_specattn *s, void *buffer, size_t size)
{
	struct serial_out o = {buffer, size, 0};
	serial_put(&o, s->count, 4);
	for (uint32_t i = 0; i < s->count; i++) {
		const struct sequence *q = &s->sequences[i];
		serial_put(&o, q->verifications, 8);
		serial_put(&o, q->used, 4);
		for (uint32_t k = 0; k < q->cap; k++) {
			const struct entry *e = &q->entries[k];
			if (!e->uid)
				continue;
			serial_put(&o, e->uid, 8);
			serial_put_real(&o, e->ema);
			serial_put(&o, e->seen, 8);
			serial_put(&o, e->kept, 1);
		}
	}
	return o.used;
}

int ikv_specattn_load(struct ikv_specattn *s, const void *buffer, size_t size, struct ikv_err *err)
{
	struct serial_in in = {buffer, size, 0, false};
	if (serial_get(&in, 4) != s->count || in.bad)
		return ikv_err_set(err, IKV_BAD_INPUT, "saved specattn state: of other settings");
	for (uint32_t i = 0; i < s->count && !in.bad; i++) {
		struct sequence *q = &s->sequences[i];
		ikv_specattn_forget(s, i);
		q->verifications = serial_get(&in, 8);
		uint32_t n = serial_get_count(&in, 25);
		if (reserve(q, n, err))
			return -1;
		for (uint32_t k = 0; k < n; k++) {
			struct entry e = {.uid = serial_get(&in, 8), .known = true};
			e.ema = serial_get_real(&in);
			e.seen = serial_get(&in, 8);
			e.kept = serial_get(&in, 1) != 0;
			if (!e.uid || find(q, e.uid)->uid || !(e.ema >= 0) || e.seen > q->verifications)
				return ikv_err_set(err, IKV_BAD_INPUT, "saved specattn state: a damaged block");
			*find(q, e.uid) = e;
			q->used++;
		}
	}
	return in.bad || in.used != size ? ikv_err_set(err, IKV_BAD_INPUT, "saved specattn state: damaged") : 0;
}
