/* Spools: the rows of one run as records in a file without a name, written by the process that plays it and read
 * by the one that has the database. A record is a type, a row struct as it lies in memory, and its texts; both
 * processes are the same program, so layouts agree. Pointers in the structs only say whether there is a text. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "store_internal.h"

enum { SPOOL_RUN = STORE_ROW_COUNT, SPOOL_BLOCK, SPOOL_PAGE, SPOOL_BUFFER = 1 << 18 };

struct spool {
	int fd;
	uint64_t bytes, steps;
	double read_bytes, dense_bytes;
	double *errors; /* rel_l2 of the steps that have it; owned */
	size_t error_count, error_cap, used;
	unsigned char buffer[SPOOL_BUFFER];
};

static const size_t text_at_run[] = {
    offsetof(struct store_run, name),          offsetof(struct store_run, scenario_path),
    offsetof(struct store_run, scenario_text), offsetof(struct store_run, point),
    offsetof(struct store_run, router),        offsetof(struct store_run, scorer),
    offsetof(struct store_run, source),        offsetof(struct store_run, backend),
    offsetof(struct store_run, isa),           offsetof(struct store_run, execute),
    offsetof(struct store_run, ladder),        offsetof(struct store_run, model),
    offsetof(struct store_run, machine),       offsetof(struct store_run, format),
};
enum { RUN_TEXTS = sizeof text_at_run / sizeof *text_at_run };

int store_spool_file(const char *path, int *fd, struct ikv_err *err)
{
	const char *slash = strrchr(path, '/');
	char *folder =
	    slash ? sqlite3_mprintf("%.*s", slash == path ? 1 : (int)(slash - path), path) : sqlite3_mprintf(".");
	char *name = folder ? sqlite3_mprintf("%s/.intentkv-spool-XXXXXX", folder) : NULL;
	int rc = 0;
	*fd = folder ? open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
	if (*fd < 0 && name) { /* a file system without nameless files */
		*fd = mkostemp(name, O_CLOEXEC);
		if (*fd >= 0)
			unlink(name);
	}
	if (*fd < 0)
		rc = ikv_err_set(err, IKV_CANT_CREATE, "%s: no file can be created beside it: %s", path,
				 strerror(errno));
	sqlite3_free(folder);
	sqlite3_free(name);
	return rc;
}

int store_spool_open(struct store **out, int fd, struct ikv_err *err)
{
	*out = NULL;
	if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0)
		return ikv_err_set(err, IKV_IO, "cannot empty the spool: %s", strerror(errno));
	struct store *s = ikv_alloc(1, sizeof *s, err);
	if (!s)
		return -1;
	s->lock_fd = -1;
	s->spool = ikv_alloc(1, sizeof *s->spool, err);
	if (!s->spool) {
		ikv_free(s);
		return -1;
	}
	s->spool->fd = fd;
	*out = s;
	return 0;
}

static int drain(struct spool *p, struct ikv_err *err)
{
	size_t at = 0;
	while (at < p->used) {
		ssize_t n = write(p->fd, p->buffer + at, p->used - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return ikv_err_set(err, IKV_IO, "cannot write the spool: %s", strerror(n ? errno : ENOSPC));
		at += (size_t)n;
	}
	p->used = 0;
	return 0;
}

static int put(struct spool *p, const void *data, size_t size, struct ikv_err *err)
{
	const unsigned char *from = data;
	p->bytes += size;
	while (size > 0) {
		size_t room = SPOOL_BUFFER - p->used, n = size < room ? size : room;
		memcpy(p->buffer + p->used, from, n);
		p->used += n;
		from += n;
		size -= n;
		if (p->used == SPOOL_BUFFER && drain(p, err) != 0)
			return -1;
	}
	return 0;
}

static int put_text(struct spool *p, const char *text, struct ikv_err *err)
{
	return text ? put(p, text, strlen(text) + 1, err) : 0;
}

static int put_head(struct spool *p, int type, const void *row, size_t size, struct ikv_err *err)
{
	unsigned char t = (unsigned char)type;
	return put(p, &t, 1, err) != 0 || put(p, row, size, err) != 0 ? -1 : 0;
}

int spool_run(struct store *s, const struct store_run *run, struct ikv_err *err)
{
	struct spool *p = s->spool;
	if (put_head(p, SPOOL_RUN, run, sizeof *run, err) != 0)
		return -1;
	for (int i = 0; i < RUN_TEXTS; i++)
		if (put_text(p, *(const char *const *)((const char *)run + text_at_run[i]), err) != 0)
			return -1;
	for (uint32_t i = 0; i < run->param_count; i++)
		if (put_text(p, run->params[i].key, err) != 0 || put_text(p, run->params[i].value, err) != 0 ||
		    put_text(p, run->params[i].origin, err) != 0)
			return -1;
	return 0;
}

static int count_step(struct spool *p, const struct store_step *row, struct ikv_err *err)
{
	p->steps++;
	p->read_bytes += (double)row->read_bytes;
	p->dense_bytes += (double)row->dense_bytes;
	if (isnan(row->rel_l2))
		return 0;
	if (p->error_count == p->error_cap) {
		size_t cap = p->error_cap ? 2 * p->error_cap : 256;
		double *grown = realloc(p->errors, cap * sizeof *grown);
		if (!grown)
			return ikv_err_set(err, IKV_FAILED, "out of memory");
		p->errors = grown;
		p->error_cap = cap;
	}
	p->errors[p->error_count++] = row->rel_l2;
	return 0;
}

int spool_row(struct store *s, int which, const void *row, struct ikv_err *err)
{
	const struct store_table *table = &store_tables[which];
	if (put_head(s->spool, which, row, table->row_bytes, err) != 0)
		return -1;
	for (int i = 0; i < table->text_count; i++)
		if (put_text(s->spool, *(const char *const *)((const char *)row + table->texts[i]), err) != 0)
			return -1;
	return which == STORE_ROW_STEP ? count_step(s->spool, row, err) : 0;
}

int spool_block_event(struct store *s, const struct store_block_event *row, struct ikv_err *err)
{
	return put_head(s->spool, SPOOL_BLOCK, row, sizeof *row, err) != 0 ||
		       put(s->spool, row->decision, sizeof *row->decision, err) != 0 ||
		       put_text(s->spool, row->block, err) != 0
		   ? -1
		   : 0;
}

struct page_record {
	int64_t session, step;
	struct ikv_action action;
};

int spool_page_event(struct store *s, int64_t session, int64_t step, const struct ikv_action *action,
		     struct ikv_err *err)
{
	struct page_record r;
	memset(&r, 0, sizeof r);
	r.session = session;
	r.step = step;
	r.action = *action;
	return put_head(s->spool, SPOOL_PAGE, &r, sizeof r, err);
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

int store_spool_close(struct store *s, uint64_t *bytes, struct store_figures *figures, struct ikv_err *err)
{
	struct spool *p = s->spool;
	int rc = drain(p, err);
	*bytes = p->bytes;
	figures->steps = p->steps;
	figures->read_share = p->dense_bytes > 0 ? p->read_bytes / p->dense_bytes : NAN;
	figures->rel_l2 = NAN;
	if (p->error_count) {
		qsort(p->errors, p->error_count, sizeof *p->errors, ascending);
		size_t low = (p->error_count - 1) / 2, high = p->error_count / 2;
		/* As median() of the queries, to the last bit. */
		figures->rel_l2 =
		    p->errors[low] + (double)(p->error_count - 1 - 2 * low) / 2 * (p->errors[high] - p->errors[low]);
	}
	free(p->errors);
	ikv_free(p);
	ikv_free(s);
	return rc;
}

/* Reading back. */
struct reader {
	FILE *f;
	uint64_t left;
	char *text[4096];
	uint32_t texts;
};

static int get(struct reader *r, void *to, size_t size, struct ikv_err *err)
{
	if (size > r->left || fread(to, 1, size, r->f) != size)
		return ikv_err_set(err, IKV_FAILED, "the spool of a run is incomplete");
	r->left -= size;
	return 0;
}

/* The next text, valid until the record is done. */
static int get_text(struct reader *r, const char **out, struct ikv_err *err)
{
	char *text = NULL;
	size_t size = 0;
	if (!*out)
		return 0;
	*out = NULL;
	if (r->texts == sizeof r->text / sizeof *r->text)
		return ikv_err_set(err, IKV_FAILED, "a record of the spool has too many texts");
	ssize_t n = getdelim(&text, &size, 0, r->f);
	if (n <= 0 || (uint64_t)n > r->left || text[n - 1]) {
		free(text);
		return ikv_err_set(err, IKV_FAILED, "the spool of a run is incomplete");
	}
	r->left -= (uint64_t)n;
	r->text[r->texts++] = text;
	*out = text;
	return 0;
}

static int take_run(struct store *s, struct reader *r, int64_t *run_id, const char *key, struct ikv_err *err)
{
	struct store_run run;
	if (get(r, &run, sizeof run, err) != 0)
		return -1;
	run.run_id = *run_id;
	run.point_key = key;
	for (int i = 0; i < RUN_TEXTS; i++)
		if (get_text(r, (const char **)((char *)&run + text_at_run[i]), err) != 0)
			return -1;
	struct store_param *params = ikv_alloc(run.param_count + 1, sizeof *params, err);
	int rc = params ? 0 : -1;
	for (uint32_t i = 0; rc == 0 && i < run.param_count; i++) {
		params[i] = (struct store_param){"", "", ""};
		if (get_text(r, &params[i].key, err) != 0 || get_text(r, &params[i].value, err) != 0 ||
		    get_text(r, &params[i].origin, err) != 0)
			rc = -1;
	}
	run.params = params;
	if (rc == 0)
		rc = store_run_begin(s, &run, run_id, err);
	ikv_free(params);
	return rc;
}

static int take_row(struct store *s, struct reader *r, int which, int64_t run_id, struct ikv_err *err)
{
	const struct store_table *table = &store_tables[which];
	union {
		struct store_session session;
		struct store_step step;
		struct store_role role;
		struct store_layer layer;
		int64_t run_id; /* first in all of them */
	} row;
	if (get(r, &row, table->row_bytes, err) != 0)
		return -1;
	for (int i = 0; i < table->text_count; i++)
		if (get_text(r, (const char **)((char *)&row + table->texts[i]), err) != 0)
			return -1;
	row.run_id = run_id;
	return which == STORE_ROW_SESSION ? store_session(s, &row.session, err)
	       : which == STORE_ROW_STEP  ? store_step(s, &row.step, err)
	       : which == STORE_ROW_ROLE  ? store_role(s, &row.role, err)
					  : store_layer(s, &row.layer, err);
}

static int take_event(struct store *s, struct reader *r, int type, int64_t run_id, struct ikv_err *err)
{
	if (type == SPOOL_PAGE) {
		struct page_record p;
		return get(r, &p, sizeof p, err) != 0 ||
			       store_page_event(s, run_id, p.session, p.step, &p.action, err) != 0
			   ? -1
			   : 0;
	}
	struct store_block_event row;
	struct ikv_decision decision;
	if (type != SPOOL_BLOCK)
		return ikv_err_set(err, IKV_FAILED, "the spool of a run is damaged");
	if (get(r, &row, sizeof row, err) != 0 || get(r, &decision, sizeof decision, err) != 0 ||
	    get_text(r, &row.block, err) != 0)
		return -1;
	row.run_id = run_id;
	row.decision = &decision;
	return store_block_event(s, &row, err);
}

static int take_records(struct store *s, struct reader *r, int64_t run_id, const char *key, uint64_t wall_ns,
			struct ikv_err *err)
{
	unsigned char type;
	int64_t id = run_id;
	int rc = 0;
	while (rc == 0 && r->left > 0) {
		rc = get(r, &type, 1, err);
		if (rc == 0)
			rc = type == SPOOL_RUN        ? take_run(s, r, &id, key, err)
			     : type < STORE_ROW_COUNT ? take_row(s, r, type, id, err)
						      : take_event(s, r, type, id, err);
		while (r->texts)
			free(r->text[--r->texts]);
	}
	return rc == 0 ? store_run_end(s, id, "done", wall_ns, err) : -1;
}

/* The transaction for one whole run. */
static int whole_begin(struct store *s, const char *key, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	if (store_commit(s, err) != 0 || store_exec(s->db, s->path, "PRAGMA synchronous=FULL", err) != 0 ||
	    store_begin(s, err) != 0)
		return -1;
	s->whole = true;
	if (!key)
		return 0;
	if (store_prepare(s, "DELETE FROM run WHERE point_key = ? AND status = 'failed'", &stmt, err) != 0)
		return -1;
	sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC);
	int rc = store_step_stmt(s, stmt, err);
	sqlite3_finalize(stmt);
	return rc;
}

static int whole_end(struct store *s, int rc)
{
	s->whole = false;
	if (rc != 0)
		store_batch_drop(s);
	if (rc != 0 && !sqlite3_get_autocommit(s->db)) {
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
		s->env_id = 0; /* its row may have gone with it */
	}
	if (rc != 0)
		s->open = false;
	sqlite3_exec(s->db, "PRAGMA synchronous=NORMAL", NULL, NULL, NULL);
	return rc;
}

int store_spool_take(struct store *s, int fd, uint64_t bytes, int64_t run_id, const char *point_key, uint64_t wall_ns,
		     struct ikv_err *err)
{
	struct reader *r = ikv_alloc(1, sizeof *r, err);
	if (!r)
		return -1;
	r->left = bytes;
	int copy = dup(fd);
	r->f = copy >= 0 && lseek(copy, 0, SEEK_SET) == 0 ? fdopen(copy, "rb") : NULL;
	int rc = r->f ? 0 : ikv_err_set(err, IKV_IO, "cannot read the spool: %s", strerror(errno));
	if (rc == 0)
		setvbuf(r->f, NULL, _IOFBF, SPOOL_BUFFER);
	if (rc == 0)
		rc = whole_end(s, whole_begin(s, point_key, err) != 0
				      ? -1
				      : take_records(s, r, run_id, point_key, wall_ns, err));
	if (r->f)
		fclose(r->f);
	else if (copy >= 0)
		close(copy);
	ikv_free(r);
	return rc;
}

int store_failed_run(struct store *s, const struct store_run *run, const char *message, uint64_t wall_ns,
		     struct ikv_err *err)
{
	int64_t id;
	return whole_end(s, whole_begin(s, run->point_key, err) != 0 || store_run_begin(s, run, &id, err) != 0 ||
				    store_run_message(s, id, message, err) != 0 ||
				    store_run_end(s, id, "failed", wall_ns, err) != 0
				? -1
				: 0);
}
