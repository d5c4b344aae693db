#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/trace/id_table.h"
#include "sim/trace/stats.h"

const char *const stat_names[STAT_SERIES] = {"input",      "output",        "turns",
					     "think_s",    "session_gap_s", "request_gap_s",
					     "prefix_hit", "growth",        "references_per_block"};

int stat_push(struct stat_values *v, double x, struct ikv_err *err)
{
	if (v->count == v->cap) {
		size_t cap = v->cap * 2 + 256;
		if (ikv_grow(&v->v, v->count, cap, sizeof *v->v, err))
			return -1;
		v->cap = cap;
	}
	v->v[v->count++] = x;
	return 0;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

double stat_at(const double *sorted, size_t count, double level)
{
	/* Levels such as 0.9 are not exact; 0.9 of 10 is the 9th value. */
	double rank = ceil(level * (double)count - 1e-9 * (double)count);
	size_t i = rank < 1 ? 0 : (size_t)rank - 1;
	return sorted[i < count ? i : count - 1];
}

struct stat_summary stat_summarise(const struct stat_values *v)
{
	struct stat_summary s = {.count = v->count};
	if (!v->count)
		return s;
	double sum = 0;
	for (size_t i = 0; i < v->count; i++)
		sum += v->v[i];
	s.mean = sum / (double)v->count;
	s.min = v->v[0];
	s.p50 = stat_at(v->v, v->count, .5);
	s.p90 = stat_at(v->v, v->count, .9);
	s.p99 = stat_at(v->v, v->count, .99);
	s.max = v->v[v->count - 1];
	return s;
}

void trace_stats_free(struct trace_stats *s)
{
	for (int i = 0; i < STAT_SERIES; i++)
		ikv_free(s->values[i].v);
	ikv_free(s->requests);
	*s = (struct trace_stats){0};
}

void stats_to_facts(const struct trace_stats *s, struct trace_facts *f)
{
	f->requests = s->request_count;
	f->input_tokens = f->output_tokens = 0;
	for (uint32_t i = 0; i < s->request_count; i++) {
		f->input_tokens += s->requests[i].input;
		f->output_tokens += s->requests[i].output;
	}
	f->block_refs = s->block_refs;
	f->unique_blocks = s->unique_blocks;
	f->prefix_hits = s->block_hits;
}

/* Content ids met so far. A value holds how often (upper half) and by which request last (lower half). */
struct seen {
	struct id_table table;
	struct session_chain *chains; /* one a session */
	uint32_t *cursor;             /* next event of a session */
	uint64_t *scope;              /* of a session's ids; 0: global */
};

/* Local ids hold within a session and its subagents "<id>/...". */
static void set_scopes(const struct session_list *list, uint64_t *scope)
{
	const char *root = NULL;
	uint64_t number = 0;
	for (uint32_t i = 0; i < list->count; i++) {
		const struct session *s = &list->items[i];
		size_t n = root ? strlen(root) : 0;
		if (!root || strncmp(s->id, root, n) != 0 || s->id[n] != '/') {
			root = s->id;
			number = i + 1;
		}
		scope[i] = s->hashes_global ? 0 : number;
	}
}

static int look_up(struct seen *seen, struct stat_request *r, uint32_t number, struct ikv_err *err)
{
	const struct session_chain *c = &seen->chains[r->session];
	uint64_t scope = seen->scope[r->session];
	bool start = true;
	r->blocks = c->count;
	r->hits = 0;
	for (uint32_t i = 0; i < c->count; i++) {
		uint64_t key = scope ? ikv_mix64_2(scope, c->ids[i]) : c->ids[i], value = 0;
		bool met = id_table_get(&seen->table, key, &value);
		r->hits += met;
		start = start && met;
		if (start)
			r->age = number - (uint32_t)value;
		if (id_table_put(&seen->table, key, ((value >> 32) + 1) << 32 | number, err))
			return -1;
	}
	return 0;
}

static int replay(const struct session_list *list, struct trace_stats *s, struct seen *seen, struct ikv_err *err)
{
	for (uint32_t n = 0; n < s->request_count; n++) {
		struct stat_request *r = &s->requests[n];
		const struct session *from = &list->items[r->session];
		if (!from->hash_block_tokens)
			continue;
		for (uint32_t *i = &seen->cursor[r->session]; *i < r->sent; ++*i)
			if (session_chain_step(&seen->chains[r->session], from, &from->events[*i], err))
				return -1;
		if (look_up(seen, r, n, err))
			return -1;
		s->block_refs += r->blocks;
		s->block_hits += r->hits;
		s->block_tokens = from->hash_block_tokens;
		s->global = s->global || from->hashes_global;
		s->partial = s->partial || r->blocks > r->input / from->hash_block_tokens;
	}
	s->unique_blocks = s->block_refs - s->block_hits;
	for (size_t i = 0; i < seen->table.cap; i++)
		if (seen->table.state[i] == 1 &&
		    stat_push(&s->values[STAT_REUSE], (double)(seen->table.entries[i].value >> 32), err))
			return -1;
	return 0;
}

static int count_blocks(const struct session_list *list, struct trace_stats *s, struct ikv_err *err)
{
	struct seen seen = {0};
	seen.chains = ikv_alloc(list->count, sizeof *seen.chains, err);
	seen.cursor = seen.chains ? ikv_alloc(list->count, sizeof *seen.cursor, err) : NULL;
	seen.scope = seen.cursor ? ikv_alloc(list->count, sizeof *seen.scope, err) : NULL;
	int rc = seen.scope ? 0 : -1;
	if (!rc) {
		set_scopes(list, seen.scope);
		rc = replay(list, s, &seen, err);
	}
	for (uint32_t i = 0; seen.chains && i < list->count; i++)
		session_chain_free(&seen.chains[i]);
	ikv_free(seen.chains);
	ikv_free(seen.cursor);
	ikv_free(seen.scope);
	id_table_free(&seen.table);
	return rc;
}

static int count_requests(const struct session_list *list, struct trace_stats *s, struct ikv_err *err)
{
	uint32_t *before = ikv_alloc(list->count, sizeof *before, err); /* input, by session */
	int rc = before ? 0 : -1;
	for (uint32_t n = 0; !rc && n < s->request_count; n++) {
		const struct stat_request *r = &s->requests[n];
		bool ids = list->items[r->session].hash_block_tokens != 0;
		uint32_t of = ids ? r->blocks : r->input;
		rc = stat_push(&s->values[STAT_INPUT], r->input, err) ||
		     stat_push(&s->values[STAT_OUTPUT], r->output, err);
		if (!rc && of)
			rc = stat_push(&s->values[STAT_PREFIX_HIT], (double)r->hits / of, err);
		if (!rc && n)
			rc = stat_push(&s->values[STAT_GAP], (r->at_ms - s->requests[n - 1].at_ms) / 1e3, err);
		if (!rc && r->wait_ms > 0)
			rc = stat_push(&s->values[STAT_THINK], r->wait_ms / 1e3, err);
		if (!rc && r->turn) {
			s->later++;
			s->cut += r->cut;
			s->shrunk += r->input < before[r->session];
			rc = stat_push(&s->values[STAT_GROWTH], (double)r->input - before[r->session], err);
		}
		if (!rc)
			before[r->session] = r->input;
	}
	ikv_free(before);
	return rc;
}

static int count_sessions(const struct session_list *list, struct trace_stats *s, struct ikv_err *err)
{
	struct stat_values at = {0};
	int rc = 0;
	for (uint32_t i = 0; !rc && i < list->count; i++) {
		const struct session *from = &list->items[i];
		rc = stat_push(&at, from->arrival_ms / 1e3, err);
		for (uint32_t k = 0; k < from->event_count; k++) {
			const struct session_event *e = &from->events[k];
			if ((e->op != SESSION_APPEND && e->op != SESSION_DECODE) || e->unowned)
				continue;
			struct stat_role *role = &s->roles[e->kind];
			role->tokens += e->tokens;
			role->given += e->confidence >= 1 ? e->tokens : 0;
			role->confidence += (double)e->confidence * e->tokens;
			s->role_tokens += e->tokens;
		}
	}
	if (!rc && at.count)
		qsort(at.v, at.count, sizeof *at.v, ascending);
	for (size_t i = 1; !rc && i < at.count; i++)
		rc = stat_push(&s->values[STAT_ARRIVAL], at.v[i] - at.v[i - 1], err);
	ikv_free(at.v);
	for (int k = 0; k < IKV_KIND_COUNT; k++)
		if (s->roles[k].tokens)
			s->roles[k].confidence /= (double)s->roles[k].tokens;
	return rc;
}

static int count_overlap(const struct session_list *list, struct overlap_summary *out, struct ikv_err *err)
{
	struct overlap_tally tally = {0};
	for (uint32_t i = 0; i < list->count; i++) {
		if (overlap_add(&tally, &list->items[i], err)) {
			ikv_free(tally.percent);
			free(tally.root);
			return -1;
		}
	}
	return overlap_finish(&tally, out, err);
}

int trace_stats_collect(const struct session_list *list, struct trace_stats *out, struct ikv_err *err)
{
	*out = (struct trace_stats){.sessions = list->count};
	snprintf(out->format, sizeof out->format, "%s", list->facts.format);
	snprintf(out->tokens_by, sizeof out->tokens_by, "%s", list->facts.tokens_by);
	if (stat_requests(list, out, err) || count_blocks(list, out, err) || count_requests(list, out, err) ||
	    count_sessions(list, out, err) || count_overlap(list, &out->overlap, err)) {
		trace_stats_free(out);
		return -1;
	}
	for (int i = 0; i < STAT_SERIES; i++)
		if (out->values[i].count)
			qsort(out->values[i].v, out->values[i].count, sizeof(double), ascending);
	return 0;
}
