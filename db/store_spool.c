/* Spools: the rows of one run as records in a file without a name, written by the process that plays it and read
 * by the one that has the database; and the writing end of a thread's queue. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif
#include "store_spool.h"

enum { HAND_OVER_MS = 250, PREFETCHED = 512 };

const size_t spool_run_texts[SPOOL_RUN_TEXTS] = {
    offsetof(struct store_run, name),          offsetof(struct store_run, scenario_path),
    offsetof(struct store_run, scenario_text), offsetof(struct store_run, point),
    offsetof(struct store_run, router),        offsetof(struct store_run, scorer),
    offsetof(struct store_run, source),        offsetof(struct store_run, backend),
    offsetof(struct store_run, isa),           offsetof(struct store_run, execute),
    offsetof(struct store_run, ladder),        offsetof(struct store_run, model),
    offsetof(struct store_run, machine),       offsetof(struct store_run, format),
};
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
	s->spool = spool_new(err);
	if (!s->spool) {
		ikv_free(s);
		return -1;
	}
	s->spool->fd = fd;
	*out = s;
	return 0;
}

static int write_out(struct spool *p, struct ikv_err *err)
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

/* Where it fails too, the buffer is empty: what follows an error is not written. */
static int pass_on(struct spool *p, struct ikv_err *err)
{
	size_t used = p->used;
	if (!p->queue)
		return write_out(p, err);
	p->used = 0;
	return used ? queue_give(p->queue, &p->buffer, used, err) : 0;
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
		if (p->used == SPOOL_BUFFER && pass_on(p, err) != 0)
			return -1;
	}
	return 0;
}

static int put_text(struct spool *p, const char *text, struct ikv_err *err)
{
	return text ? put(p, text, strlen(text) + 1, err) : 0;
}

static int put_waiting(struct spool *p, struct ikv_err *err);
static int put_head(struct spool *p, int type, const void *row, size_t size, struct ikv_err *err)
{
	unsigned char t = (unsigned char)type;
	return put_waiting(p, err) != 0 || put(p, &t, 1, err) != 0 || put(p, row, size, err) != 0 ? -1 : 0;
}

int spool_run(struct store *s, const struct store_run *run, struct ikv_err *err)
{
	struct spool *p = s->spool;
	if (put_head(p, SPOOL_RUN, run, sizeof *run, err) != 0)
		return -1;
	for (int i = 0; i < SPOOL_RUN_TEXTS; i++)
		if (put_text(p, *(const char *const *)((const char *)run + spool_run_texts[i]), err) != 0)
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

int spool_drain(struct spool *p, struct ikv_err *err)
{
	int rc = put_waiting(p, err);
	return pass_on(p, rc == 0 ? err : NULL) != 0 ? -1 : rc;
}

/* Rows of slow steps do not wait until a buffer is full. */
static int hand_over(struct spool *p, struct ikv_err *err)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	int64_t now_ms = t.tv_sec * 1000LL + t.tv_nsec / 1000000;
	if (!p->since_ms)
		p->since_ms = now_ms;
	if (now_ms - p->since_ms < HAND_OVER_MS)
		return 0;
	p->since_ms = 0;
	return spool_drain(p, err);
}

/* Of `words` words those that differ from the row before, and a bit for each; returns the end. Branches are foreseen well:
 * it is the same columns again and again. */
static unsigned char *changed_words(unsigned char *bits, unsigned char *at, const unsigned char *row,
				    const unsigned char *before, size_t words)
{
	memset(bits, 0, (words + 7) / 8);
	for (size_t i = 0; i < words; i++) {
		uint64_t now, then;
		memcpy(&now, row + 8 * i, 8);
		memcpy(&then, before + 8 * i, 8);
		if (now == then)
			continue;
		memcpy(at, &now, 8);
		at += 8;
		bits[i / 8] |= (unsigned char)(1U << i % 8);
	}
	return at;
}

#ifdef __x86_64__
/* The same without branches, eight words at a time, which takes a quarter of the time. Writes up to a line beyond the end. */
__attribute__((target("avx512f"))) static unsigned char *
changed_words_avx512(unsigned char *bits, unsigned char *at, const unsigned char *row, const unsigned char *before, size_t words)
{
	for (size_t i = 0; i < words; i += 8) {
		__mmask8 there = (__mmask8)(words - i < 8 ? (1U << (words - i)) - 1 : 0xff);
		__m512i now = _mm512_maskz_loadu_epi64(there, row + 8 * i);
		__mmask8 changed = _mm512_cmpneq_epi64_mask(now, _mm512_maskz_loadu_epi64(there, before + 8 * i));
		_mm512_storeu_si512(at, _mm512_maskz_compress_epi64(changed, now));
		at += 8 * (size_t)__builtin_popcount(changed);
		*bits++ = changed;
	}
	return at;
}
#endif

/* Where a record fits into the buffer, as nearly all do, it is made there. */
static int put_row(struct spool *p, int which, const void *row, const void *before, struct ikv_err *err)
{
	size_t size = store_tables[which].row_bytes;
	unsigned char room[1 + 32 + sizeof(union spool_row) + SPOOL_LINE];
	bool fits = SPOOL_BUFFER - p->used > sizeof room;
	unsigned char *to = fits ? p->buffer + p->used : room, *at = to + 1 + spool_bits(size);
	*to = (unsigned char)which;
	at = p->changed_words(to + 1, at, row, before, size / 8);
	size_t n = (size_t)(at - to);
	if (!fits)
		return put(p, room, n, err);
	p->bytes += n;
	p->used += n;
	/* The next row's place comes from the other core's cache while the run goes on. */
	for (size_t k = SPOOL_LINE; k < PREFETCHED && p->used + k < SPOOL_BUFFER; k += SPOOL_LINE)
		__builtin_prefetch(p->buffer + p->used + k, 1);
	return 0;
}

struct spool *spool_new(struct ikv_err *err)
{
	struct spool *p = ikv_alloc(1, sizeof *p, err);
	if (!p || !(p->buffer = ikv_alloc(SPOOL_BUFFER, 1, err))) {
		ikv_free(p);
		return NULL;
	}
	p->fd = -1;
	p->changed_words = changed_words;
#ifdef __x86_64__
	if (strcmp(ikv_isa_selected(), "avx512") == 0)
		p->changed_words = changed_words_avx512;
#endif
	return p;
}

void spool_free(struct spool *p)
{
	if (p)
		ikv_free(p->buffer);
	ikv_free(p);
}

void spool_forget(struct spool *p)
{
	memset(p->before, 0, sizeof p->before);
	memset(p->rows, 0, sizeof p->rows);
	p->waits = false;
}

/* The step that waits becomes a record: not before the next is made, for a row whose words were just written cannot be
 * read as vectors until they have left the core's store queue. */
static int put_waiting(struct spool *p, struct ikv_err *err)
{
	if (!p->waits)
		return 0;
	p->waits = false;
	p->at ^= 1;
	return put_row(p, STORE_ROW_STEP, &p->rows[p->at ^ 1], &p->rows[p->at], err);
}

struct store_step *store_step_room(struct store *s, struct ikv_err *err)
{
	struct spool *p = s->spool;
	if (!p)
		return &s->room;
	return put_waiting(p, err) == 0 ? &p->rows[p->at] : NULL;
}

int spool_step(struct store *s, const struct store_step *row, struct ikv_err *err)
{
	struct spool *p = s->spool;
	if (put_waiting(p, err) != 0)
		return -1;
	if (row != &p->rows[p->at])
		memcpy(&p->rows[p->at], row, sizeof *row);
	p->waits = true;
	if (row->mass_by && (put_waiting(p, err) != 0 || put_text(p, row->mass_by, err) != 0)) /* it may not last */
		return -1;
	return p->queue ? hand_over(p, err) : count_step(p, row, err);
}

int spool_row(struct store *s, int which, const void *row, struct ikv_err *err)
{
	const struct store_table *table = &store_tables[which];
	struct spool *p = s->spool;
	if (put_waiting(p, err) != 0 || put_row(p, which, row, &p->before[which], err) != 0)
		return -1;
	memcpy(&p->before[which], row, table->row_bytes);
	for (int i = 0; i < table->text_count; i++)
		if (put_text(p, *(const char *const *)((const char *)row + table->texts[i]), err) != 0)
			return -1;
	return 0;
}

int spool_block_event(struct store *s, const struct store_block_event *row, struct ikv_err *err)
{
	return put_head(s->spool, SPOOL_BLOCK, row, sizeof *row, err) != 0 ||
		       put(s->spool, row->decision, sizeof *row->decision, err) != 0 ||
		       put_text(s->spool, row->block, err) != 0
		   ? -1
		   : 0;
}

int spool_page_event(struct store *s, int64_t run_id, int64_t session, int64_t step, const struct ikv_action *action,
		     struct ikv_err *err)
{
	struct spool_page r;
	memset(&r, 0, sizeof r);
	r.run_id = run_id;
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
	int rc = spool_drain(p, err);
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
	spool_free(p);
	ikv_free(s);
	return rc;
}

struct file_source {
	int fd;
	uint64_t left;
	off_t at;
	unsigned char buffer[SPOOL_BUFFER];
};

static int more_of_file(void *source, const unsigned char **at, size_t *size, struct ikv_err *err)
{
	struct file_source *f = source;
	size_t want = f->left < SPOOL_BUFFER ? (size_t)f->left : SPOOL_BUFFER;
	ssize_t n;
	*at = f->buffer;
	*size = 0;
	if (want == 0)
		return 0;
	while ((n = pread(f->fd, f->buffer, want, f->at)) < 0 && errno == EINTR)
		;
	if (n < 0)
		return ikv_err_set(err, IKV_IO, "cannot read the spool: %s", strerror(errno));
	if (n == 0)
		return ikv_err_set(err, IKV_FAILED, "the spool of a run is incomplete");
	*size = (size_t)n;
	f->at += n;
	f->left -= (uint64_t)n;
	return 0;
}

/* Earlier failures of the point, and what a process that was killed while it took the point left of it. */
static int make_way(struct store *s, const char *key, struct ikv_err *err)
{
	char *where = key ? sqlite3_mprintf("point_key = %Q AND (status = 'failed' OR (status = 'interrupted' AND message = %Q))",
					    key, STORE_TAKEN_IN_PART)
			  : NULL;
	int rc = !key     ? 0
		 : !where ? ikv_err_set(err, IKV_FAILED, "out of memory")
			  : store_delete_runs(s, where, err);
	sqlite3_free(where);
	return rc;
}

static int take_records(struct store *s, struct spool_reader *r, int64_t *run_id, const char *key, uint64_t wall_ns,
			struct ikv_err *err)
{
	int rc;
	while ((rc = spool_take(s, r, run_id, key, err)) > 0)
		;
	return rc == 0 ? store_run_end(s, *run_id, "done", wall_ns, err) : -1;
}

/* Of a run that could not be taken in nothing stays; where that fails too, the next that opens the file marks it. */
static void undo(struct store *s, int64_t run_id)
{
	char where[60];
	store_batch_drop(s);
	if (!sqlite3_get_autocommit(s->db))
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	s->open = false;
	sqlite3_snprintf(sizeof where, where, "run_id = %lld AND status = 'running'", (long long)run_id);
	if (store_delete_runs(s, where, NULL) == 0)
		store_commit(s, NULL);
}

int store_spool_take(struct store *s, int fd, uint64_t bytes, int64_t run_id, const char *point_key, uint64_t wall_ns,
		     struct ikv_err *err)
{
	struct spool_reader *r = ikv_alloc(1, sizeof *r, err);
	struct file_source *f = ikv_alloc(1, sizeof *f, err);
	int rc = r && f ? store_settle(&s, err) : -1;
	if (rc == 0) {
		f->fd = fd;
		f->left = bytes;
		r->more = more_of_file;
		r->source = f;
		rc = make_way(s, point_key, err);
		if (rc == 0 && take_records(s, r, &run_id, point_key, wall_ns, err) != 0) {
			undo(s, run_id);
			rc = -1;
		}
	}
	ikv_free(f);
	ikv_free(r);
	return rc;
}

int store_failed_run(struct store *s, const struct store_run *run, const char *message, uint64_t wall_ns,
		     struct ikv_err *err)
{
	int64_t id;
	if (store_settle(&s, err) != 0)
		return -1;
	return make_way(s, run->point_key, err) != 0 || store_run_begin(s, run, &id, err) != 0 ||
		       store_run_message(s, id, message, err) != 0 || store_run_end(s, id, "failed", wall_ns, err) != 0
		   ? -1
		   : 0;
}
