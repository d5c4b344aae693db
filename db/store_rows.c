/* Rows: sessions, steps, roles, layers and the event logs, through prepared statements. */
#include <math.h>
#include <string.h>
#include "store_internal.h"
#include "store_sums.h"

/* Longer runs are read again when they are closed: percentiles would take more than 170 MB meanwhile. */
#define SUMMED_STEPS 2000000

static void bind_int(sqlite3_stmt *stmt, int i, int64_t value)
{
	if (value == -1)
		sqlite3_bind_null(stmt, i);
	else
		sqlite3_bind_int64(stmt, i, value);
}

static void bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
	/* The caller's text outlives the statement's step; a NULL pointer binds NULL. */
	sqlite3_bind_text(stmt, i, text, -1, SQLITE_STATIC);
}

static int write_row(struct store *s, int which, const void *row, struct ikv_err *err)
{
	if (s->spool)
		return spool_row(s, which, row, err);
	if (store_begin(s, err) != 0)
		return -1;
	return store_batch_add(s, which, row, err);
}

int store_session(struct store *s, const struct store_session *row, struct ikv_err *err)
{
	if (s->spool)
		return spool_row(s, STORE_ROW_SESSION, row, err);
	if (!s->session && store_prepare(s, "INSERT INTO session VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", &s->session, err) != 0)
		return -1;
	if (store_begin(s, err) != 0)
		return -1;
	bind_int(s->session, 1, row->run_id);
	bind_int(s->session, 2, row->session);
	bind_text(s->session, 3, row->id);
	bind_text(s->session, 4, row->task);
	bind_text(s->session, 5, row->tokens_by);
	sqlite3_bind_double(s->session, 6, row->arrival_ms);
	sqlite3_bind_double(s->session, 7, row->reward); /* NaN binds NULL */
	bind_int(s->session, 8, row->turns);
	bind_int(s->session, 9, row->appended_tokens);
	bind_int(s->session, 10, row->decoded_tokens);
	bind_int(s->session, 11, row->longest_context);
	bind_int(s->session, 12, row->compactions);
	return store_step_stmt(s, s->session, err);
}

void store_forget_sums(struct store *s)
{
	store_sums_free(s->sums);
	s->sums = NULL;
	s->summed = 0;
}

/* For the roll-ups, which else cost another reading of all rows. *sums: NULL where none are kept of this run. */
static int sums_of(struct store *s, int64_t run_id, struct store_sums **sums, struct ikv_err *err)
{
	*sums = NULL;
	if (run_id != s->summed)
		return 0;
	if (!s->sums && store_sums_open(&s->sums, err) != 0)
		return -1;
	if (s->sums->steps >= SUMMED_STEPS)
		store_forget_sums(s);
	*sums = s->sums;
	return 0;
}

static int sum_step(struct store *s, const struct store_step *row, struct ikv_err *err)
{
	struct store_sums *sums;
	int rc = sums_of(s, row->run_id, &sums, err);
	return rc == 0 && sums ? store_sums_add_row(sums, row, err) : rc;
}

static int sum_role(struct store *s, const struct store_role *row, struct ikv_err *err)
{
	const int64_t whole[5] = {row->tokens, row->selected_tokens, row->read_bytes, row->hit_pages, row->miss_pages};
	const double mass[2] = {row->mass, row->mass_selected};
	struct store_sums *sums;
	int rc = sums_of(s, row->run_id, &sums, err);
	return rc == 0 && sums ? store_sums_add_role(sums, ikv_kind_name(row->kind), whole, mass, err) : rc;
}

int store_step(struct store *s, const struct store_step *row, struct ikv_err *err)
{
	if (s->spool)
		return spool_step(s, row, err);
	if (store_pace(s, row->batch_step, err) != 0 || write_row(s, STORE_ROW_STEP, row, err) != 0 ||
	    sum_step(s, row, err) != 0)
		return -1;
	s->steps++;
	return 0;
}

int store_role(struct store *s, const struct store_role *row, struct ikv_err *err)
{
	if (s->spool)
		return spool_row(s, STORE_ROW_ROLE, row, err);
	return write_row(s, STORE_ROW_ROLE, row, err) != 0 || sum_role(s, row, err) != 0 ? -1 : 0;
}

int store_layer(struct store *s, const struct store_layer *row, struct ikv_err *err)
{
	return write_row(s, STORE_ROW_LAYER, row, err);
}

int store_prefill(struct store *s, const struct store_prefill *row, struct ikv_err *err)
{
	return write_row(s, STORE_ROW_PREFILL, row, err);
}

static const char *format_name(unsigned format)
{
	return format < IKV_FMT_COUNT ? ikv_format_names()[format] : "?";
}

int store_block_event(struct store *s, const struct store_block_event *row, struct ikv_err *err)
{
	const struct ikv_decision *d = row->decision;
	sqlite3_stmt **stmt = &s->block_event;
	if (s->spool)
		return spool_block_event(s, row, err);
	if (!*stmt && store_prepare(s,
				    "INSERT INTO block_event (run_id, session, step, layer, head, start_token,"
				    " end_token, block, kind, policy, decision, format, reason, recent, score, rank,"
				    " threshold, selected_tokens) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
				    stmt, err) != 0)
		return -1;
	if (store_begin(s, err) != 0)
		return -1;
	sqlite3_bind_int64(*stmt, 1, row->run_id);
	sqlite3_bind_int64(*stmt, 2, row->session);
	sqlite3_bind_int64(*stmt, 3, row->step);
	sqlite3_bind_int64(*stmt, 4, row->layer);
	sqlite3_bind_int64(*stmt, 5, row->head);
	sqlite3_bind_int64(*stmt, 6, d->start);
	sqlite3_bind_int64(*stmt, 7, d->end);
	bind_text(*stmt, 8, row->block);
	bind_text(*stmt, 9, ikv_kind_name(row->kind));
	bind_text(*stmt, 10, ikv_policy_name(row->policy));
	bind_text(*stmt, 11, ikv_decision_name(d->code));
	bind_text(*stmt, 12, format_name(d->format));
	bind_text(*stmt, 13, ikv_reason_name(d->reason));
	sqlite3_bind_int(*stmt, 14, d->recent);
	sqlite3_bind_double(*stmt, 15, d->score);
	bind_int(*stmt, 16, d->rank);
	sqlite3_bind_double(*stmt, 17, d->threshold);
	sqlite3_bind_int64(*stmt, 18, d->selected_tokens);
	return store_step_stmt(s, *stmt, err);
}

int store_page_event(struct store *s, int64_t run_id, int64_t session, int64_t step, const struct ikv_action *action,
		     struct ikv_err *err)
{
	static const char *const moves[] = {"fetch", "prefetch", "evict", "demote", "promote", "refetch", "encode"};
	_Static_assert(sizeof moves / sizeof *moves == IKV_MOVE_COUNT, "a name for every move");
	sqlite3_stmt **stmt = &s->page_event;
	if (s->spool)
		return spool_page_event(s, run_id, session, step, action, err);
	if (!*stmt && store_prepare(s,
				    "INSERT INTO page_event (run_id, session, step, seq, page_group, page, move,"
				    " from_format, to_format, from_tier, to_tier, bytes, accesses)"
				    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
				    stmt, err) != 0)
		return -1;
	if (store_begin(s, err) != 0)
		return -1;
	sqlite3_bind_int64(*stmt, 1, run_id);
	sqlite3_bind_int64(*stmt, 2, session);
	sqlite3_bind_int64(*stmt, 3, step);
	sqlite3_bind_int64(*stmt, 4, action->seq);
	sqlite3_bind_int64(*stmt, 5, action->group);
	sqlite3_bind_int64(*stmt, 6, action->page);
	bind_text(*stmt, 7, action->move < IKV_MOVE_COUNT ? moves[action->move] : "?");
	bind_text(*stmt, 8, format_name(action->from_format));
	bind_text(*stmt, 9, format_name(action->to_format));
	sqlite3_bind_int(*stmt, 10, action->from_tier);
	sqlite3_bind_int(*stmt, 11, action->to_tier);
	sqlite3_bind_int64(*stmt, 12, (int64_t)action->bytes);
	sqlite3_bind_double(*stmt, 13, (double)action->accesses);
	return store_step_stmt(s, *stmt, err);
}
