/* Calibrations: constants of the cost model with the measurements that they rest on. */
#include "store_internal.h"

static int write_head(struct store *s, const struct store_calibration *c, int64_t *id, struct ikv_err *err)
{
	char utc[32];
	sqlite3_stmt *stmt;
	store_utc(utc);
	if (store_prepare(s,
			  "INSERT INTO calibration (env_id, machine, source, utc, backend, isa, threads, cells,"
			  " held_cells, fit_error_pct, held_error_pct, held_median_pct)"
			  " VALUES (?,?,?,?,?,?,nullif(?,-1),?,?,?,?,?)",
			  &stmt, err))
		return -1;
	sqlite3_bind_int64(stmt, 1, s->env_id);
	sqlite3_bind_text(stmt, 2, c->machine->name, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 3, c->machine->source, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 4, utc, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 5, c->backend, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 6, c->isa, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 7, c->threads);
	sqlite3_bind_int64(stmt, 8, c->cells);
	sqlite3_bind_int64(stmt, 9, c->held_cells);
	sqlite3_bind_double(stmt, 10, c->fit_error_pct);
	sqlite3_bind_double(stmt, 11, c->held_error_pct);
	sqlite3_bind_double(stmt, 12, c->held_median_pct);
	int rc = store_step_stmt(s, stmt, err);
	sqlite3_finalize(stmt);
	*id = sqlite3_last_insert_rowid(s->db);
	return rc;
}

static int write_constants(struct store *s, int64_t id, const struct ikv_machine *m, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (store_prepare(s, "INSERT INTO calibration_constant VALUES (?,?,?)", &stmt, err))
		return -1;
	int rc = 0;
	for (const struct ikv_option *o = ikv_machine_options; o->name && !rc; o++) {
		sqlite3_bind_int64(stmt, 1, id);
		sqlite3_bind_text(stmt, 2, o->name, -1, SQLITE_STATIC);
		sqlite3_bind_double(stmt, 3, *(const double *)((const char *)m + o->offset));
		rc = store_step_stmt(s, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

static int write_cells(struct store *s, int64_t id, const struct store_calibration_cell *cells, uint32_t count,
		       struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (store_prepare(s, "INSERT INTO calibration_cell VALUES (?,?,?,?,?,?,?,?,?,?)", &stmt, err))
		return -1;
	int rc = 0;
	for (uint32_t i = 0; i < count && !rc; i++) {
		const struct store_calibration_cell *c = &cells[i];
		sqlite3_bind_int64(stmt, 1, id);
		sqlite3_bind_int64(stmt, 2, i);
		sqlite3_bind_text(stmt, 3, c->shape, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 4, c->format, -1, SQLITE_STATIC);
		sqlite3_bind_text(stmt, 5, c->selected, -1, SQLITE_STATIC);
		sqlite3_bind_int64(stmt, 6, c->tokens);
		sqlite3_bind_int64(stmt, 7, c->kv_bytes);
		sqlite3_bind_int64(stmt, 8, c->held_out);
		sqlite3_bind_double(stmt, 9, c->measured_ns);
		sqlite3_bind_double(stmt, 10, c->predicted_ns);
		rc = store_step_stmt(s, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

int store_calibration(struct store *s, const struct store_calibration *c, const struct store_calibration_cell *cells,
		      uint32_t count, int64_t *id, struct ikv_err *err)
{
	if (store_settle(&s, err))
		return -1;
	int64_t known = s->env_id;
	if (store_commit(s, err) || store_begin(s, err))
		return -1;
	if (store_env(s, err) || write_head(s, c, id, err) || write_constants(s, *id, c->machine, err) ||
	    write_cells(s, *id, cells, count, err)) {
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
		s->open = false;
		s->env_id = known;
		return -1;
	}
	return store_commit(s, err);
}
