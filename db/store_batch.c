/* Rows on their way into a table. They wait as records of SQLite's file format in a database in memory, and all of a
 * transaction go in by
 *     INSERT INTO step SELECT * FROM batch.step
 * which copies a record as it is where both tables are defined alike and the target has no unique index beside its row
 * number (SQLite's transfer optimization). That costs a third of a statement that takes and checks 77 values. The
 * other tables, with a key of their own, are read column by column: about what bound values cost. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "store_image.h"
#include "store_internal.h"

enum { TREE_STEP, TREE_KEY, TREE_ROLE, TREE_LAYER, TREE_PREFILL, TREES };
static const int tree_of[STORE_ROW_COUNT] = {[STORE_ROW_STEP] = TREE_STEP,
					     [STORE_ROW_ROLE] = TREE_ROLE,
					     [STORE_ROW_LAYER] = TREE_LAYER,
					     [STORE_ROW_PREFILL] = TREE_PREFILL};

struct key { /* of a step */
	int64_t run, session, step, id;
};
struct store_batch {
	struct image *image;
	sqlite3_stmt *insert[STORE_ROW_COUNT], *last_id, *last_step, *find_step;
	int64_t count[STORE_ROW_COUNT];
	int64_t id;       /* of the newest step */
	struct key *keys; /* of the steps that wait; owned */
	size_t key_cap;
	bool in_order;
};

static void hex_digits(char hex[16], uint64_t value)
{
	for (int k = 15; k >= 0; k--, value >>= 4)
		hex[k] = "0123456789abcdef"[value & 15];
}

/* What is not set is NULL: -1, NaN and no text. */
static int encode(struct image_record *r, const struct store_table *t, const unsigned char *row, struct ikv_err *err)
{
	for (int i = 0; i < t->count; i++) {
		const void *value = row + t->columns[i].offset;
		const char *text = NULL;
		char hex[16];
		switch (t->columns[i].type) {
		case STORE_INT:
			if (*(const int64_t *)value == -1)
				image_null(r);
			else
				image_int(r, *(const int64_t *)value);
			continue;
		case STORE_REAL:
			image_real(r, *(const double *)value);
			continue;
		case STORE_HEX:
			hex_digits(hex, *(const uint64_t *)value);
			image_text(r, hex, sizeof hex);
			continue;
		case STORE_TEXT:
			text = *(const char *const *)value;
			break;
		case STORE_KIND:
			text = ikv_kind_name(*(const enum ikv_kind *)value);
			break;
		}
		size_t size = text ? strlen(text) : 0;
		if (size > STORE_TEXT_MAX)
			return ikv_err_set(err, IKV_BAD_INPUT, "%s.%s: the text is longer than %d bytes", t->name,
					   t->columns[i].name, STORE_TEXT_MAX);
		if (text)
			image_text(r, text, size);
		else
			image_null(r);
	}
	return 0;
}

/* The definition of `name` in the file; sqlite3_malloc, NULL where there is none. */
static char *definition(struct store *s, const char *name, struct ikv_err *err)
{
	sqlite3_stmt *stmt;
	char *text = NULL;
	if (store_prepare(s, "SELECT sql FROM main.sqlite_schema WHERE name = ?", &stmt, err) != 0)
		return NULL;
	sqlite3_bind_text(stmt, 1, name, -1, SQLITE_STATIC);
	if (sqlite3_step(stmt) == SQLITE_ROW)
		text = sqlite3_mprintf("%s", (const char *)sqlite3_column_text(stmt, 0));
	sqlite3_finalize(stmt);
	if (!text)
		ikv_err_set(err, IKV_BAD_INPUT, "%s: %s is missing", s->path, name);
	return text;
}

/* A table of these columns without a key; sqlite3_malloc. */
static char *plain_table(int which)
{
	const struct store_table *t = &store_tables[which];
	sqlite3_str *sql = sqlite3_str_new(NULL);
	for (int i = 0; i < t->count; i++)
		sqlite3_str_appendf(sql, "%s%s", i ? ", " : "", t->columns[i].name);
	char *columns = sqlite3_str_finish(sql);
	char *text = columns ? sqlite3_mprintf("CREATE TABLE %s (%s)", t->name, columns) : NULL;
	sqlite3_free(columns);
	return text;
}

static int prepare_all(struct store *s, struct ikv_err *err)
{
	struct store_batch *b = s->batch;
	char sql[100];
	int rc = 0;
	for (int i = 0; i < STORE_ROW_COUNT && rc == 0; i++) {
		sqlite3_snprintf(sizeof sql, sql, "INSERT INTO main.%s SELECT * FROM batch.%s", store_tables[i].name,
				 store_tables[i].name);
		if (i != STORE_ROW_SESSION)
			rc = store_prepare(s, sql, &b->insert[i], err);
	}
	if (rc == 0)
		rc = store_prepare(s, "SELECT max(step_id) FROM main.step", &b->last_id, err);
	if (rc == 0)
		rc = store_prepare(s, "SELECT max(step) FROM main.step WHERE run_id = ? AND session = ?", &b->last_step,
				   err);
	if (rc == 0)
		rc = store_prepare(s, "SELECT step FROM main.step WHERE run_id = ? AND session = ? AND step = ?",
				   &b->find_step, err);
	return rc;
}

int store_batch_open(struct store *s, struct ikv_err *err)
{
	struct store_batch *b = s->batch = ikv_alloc(1, sizeof *b, err);
	if (!b)
		return -1;
	char *step = definition(s, "step", err), *key = step ? definition(s, "step_by_key", err) : NULL,
	     *plain[STORE_ROW_COUNT] = {NULL};
	struct image_tree trees[TREES] = {[TREE_STEP] = {"table", "step", "step", step},
					  [TREE_KEY] = {"index", "step_by_key", "step", key}};
	int rc = step && key ? 0 : -1;
	for (int i = 0; i < STORE_ROW_COUNT && rc == 0; i++) {
		const char *name = store_tables[i].name;
		if (i == STORE_ROW_SESSION || i == STORE_ROW_STEP)
			continue;
		trees[tree_of[i]] = (struct image_tree){"table", name, name, plain[i] = plain_table(i)};
		if (!plain[i])
			rc = ikv_err_set(err, IKV_FAILED, "out of memory");
	}
	if (rc == 0)
		rc = image_open(&b->image, s->db, trees, TREES, err);
	if (rc == 0)
		rc = prepare_all(s, err);
	for (int i = 0; i < STORE_ROW_COUNT; i++)
		sqlite3_free(plain[i]);
	sqlite3_free(step);
	sqlite3_free(key);
	b->in_order = true;
	return rc;
}

static void clear(struct store_batch *b)
{
	image_clear(b->image);
	memset(b->count, 0, sizeof b->count);
	b->in_order = true;
}

/* Number of the newest step in the file; in its transaction, so that none comes between. */
static int find_id(struct store *s, struct ikv_err *err)
{
	struct store_batch *b = s->batch;
	int rc = sqlite3_step(b->last_id);
	b->id = rc == SQLITE_ROW ? sqlite3_column_int64(b->last_id, 0) : 0;
	sqlite3_reset(b->last_id);
	return rc == SQLITE_ROW ? 0 : store_fail(s->db, s->path, "cannot read", err);
}

static int by_key(const void *a, const void *b)
{
	const struct key *x = a, *y = b;
	if (x->run != y->run)
		return x->run < y->run ? -1 : 1;
	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	if (x->step != y->step)
		return x->step < y->step ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int keep_key(struct store_batch *b, const struct store_step *row, struct ikv_err *err)
{
	size_t n = (size_t)b->count[STORE_ROW_STEP];
	if (row->run_id == -1 || row->session == -1 || row->step == -1) /* copied records are not checked for NULL */
		return ikv_err_set(err, IKV_BAD_INPUT, "a step without its run, session or number");
	if (n == b->key_cap) {
		size_t cap = n ? 2 * n : 1024;
		if (ikv_grow(&b->keys, n, cap, sizeof *b->keys, err) != 0)
			return -1;
		b->key_cap = cap;
	}
	b->keys[n] = (struct key){row->run_id, row->session, row->step, b->id};
	b->in_order = b->in_order && (n == 0 || by_key(&b->keys[n - 1], &b->keys[n]) < 0);
	return 0;
}

int store_batch_add(struct store *s, int which, const void *row, struct ikv_err *err)
{
	struct image_record r;
	r.head_size = r.body_size = 0;
	struct store_batch *b = s->batch;
	int64_t *count = &b->count[which], number = *count + 1;
	if (which == STORE_ROW_STEP) {
		if (*count == 0 && find_id(s, err) != 0)
			return -1;
		number = ++b->id;
		image_null(&r); /* step_id: the row's number itself */
		if (keep_key(b, row, err) != 0)
			return -1;
	}
	if (encode(&r, &store_tables[which], row, err) != 0 ||
	    image_put(b->image, tree_of[which], number, &r, err) != 0)
		return -1;
	++*count;
	return 0;
}

/* The one number that a query for this key gives; -1: none. */
static int ask(struct store *s, sqlite3_stmt *stmt, const struct key *k, int64_t *value, struct ikv_err *err)
{
	sqlite3_bind_int64(stmt, 1, k->run);
	sqlite3_bind_int64(stmt, 2, k->session);
	sqlite3_bind_int64(stmt, 3, k->step); /* refused, which is no harm, where there are two parameters */
	int rc = sqlite3_step(stmt);
	*value = rc == SQLITE_ROW && sqlite3_column_type(stmt, 0) != SQLITE_NULL ? sqlite3_column_int64(stmt, 0) : -1;
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return store_fail(s->db, s->path, "cannot read", err);
	sqlite3_reset(stmt);
	return 0;
}

/* No unique index guards the key. Steps of a session come in order: it is looked up once a session, and where what comes
 * is not beyond it, once a step. `keys` are sorted. */
static int check_keys(struct store *s, const struct key *keys, size_t n, struct ikv_err *err)
{
	int64_t last = -1, there;
	for (size_t i = 0; i < n; i++) {
		const struct key *k = &keys[i];
		bool same = i > 0 && k[-1].run == k->run && k[-1].session == k->session;
		if (!same && ask(s, s->batch->last_step, k, &last, err) != 0)
			return -1;
		there = same && k[-1].step == k->step ? k->step : -1;
		if (there == -1 && k->step <= last && ask(s, s->batch->find_step, k, &there, err) != 0)
			return -1;
		if (there != -1)
			return ikv_err_set(err, IKV_BAD_INPUT, "%s: run %lld has step %lld of session %lld twice", s->path,
					   (long long)k->run, (long long)k->step, (long long)k->session);
	}
	return 0;
}

static int put_keys(struct store *s, struct ikv_err *err)
{
	struct store_batch *b = s->batch;
	size_t n = (size_t)b->count[STORE_ROW_STEP];
	if (!b->in_order)
		qsort(b->keys, n, sizeof *b->keys, by_key);
	int rc = check_keys(s, b->keys, n, err);
	for (size_t i = 0; i < n && rc == 0; i++) {
		struct image_record r;
		r.head_size = r.body_size = 0;
		image_int(&r, b->keys[i].run);
		image_int(&r, b->keys[i].session);
		image_int(&r, b->keys[i].step);
		image_int(&r, b->keys[i].id);
		rc = image_put(b->image, TREE_KEY, 0, &r, err);
	}
	return rc;
}

/* The batch is empty afterwards, also where it could not be written. */
int store_batch_write(struct store *s, struct ikv_err *err)
{
	struct store_batch *b = s->batch;
	int rc = put_keys(s, err);
	if (rc == 0)
		rc = image_finish(b->image, err);
	for (int i = 0; i < STORE_ROW_COUNT && rc == 0; i++)
		if (b->count[i])
			rc = store_step_stmt(s, b->insert[i], err);
	clear(b);
	if (rc != 0)
		store_forget_sums(s);
	return rc;
}

void store_batch_drop(struct store *s)
{
	clear(s->batch);
	store_forget_sums(s);
}

void store_batch_end(struct store *s)
{
	for (int i = 0; i < STORE_ROW_COUNT && s->batch; i++)
		sqlite3_finalize(s->batch->insert[i]);
	if (s->batch) {
		sqlite3_finalize(s->batch->last_id);
		sqlite3_finalize(s->batch->last_step);
		sqlite3_finalize(s->batch->find_step);
	}
}

void store_batch_free(struct store *s)
{
	struct store_batch *b = s->batch;
	if (!b)
		return;
	image_free(b->image);
	ikv_free(b->keys);
	ikv_free(b);
	s->batch = NULL;
}
