/* Runs: their beginning with scenario, settings and environment, and their end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#include "config.h"
#include "store_internal.h"

void store_utc(char text[32])
{
	time_t now = time(NULL);
	struct tm tm;
	gmtime_r(&now, &tm);
	strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* Value of "model name : X" in /proc/cpuinfo; empty where there is none. */
static void cpu_name(char *name, size_t size)
{
	char line[512];
	*name = 0;
	FILE *f = fopen("/proc/cpuinfo", "re");
	if (!f)
		return;
	while (!*name && fgets(line, sizeof line, f)) {
		char *colon = strchr(line, ':');
		if (colon && strncmp(line, "model name", 10) == 0)
			snprintf(name, size, "%.*s", (int)strcspn(colon + 1, "\n"), colon + 1 + (colon[1] == ' '));
	}
	name[strcspn(name, "\n")] = 0;
	fclose(f);
}

static void command_line(char *text, size_t size)
{
	size_t n = 0;
	FILE *f = fopen("/proc/self/cmdline", "re");
	if (f) {
		n = fread(text, 1, size - 1, f);
		fclose(f);
	}
	while (n > 0 && !text[n - 1])
		n--;
	for (size_t i = 0; i < n; i++)
		if (!text[i])
			text[i] = ' ';
	text[n] = 0;
}

static void bind(sqlite3_stmt *stmt, int i, const char *text)
{
	sqlite3_bind_text(stmt, i, text, -1, SQLITE_TRANSIENT);
}

/* Run a statement that is used once. */
static int finish(struct store *s, sqlite3_stmt *stmt, struct ikv_err *err)
{
	int rc = store_step_stmt(s, stmt, err);
	sqlite3_finalize(stmt);
	return rc;
}

static int write_env(struct store *s, struct ikv_err *err)
{
	struct utsname u = {0};
	char cpu[256], command[4096], os[256], utc[32];
	sqlite3_stmt *stmt;
	uname(&u);
	cpu_name(cpu, sizeof cpu);
	command_line(command, sizeof command);
	snprintf(os, sizeof os, "%.64s %.64s %.64s", u.sysname, u.release, u.machine);
	store_utc(utc);
	if (store_prepare(
		s,
		"INSERT INTO env (host, os, cpu, cores, memory_bytes, program, compiler, sqlite, command, utc)"
		" VALUES (?,?,?,?,?,?,?,?,?,?)",
		&stmt, err) != 0)
		return -1;
	bind(stmt, 1, u.nodename);
	bind(stmt, 2, os);
	bind(stmt, 3, *cpu ? cpu : NULL);
	sqlite3_bind_int64(stmt, 4, sysconf(_SC_NPROCESSORS_ONLN));
	sqlite3_bind_int64(stmt, 5, (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
	bind(stmt, 6, PACKAGE_STRING);
	bind(stmt, 7, __VERSION__);
	bind(stmt, 8, sqlite3_libversion());
	bind(stmt, 9, *command ? command : NULL);
	bind(stmt, 10, utc);
	if (finish(s, stmt, err) != 0)
		return -1;
	s->env_id = sqlite3_last_insert_rowid(s->db);
	return 0;
}

/* The scenario that was run last has the highest number: v_latest goes by it. */
static int renumber_scenario(struct store *s, int64_t *id, struct ikv_err *err)
{
	char sql[400];
	sqlite3_stmt *stmt;
	if (store_prepare(s, "SELECT max(scenario_id) FROM scenario", &stmt, err) != 0)
		return -1;
	int64_t highest = sqlite3_step(stmt) == SQLITE_ROW ? sqlite3_column_int64(stmt, 0) : *id;
	sqlite3_finalize(stmt);
	if (highest == *id)
		return 0;
	snprintf(sql, sizeof sql,
		 "UPDATE scenario SET scenario_id = %lld WHERE scenario_id = %lld;"
		 " UPDATE run SET scenario_id = %lld WHERE scenario_id = %lld",
		 (long long)highest + 1, (long long)*id, (long long)highest + 1, (long long)*id);
	*id = highest + 1;
	return store_exec(s->db, s->path, sql, err);
}

static int write_scenario(struct store *s, const struct store_run *run, int64_t *id, struct ikv_err *err)
{
	const char *text = run->scenario_text ? run->scenario_text : "";
	char hash[17];
	sqlite3_stmt *stmt;
	snprintf(hash, sizeof hash, "%016llx", (unsigned long long)XXH3_64bits(text, strlen(text)));
	if (store_prepare(s,
			  "INSERT INTO scenario (path, text, hash) VALUES (?,?,?)"
			  " ON CONFLICT (hash) DO UPDATE SET path = excluded.path RETURNING scenario_id",
			  &stmt, err) != 0)
		return -1;
	bind(stmt, 1, run->scenario_path ? run->scenario_path : "");
	bind(stmt, 2, text);
	bind(stmt, 3, hash);
	int rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		*id = sqlite3_column_int64(stmt, 0);
	else
		store_fail(s->db, s->path, "cannot write the scenario", err);
	sqlite3_finalize(stmt);
	return rc == SQLITE_ROW ? renumber_scenario(s, id, err) : -1;
}

static int write_params(struct store *s, int64_t run_id, const struct store_run *run, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (store_prepare(s, "INSERT INTO run_param (run_id, key, value, origin) VALUES (?,?,?,?)", &stmt, err) != 0)
		return -1;
	int rc = 0;
	for (uint32_t i = 0; i < run->param_count && rc == 0; i++) {
		sqlite3_bind_int64(stmt, 1, run_id);
		bind(stmt, 2, run->params[i].key);
		bind(stmt, 3, run->params[i].value);
		bind(stmt, 4, run->params[i].origin);
		rc = store_step_stmt(s, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

static uint64_t hash_params(const struct store_run *run)
{
	uint64_t h = 0;
	for (uint32_t i = 0; i < run->param_count; i++) {
		h = XXH3_64bits_withSeed(run->params[i].key, strlen(run->params[i].key) + 1, h);
		h = XXH3_64bits_withSeed(run->params[i].value, strlen(run->params[i].value) + 1, h);
	}
	return h;
}

static int write_run(struct store *s, const struct store_run *run, int64_t scenario, struct ikv_err *err)
{
	const char *const texts[] = {run->router,  run->scorer, run->source, run->backend, run->isa,
				     run->execute, run->ladder, run->model,  run->machine, run->format};
	char utc[32], seed[17], params[17];
	sqlite3_stmt *stmt;
	if (store_prepare(s,
			  "INSERT INTO run (scenario_id, env_id, name, point, status, started_utc, seed, params_hash,"
			  " threads, router, scorer, source, backend, isa, execute, ladder, model, machine, format,"
			  " point_key, run_id, message) VALUES (?1,?2,?3,?4,'running',?5,?6,?7,?8,?9,?10,?11,?12,?13,"
			  "?14,?15,?16,?17,?18,?19, (SELECT ?20 WHERE NOT EXISTS (SELECT 1 FROM run WHERE run_id = ?20)), ?21)",
			  &stmt, err) != 0)
		return -1;
	store_utc(utc);
	snprintf(seed, sizeof seed, "%016llx", (unsigned long long)run->seed);
	snprintf(params, sizeof params, "%016llx", (unsigned long long)hash_params(run));
	sqlite3_bind_int64(stmt, 1, scenario);
	sqlite3_bind_int64(stmt, 2, s->env_id);
	bind(stmt, 3, run->name ? run->name : "");
	bind(stmt, 4, run->point ? run->point : "");
	bind(stmt, 5, utc);
	bind(stmt, 6, seed);
	bind(stmt, 7, params);
	sqlite3_bind_int(stmt, 8, run->threads);
	for (int i = 0; i < 10; i++)
		bind(stmt, 9 + i, texts[i]);
	bind(stmt, 19, run->point_key);
	bind(stmt, 21, run->message);
	if (run->run_id > 0) /* NULL takes the next number, and so does a number that is taken */
		sqlite3_bind_int64(stmt, 20, run->run_id);
	return finish(s, stmt, err);
}

/* Foreign keys, which cost a look-up a row else, take the rows of these runs with them. */
int store_delete_runs(struct store *s, const char *where, struct ikv_err *err)
{
	char *sql = sqlite3_mprintf("DELETE FROM main.run WHERE %s", where);
	int rc = sql ? store_begin(s, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_FKEY, 1, NULL);
	if (rc == 0)
		rc = store_exec(s->db, s->path, sql, err);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_ENABLE_FKEY, 0, NULL);
	sqlite3_free(sql);
	return rc;
}

int store_env(struct store *s, struct ikv_err *err)
{
	return s->env_id ? 0 : write_env(s, err);
}

int store_run_begin(struct store *s, const struct store_run *run, int64_t *run_id, struct ikv_err *err)
{
	int64_t scenario;
	if (store_settle(&s, err) != 0)
		return -1;
	if (s->spool) {
		*run_id = 0;
		return spool_run(s, run, err);
	}
	if (store_commit(s, err) != 0 || store_begin(s, err) != 0)
		return -1;
	int64_t env = s->env_id;
	if (store_env(s, err) != 0 || write_scenario(s, run, &scenario, err) != 0 ||
	    write_run(s, run, scenario, err) != 0)
		goto fail;
	*run_id = sqlite3_last_insert_rowid(s->db);
	store_forget_sums(s);
	s->summed = *run_id;
	if (write_params(s, *run_id, run, err) != 0)
		goto fail;
	return store_commit(s, err);
fail:
	store_batch_drop(s);
	sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	s->open = false;
	s->env_id = env;
	return -1;
}

/* Where its settings come from, as the scenario of today has them; their values are the same. */
static int adopt_params(struct store *s, const struct store_run *run, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	int rc = 0;
	if (store_prepare(s, "UPDATE run_param SET origin = ?3 WHERE run_id = ?1 AND key = ?2", &stmt, err) != 0)
		return -1;
	for (uint32_t i = 0; i < run->param_count && rc == 0; i++) {
		sqlite3_bind_int64(stmt, 1, run->run_id);
		bind(stmt, 2, run->params[i].key);
		bind(stmt, 3, run->params[i].origin);
		rc = store_step_stmt(s, stmt, err);
	}
	sqlite3_finalize(stmt);
	return rc;
}

int store_run_adopt(struct store *s, const struct store_run *run, struct ikv_err *err)
{
	int64_t scenario;
	sqlite3_stmt *stmt;
	if (store_begin(s, err) != 0 || write_scenario(s, run, &scenario, err) != 0 ||
	    store_prepare(s,
			  "UPDATE run SET scenario_id = ?2, name = ?3, point = ?4 WHERE run_id = ?1"
			  " AND (scenario_id, name, point) IS NOT (?2, ?3, ?4)",
			  &stmt, err) != 0)
		return -1;
	sqlite3_bind_int64(stmt, 1, run->run_id);
	sqlite3_bind_int64(stmt, 2, scenario);
	bind(stmt, 3, run->name ? run->name : "");
	bind(stmt, 4, run->point ? run->point : "");
	if (finish(s, stmt, err) != 0)
		return -1;
	return sqlite3_changes(s->db) ? adopt_params(s, run, err) : 0;
}

int store_run_message(struct store *s, int64_t run_id, const char *message, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (store_settle(&s, err) != 0 || store_begin(s, err) != 0 ||
	    store_prepare(s, "UPDATE run SET message = ? WHERE run_id = ?", &stmt, err) != 0)
		return -1;
	bind(stmt, 1, message);
	sqlite3_bind_int64(stmt, 2, run_id);
	return finish(s, stmt, err);
}

/* The commit that marks the run holds its roll-ups; it is synced, and with it everything in the log before it. */
struct run_end {
	int64_t run_id;
	const char *status;
	uint64_t wall_ns;
};

static int end_run(struct store *s, void *arg, struct ikv_err *err)
{
	const struct run_end *e = arg;
	char utc[32];
	sqlite3_stmt *stmt;
	/* SQLite refuses the pragma inside a transaction. */
	if (store_commit(s, err) != 0 || store_exec(s->db, s->path, "PRAGMA synchronous=FULL", err) != 0 ||
	    store_begin(s, err) != 0)
		return -1;
	if (store_prepare(s,
			  "UPDATE run SET status = ?, ended_utc = ?, wall_ns = ?, message = nullif(message, ?)"
			  " WHERE run_id = ?",
			  &stmt, err) != 0)
		return -1;
	store_utc(utc);
	bind(stmt, 1, e->status);
	bind(stmt, 2, utc);
	sqlite3_bind_int64(stmt, 3, (int64_t)e->wall_ns);
	bind(stmt, 4, STORE_TAKEN_IN_PART);
	sqlite3_bind_int64(stmt, 5, e->run_id);
	int rc = finish(s, stmt, err);
	if (rc == 0 && sqlite3_changes(s->db) != 1)
		rc = ikv_err_set(err, IKV_FAILED, "%s: there is no run %lld", s->path, (long long)e->run_id);
	if (rc == 0)
		rc = s->sums && e->run_id == s->summed ? store_rollup_write(s->db, s->path, e->run_id, s->sums, err)
						       : store_rollup(s->db, s->path, e->run_id, err);
	store_forget_sums(s);
	if (store_commit(s, rc == 0 ? err : NULL) != 0)
		rc = -1;
	sqlite3_exec(s->db, "PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
	return rc;
}

int store_run_end(struct store *s, int64_t run_id, const char *status, uint64_t wall_ns, struct ikv_err *err)
{
	struct run_end e = {run_id, status, wall_ns};
	return store_call(s, end_run, &e, err);
}
