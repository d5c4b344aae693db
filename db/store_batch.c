/* Rows on their way into a table. They wait as structs and go in many at a time, by
 *     INSERT INTO step (...) SELECT ... FROM batch_step
 * where batch_step is a virtual table of this connection that shows the waiting structs. That costs about two thirds
 * of a statement and a bound value per column and row. Columns that were always empty or 0 so far, and those of one
 * value in every batch, together about half of them in most runs, are not read from the structs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "store_internal.h"

/* Rows of a batch fit the second-level cache. */
enum { BATCH_BYTES = 64 << 10, COLUMNS_MAX = 128 };

/* In the order in which a column goes through them, as far as its values make it. */
enum source { ALL_NULL, ALL_ZERO, ONE_A_BATCH, EVERY_ROW };

struct store_batch {
	const struct store_table *table;
	uint32_t count, capacity;
	bool begun; /* one was written */
	unsigned char source[COLUMNS_MAX]; /* where a column's values come from: enum source */
	sqlite3_stmt *insert;              /* for `source` as it is; NULL: not yet made */
	char **texts;         /* that the rows point to; owned, as the next */
	uint32_t text_count, text_cap;
	unsigned char *rows;
};

struct table {
	sqlite3_vtab base;
	const struct store_batch *batch;
};
struct cursor {
	sqlite3_vtab_cursor base;
	const struct store_batch *batch;
	uint32_t at;
	char hex[16]; /* of the one hash of a row: SQLite has taken it before the next row */
};

static const void *field(const struct store_batch *b, uint32_t row, int column)
{
	return b->rows + row * b->table->row_bytes + b->table->columns[column].offset;
}

static void hex_digits(char hex[16], uint64_t value)
{
	for (int k = 15; k >= 0; k--, value >>= 4)
		hex[k] = "0123456789abcdef"[value & 15];
}

static int connect(sqlite3 *db, void *aux, int argc, const char *const *argv, sqlite3_vtab **out, char **message)
{
	const struct store_batch *b = aux;
	(void)argc, (void)argv, (void)message;
	sqlite3_str *sql = sqlite3_str_new(db);
	sqlite3_str_appendall(sql, "CREATE TABLE batch (");
	for (int i = 0; i < b->table->count; i++)
		sqlite3_str_appendf(sql, "%s%s", i ? ", " : "", b->table->columns[i].name);
	sqlite3_str_appendall(sql, ")");
	char *text = sqlite3_str_finish(sql);
	int rc = text ? sqlite3_declare_vtab(db, text) : SQLITE_NOMEM;
	sqlite3_free(text);
	struct table *t = rc == SQLITE_OK ? calloc(1, sizeof *t) : NULL;
	if (!t)
		return rc == SQLITE_OK ? SQLITE_NOMEM : rc;
	t->batch = b;
	*out = &t->base;
	return SQLITE_OK;
}

static int disconnect(sqlite3_vtab *t)
{
	free(t);
	return SQLITE_OK;
}

static int best_index(sqlite3_vtab *t, sqlite3_index_info *info)
{
	(void)t, (void)info; /* all rows, in order */
	return SQLITE_OK;
}

static int open_cursor(sqlite3_vtab *t, sqlite3_vtab_cursor **out)
{
	struct cursor *c = calloc(1, sizeof *c);
	if (!c)
		return SQLITE_NOMEM;
	c->batch = ((struct table *)t)->batch;
	*out = &c->base;
	return SQLITE_OK;
}

static int close_cursor(sqlite3_vtab_cursor *c)
{
	free(c);
	return SQLITE_OK;
}

static int rewind_cursor(sqlite3_vtab_cursor *c, int index, const char *name, int argc, sqlite3_value **argv)
{
	(void)index, (void)name, (void)argc, (void)argv;
	((struct cursor *)c)->at = 0;
	return SQLITE_OK;
}

static int next_row(sqlite3_vtab_cursor *c)
{
	((struct cursor *)c)->at++;
	return SQLITE_OK;
}

static int at_end(sqlite3_vtab_cursor *c)
{
	return ((struct cursor *)c)->at >= ((struct cursor *)c)->batch->count;
}

/* What is not set is NULL: -1, NaN (by sqlite3_result_double) and no text. */
static int column(sqlite3_vtab_cursor *cursor, sqlite3_context *out, int i)
{
	struct cursor *c = (struct cursor *)cursor;
	const void *value = field(c->batch, c->at, i);
	const char *text = NULL;
	switch (c->batch->table->columns[i].type) {
	case STORE_INT:
		if (*(const int64_t *)value != -1)
			sqlite3_result_int64(out, *(const int64_t *)value);
		return SQLITE_OK;
	case STORE_REAL:
		sqlite3_result_double(out, *(const double *)value);
		return SQLITE_OK;
	case STORE_HEX:
		hex_digits(c->hex, *(const uint64_t *)value);
		sqlite3_result_text(out, c->hex, sizeof c->hex, SQLITE_STATIC);
		return SQLITE_OK;
	case STORE_TEXT:
		text = *(const char *const *)value;
		break;
	case STORE_KIND:
		text = ikv_kind_name(*(const enum ikv_kind *)value);
		break;
	}
	if (text)
		sqlite3_result_text(out, text, -1, SQLITE_STATIC);
	return SQLITE_OK;
}

static int row_number(sqlite3_vtab_cursor *c, sqlite3_int64 *out)
{
	*out = ((struct cursor *)c)->at;
	return SQLITE_OK;
}

/* Without xCreate it is there without CREATE VIRTUAL TABLE, and in no file. */
static const sqlite3_module module = {.xConnect = connect,
				      .xDisconnect = disconnect,
				      .xBestIndex = best_index,
				      .xOpen = open_cursor,
				      .xClose = close_cursor,
				      .xFilter = rewind_cursor,
				      .xNext = next_row,
				      .xEof = at_end,
				      .xColumn = column,
				      .xRowid = row_number};

static int make_batch(struct store *s, int which, struct ikv_err *err)
{
	struct store_batch *b = ikv_alloc(1, sizeof *b, err);
	char name[64];
	if (!b)
		return -1;
	s->batch[which] = b;
	b->table = &store_tables[which];
	b->rows = ikv_alloc(BATCH_BYTES / b->table->row_bytes, b->table->row_bytes, err);
	if (!b->rows)
		return -1;
	b->capacity = (uint32_t)(BATCH_BYTES / b->table->row_bytes);
	sqlite3_snprintf(sizeof name, name, "batch_%s", b->table->name);
	if (sqlite3_create_module(s->db, name, &module, b) != SQLITE_OK)
		return store_fail(s->db, s->path, "cannot prepare a statement", err);
	return 0;
}

static void clear(struct store_batch *b)
{
	b->count = 0;
	while (b->text_count)
		sqlite3_free(b->texts[--b->text_count]);
}

/* The caller's text may be gone when the batch is written. Most are the same as the one before. */
static int keep_text(struct store_batch *b, const char **text, struct ikv_err *err)
{
	if (!*text)
		return 0;
	if (b->text_count && strcmp(b->texts[b->text_count - 1], *text) == 0) {
		*text = b->texts[b->text_count - 1];
		return 0;
	}
	if (b->text_count == b->text_cap) {
		uint32_t cap = b->text_cap ? 2 * b->text_cap : 16;
		if (ikv_grow(&b->texts, b->text_cap, cap, sizeof *b->texts, err) != 0)
			return -1;
		b->text_cap = cap;
	}
	char *copy = sqlite3_mprintf("%s", *text);
	if (!copy)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	b->texts[b->text_count++] = copy;
	*text = copy;
	return 0;
}

static bool same(enum store_type type, const void *a, const void *b)
{
	if (type == STORE_KIND)
		return *(const enum ikv_kind *)a == *(const enum ikv_kind *)b;
	if (type != STORE_TEXT) { /* bits, so that NaN is the same */
		uint64_t x, y;
		memcpy(&x, a, sizeof x);
		memcpy(&y, b, sizeof y);
		return x == y;
	}
	const char *x = *(const char *const *)a, *y = *(const char *const *)b;
	return x == y || (x && y && strcmp(x, y) == 0);
}

/* What the first row of a batch asks for. */
static enum source source_of(enum store_type type, const void *value)
{
	if (type == STORE_INT)
		return *(const int64_t *)value == 0 ? ALL_ZERO : *(const int64_t *)value == -1 ? ALL_NULL : ONE_A_BATCH;
	if (type == STORE_REAL)
		return *(const double *)value == 0 ? ALL_ZERO : isnan(*(const double *)value) ? ALL_NULL : ONE_A_BATCH;
	return type == STORE_TEXT && !*(const char *const *)value ? ALL_NULL : ONE_A_BATCH;
}

/* Sources never go back, so that statements are made anew a few times only. */
static void find_sources(struct store_batch *b)
{
	for (int i = 0; i < b->table->count; i++) {
		enum store_type type = b->table->columns[i].type;
		if (b->source[i] == EVERY_ROW)
			continue;
		enum source first = source_of(type, field(b, 0, i)), is = b->source[i];
		if (b->begun && first != is)
			is = ONE_A_BATCH;
		else if (!b->begun)
			is = first;
		for (uint32_t row = 1; row < b->count && is != EVERY_ROW; row++)
			if (!same(type, field(b, 0, i), field(b, row, i)))
				is = EVERY_ROW;
		if (is == b->source[i])
			continue;
		b->source[i] = (unsigned char)is;
		sqlite3_finalize(b->insert);
		b->insert = NULL;
	}
	b->begun = true;
}

static int prepare(struct store *s, struct store_batch *b, struct ikv_err *err)
{
	const struct store_table *t = b->table;
	sqlite3_str *sql = sqlite3_str_new(s->db);
	sqlite3_str_appendf(sql, "INSERT INTO %s (", t->name);
	for (int i = 0; i < t->count; i++)
		sqlite3_str_appendf(sql, "%s%s", i ? ", " : "", t->columns[i].name);
	sqlite3_str_appendall(sql, ") SELECT ");
	for (int i = 0; i < t->count; i++) {
		sqlite3_str_appendall(sql, i ? ", " : "");
		if (b->source[i] == ONE_A_BATCH)
			sqlite3_str_appendf(sql, "?%d", i + 1);
		else
			sqlite3_str_appendall(sql, b->source[i] == EVERY_ROW  ? t->columns[i].name
						   : b->source[i] == ALL_ZERO ? "0"
									      : "NULL");
	}
	sqlite3_str_appendf(sql, " FROM batch_%s", t->name);
	char *text = sqlite3_str_finish(sql);
	if (!text)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	int rc = store_prepare(s, text, &b->insert, err);
	sqlite3_free(text);
	return rc;
}

static void bind_first(struct store_batch *b, char hex[16])
{
	for (int i = 0; i < b->table->count; i++) {
		const void *value = field(b, 0, i);
		if (b->source[i] != ONE_A_BATCH)
			continue;
		switch (b->table->columns[i].type) {
		case STORE_INT:
			if (*(const int64_t *)value == -1)
				sqlite3_bind_null(b->insert, i + 1);
			else
				sqlite3_bind_int64(b->insert, i + 1, *(const int64_t *)value);
			break;
		case STORE_REAL:
			sqlite3_bind_double(b->insert, i + 1, *(const double *)value); /* NaN binds NULL */
			break;
		case STORE_HEX:
			hex_digits(hex, *(const uint64_t *)value);
			sqlite3_bind_text(b->insert, i + 1, hex, 16, SQLITE_STATIC);
			break;
		case STORE_TEXT:
			sqlite3_bind_text(b->insert, i + 1, *(const char *const *)value, -1, SQLITE_STATIC);
			break;
		case STORE_KIND:
			sqlite3_bind_text(b->insert, i + 1, ikv_kind_name(*(const enum ikv_kind *)value), -1,
					  SQLITE_STATIC);
			break;
		}
	}
}

/* The batch is empty afterwards, also where it could not be written. */
static int write_batch(struct store *s, struct store_batch *b, struct ikv_err *err)
{
	char hex[16];
	if (b->count == 0)
		return 0;
	find_sources(b);
	int rc = b->insert ? 0 : prepare(s, b, err);
	if (rc == 0) {
		bind_first(b, hex);
		rc = store_step_stmt(s, b->insert, err);
		sqlite3_clear_bindings(b->insert); /* they point into the batch */
	}
	clear(b);
	if (rc != 0)
		store_forget_sums(s);
	return rc;
}

int store_batch_add(struct store *s, int which, const void *row, struct ikv_err *err)
{
	if (!s->batch[which] && make_batch(s, which, err) != 0)
		return -1;
	struct store_batch *b = s->batch[which];
	if (b->count == b->capacity && write_batch(s, b, err) != 0)
		return -1;
	unsigned char *to = b->rows + b->count * b->table->row_bytes;
	memcpy(to, row, b->table->row_bytes);
	for (int i = 0; i < b->table->text_count; i++)
		if (keep_text(b, (const char **)(to + b->table->texts[i]), err) != 0)
			return -1;
	b->count++;
	return 0;
}

int store_batch_write(struct store *s, struct ikv_err *err)
{
	int rc = 0;
	for (int i = 0; i < STORE_ROW_COUNT; i++)
		if (s->batch[i] && write_batch(s, s->batch[i], rc == 0 ? err : NULL) != 0)
			rc = -1;
	return rc;
}

void store_batch_drop(struct store *s)
{
	for (int i = 0; i < STORE_ROW_COUNT; i++)
		if (s->batch[i])
			clear(s->batch[i]);
	store_forget_sums(s);
}

void store_batch_free(struct store *s)
{
	for (int i = 0; i < STORE_ROW_COUNT; i++) {
		struct store_batch *b = s->batch[i];
		if (!b)
			continue;
		clear(b);
		sqlite3_finalize(b->insert);
		ikv_free(b->texts);
		ikv_free(b->rows);
		ikv_free(b);
		s->batch[i] = NULL;
	}
}
