#include <errno.h>
#include <string.h>
#include "sim/trace/census.h"

static int failed(struct ikv_err *err)
{
	return ikv_err_set(err, IKV_IO, "a temporary file for the ids of a trace: %s", strerror(errno));
}

static int spill(struct census_part *p, struct ikv_err *err)
{
	if (!p->file && !(p->file = tmpfile()))
		return failed(err);
	if (fwrite(p->ids, sizeof *p->ids, p->count, p->file) != p->count)
		return failed(err);
	p->spilled += p->count;
	p->count = 0;
	return 0;
}

int census_add(struct census *c, uint64_t id, struct ikv_err *err)
{
	/* The tables use the low bits of the same hash. */
	struct census_part *p = &c->parts[id_hash(id) >> 57];
	if (!p->ids && !(p->ids = ikv_alloc(CENSUS_PART_IDS, sizeof *p->ids, err)))
		return -1;
	if (p->count == CENSUS_PART_IDS && spill(p, err))
		return -1;
	p->ids[p->count++] = id;
	return 0;
}

static void part_free(struct census_part *p)
{
	if (p->file)
		fclose(p->file);
	ikv_free(p->ids);
	*p = (struct census_part){0};
}

void census_free(struct census *c)
{
	for (int i = 0; i < CENSUS_PARTS; i++)
		part_free(&c->parts[i]);
}

/* The ids of a part in the order in which they came, to fn. */
static int each(struct census_part *p, int (*fn)(void *ctx, uint64_t id, struct ikv_err *err), void *ctx,
		struct ikv_err *err)
{
	uint64_t held[512];
	int rc = 0;
	if (p->file && fseeko(p->file, 0, SEEK_SET))
		return failed(err);
	for (uint64_t left = p->spilled; !rc && left;) {
		size_t n = left < 512 ? (size_t)left : 512;
		if (fread(held, sizeof *held, n, p->file) != n)
			return failed(err);
		for (size_t i = 0; !rc && i < n; i++)
			rc = fn(ctx, held[i], err);
		left -= n;
	}
	for (uint32_t i = 0; !rc && i < p->count; i++)
		rc = fn(ctx, p->ids[i], err);
	return rc;
}

static int add_to_set(void *ctx, uint64_t id, struct ikv_err *err)
{
	return id_set_add(ctx, id, err) < 0 ? -1 : 0;
}

int census_distinct(struct census *c, uint64_t *distinct, struct ikv_err *err)
{
	int rc = 0;
	*distinct = 0;
	for (int i = 0; !rc && i < CENSUS_PARTS; i++) {
		struct id_set set = {0};
		rc = each(&c->parts[i], add_to_set, &set, err);
		*distinct += set.used + set.zero;
		id_set_free(&set);
		part_free(&c->parts[i]);
	}
	return rc;
}

struct frequent {
	struct id_table counts;
	uint64_t least;
	struct id_set *out;
};

static int count(void *ctx, uint64_t id, struct ikv_err *err)
{
	struct frequent *f = ctx;
	uint64_t n = 0;
	id_table_get(&f->counts, id, &n);
	if (n >= f->least)
		return 0;
	if (id_table_put(&f->counts, id, n + 1, err))
		return -1;
	return n + 1 == f->least ? add_to_set(f->out, id, err) : 0;
}

int census_frequent(struct census *c, uint64_t least, struct id_set *out, struct ikv_err *err)
{
	int rc = 0;
	for (int i = 0; !rc && i < CENSUS_PARTS; i++) {
		struct frequent f = {.least = least, .out = out};
		rc = each(&c->parts[i], count, &f, err);
		id_table_free(&f.counts);
		part_free(&c->parts[i]);
	}
	return rc;
}
