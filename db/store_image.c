/* A database in memory: its pages, and the file system of one file that SQLite reads them from. SQLite sees a file that
 * changes between its transactions, and that the change counter of the header tells so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "store_image.h"

/* The largest page that there is, so that most trees are a few leaves below one root. SQLite keeps the page at 1 GiB for
 * its locks: the last is before it. */
enum { PAGE = 65536, COUNT_MAX = (1 << 30) / PAGE, TREES_MAX = 8, LEAF_HEAD = 8, INNER_HEAD = 12, TABLE_LEAF = 13, INDEX_LEAF = 10 };

struct edge { /* left of it a page, and what separates that from the next */
	uint32_t page;
	unsigned char size, cell[59];
};
struct tree {
	unsigned char type;   /* of its leaves: TABLE_LEAF, INDEX_LEAF */
	uint32_t root, leaf;  /* leaf: the last one, which is the root where there is one only */
	uint32_t cells, used; /* of the last leaf: how many, and their bytes, which lie at its end */
	int64_t last;         /* number of the last row */
	struct edge *edges;   /* of all leaves before the last; owned */
	size_t edge_count, edge_cap;
};
struct file {
	sqlite3_file base;
	struct image *image;
};
struct image {
	sqlite3_vfs vfs; /* registered under `name` */
	char name[40];
	unsigned char *pages;     /* owned */
	uint32_t count, cap;      /* pages */
	uint32_t first;           /* so many are there without rows */
	uint32_t changes;
	struct tree trees[TREES_MAX];
	int tree_count;
};

static void put32(unsigned char *to, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(to, &v, 4);
}

static void put16(unsigned char *to, uint32_t v)
{
	to[0] = (unsigned char)(v >> 8);
	to[1] = (unsigned char)v;
}

static unsigned char *page_of(const struct image *im, uint32_t number)
{
	return im->pages + (size_t)(number - 1) * PAGE;
}

static int new_page(struct image *im, uint32_t *number, struct ikv_err *err)
{
	if (im->count == COUNT_MAX)
		return ikv_err_set(err, IKV_FAILED, "too many rows in one transaction");
	if (im->count == im->cap) {
		uint32_t cap = im->cap ? 2 * im->cap : 16;
		if (ikv_grow(&im->pages, im->cap, cap, PAGE, err) != 0)
			return -1;
		im->cap = cap;
	}
	*number = ++im->count;
	return 0;
}

/* `at`: of its head, which comes after that of the file on the first page. */
static void write_head(unsigned char *page, size_t at, unsigned char type, uint32_t cells, uint32_t used)
{
	page[at] = type;
	put16(page + at + 1, 0); /* no free blocks */
	put16(page + at + 3, cells);
	put16(page + at + 5, PAGE - used); /* 0 stands for 65536 */
	page[at + 7] = 0;
}

/* The next leaf, after the one that is full. */
static int next_leaf(struct image *im, struct tree *t, struct ikv_err *err)
{
	uint32_t page;
	if (t->edge_count == t->edge_cap) {
		size_t cap = t->edge_cap ? 2 * t->edge_cap : 16;
		if (ikv_grow(&t->edges, t->edge_cap, cap, sizeof *t->edges, err) != 0)
			return -1;
		t->edge_cap = cap;
	}
	if (t->leaf == t->root) {
		if (new_page(im, &page, err) != 0)
			return -1;
		memcpy(page_of(im, page), page_of(im, t->root), PAGE);
		t->leaf = page;
	}
	if (new_page(im, &page, err) != 0)
		return -1;
	struct edge *e = &t->edges[t->edge_count++];
	e->page = t->leaf;
	if (t->type == TABLE_LEAF) {
		e->size = (unsigned char)image_varint(e->cell, (uint64_t)t->last);
	} else { /* its last entry goes up */
		const unsigned char *last = page_of(im, t->leaf) + PAGE - t->used;
		e->size = (unsigned char)(1 + *last);
		memcpy(e->cell, last, e->size);
		t->used -= e->size;
		t->cells--;
	}
	write_head(page_of(im, t->leaf), 0, t->type, t->cells, t->used);
	t->leaf = page;
	t->cells = t->used = 0;
	return 0;
}

unsigned char *image_row(struct image *im, int i, int64_t number, size_t size, struct ikv_err *err)
{
	struct tree *t = &im->trees[i];
	unsigned char head[18];
	size_t n = image_varint(head, size);
	if (t->type == TABLE_LEAF)
		n += image_varint(head + n, (uint64_t)number);
	if (size > IMAGE_RECORD_MAX || (t->type == INDEX_LEAF && size > sizeof t->edges->cell - 1)) {
		ikv_err_set(err, IKV_BAD_INPUT, "a row of %zu bytes is too long", size);
		return NULL;
	}
	if (LEAF_HEAD + 2 * (t->cells + 1) + t->used + n + size > PAGE && next_leaf(im, t, err) != 0)
		return NULL;
	unsigned char *page = page_of(im, t->leaf);
	t->used += (uint32_t)(n + size);
	put16(page + LEAF_HEAD + 2 * (size_t)t->cells, PAGE - t->used);
	t->cells++;
	t->last = number;
	memcpy(page + PAGE - t->used, head, n);
	return page + PAGE - t->used + n;
}

int image_put(struct image *im, int i, int64_t number, const struct image_record *r, struct ikv_err *err)
{
	size_t whole = r->head_size + 1; /* with its own size, of one byte or two */
	whole += whole > 127;
	unsigned char *to = image_row(im, i, number, whole + r->body_size, err);
	if (!to)
		return -1;
	to += image_varint(to, whole);
	memcpy(to, r->head, r->head_size);
	memcpy(to + r->head_size, r->body, r->body_size);
	return 0;
}

/* A root above several leaves. */
static int write_root(struct image *im, struct tree *t, struct ikv_err *err)
{
	unsigned char *page = page_of(im, t->root);
	size_t used = 0;
	for (size_t k = 0; k < t->edge_count; k++) {
		const struct edge *e = &t->edges[k];
		used += 4U + e->size;
		if (INNER_HEAD + 2 * (k + 1) + used > PAGE)
			return ikv_err_set(err, IKV_FAILED, "too many rows in one transaction");
		put16(page + INNER_HEAD + 2 * k, (uint32_t)(PAGE - used));
		put32(page + PAGE - used, e->page);
		memcpy(page + PAGE - used + 4, e->cell, e->size);
	}
	write_head(page, 0, (unsigned char)(t->type - 8), (uint32_t)t->edge_count, (uint32_t)used);
	put32(page + 8, t->leaf);
	return 0;
}

int image_finish(struct image *im, struct ikv_err *err)
{
	for (int i = 0; i < im->tree_count; i++) {
		struct tree *t = &im->trees[i];
		write_head(page_of(im, t->leaf), 0, t->type, t->cells, t->used);
		if (t->edge_count && write_root(im, t, err) != 0)
			return -1;
	}
	im->changes++;
	put32(im->pages + 24, im->changes);
	put32(im->pages + 28, im->count);
	put32(im->pages + 92, im->changes);
	return 0;
}

void image_clear(struct image *im)
{
	im->count = im->first;
	for (int i = 0; i < im->tree_count; i++) {
		struct tree *t = &im->trees[i];
		t->leaf = t->root;
		t->cells = t->used = 0;
		t->edge_count = 0;
	}
}

/* Header of the file and the first page: the table sqlite_schema. */
static int write_schema(struct image *im, const struct image_tree *trees, struct ikv_err *err)
{
	static const unsigned char head[24] = "SQLite format 3\0\0\1\1\1\0\100\40\40"; /* pages of 65536 bytes */
	unsigned char *page = im->pages;
	struct image_record r;
	size_t used = 0;
	memset(page, 0, PAGE);
	memcpy(page, head, sizeof head);
	put32(page + 40, 1); /* version of the schema */
	put32(page + 44, 4); /* of its format */
	put32(page + 56, 1); /* UTF-8 */
	put32(page + 96, (uint32_t)sqlite3_libversion_number());
	for (int i = 0; i < im->tree_count; i++) {
		const char *texts[] = {trees[i].type, trees[i].name, trees[i].table};
		size_t size = strlen(trees[i].sql);
		r.head_size = r.body_size = 0;
		for (int k = 0; k < 3; k++)
			image_text(&r, texts[k], strlen(texts[k]));
		image_int(&r, im->trees[i].root);
		r.head_size += image_varint(r.head + r.head_size, 13 + 2 * size);
		size_t body = r.body_size + size, whole = 1 + r.head_size + body;
		unsigned char cell[20];
		size_t n = image_varint(cell, whole);
		n += image_varint(cell + n, (uint64_t)i + 1);
		used += n + whole;
		if (used > PAGE / 2)
			return ikv_err_set(err, IKV_BAD_INPUT, "the definition of %s is too long", trees[i].name);
		unsigned char *to = page + PAGE - used;
		put16(page + 100 + LEAF_HEAD + 2 * i, (uint32_t)(PAGE - used));
		memcpy(to, cell, n);
		to += n;
		*to++ = (unsigned char)(1 + r.head_size);
		memcpy(to, r.head, r.head_size);
		memcpy(to + r.head_size, r.body, r.body_size);
		memcpy(to + r.head_size + r.body_size, trees[i].sql, size);
	}
	write_head(page, 100, TABLE_LEAF, (uint32_t)im->tree_count, (uint32_t)used);
	return image_finish(im, err);
}

static int close_file(sqlite3_file *f)
{
	(void)f;
	return SQLITE_OK;
}

static int read_file(sqlite3_file *f, void *to, int size, sqlite3_int64 at)
{
	const struct image *im = ((struct file *)f)->image;
	sqlite3_int64 end = (sqlite3_int64)im->count * PAGE, there = at < end ? end - at : 0;
	size_t n = there < size ? (size_t)there : (size_t)size;
	if (n)
		memcpy(to, im->pages + at, n);
	memset((char *)to + n, 0, (size_t)size - n);
	return n == (size_t)size ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int refuse_write(sqlite3_file *f, const void *from, int size, sqlite3_int64 at)
{
	(void)f, (void)from, (void)size, (void)at;
	return SQLITE_READONLY;
}

static int refuse_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	(void)f, (void)size;
	return SQLITE_READONLY;
}

static int file_size(sqlite3_file *f, sqlite3_int64 *size)
{
	*size = (sqlite3_int64)((struct file *)f)->image->count * PAGE;
	return SQLITE_OK;
}

/* One connection has it: no locks; and what is never written has nothing to sync. */
static int accept(sqlite3_file *f, int how)
{
	(void)f, (void)how;
	return SQLITE_OK;
}

static int is_reserved(sqlite3_file *f, int *is)
{
	(void)f;
	*is = 0;
	return SQLITE_OK;
}

static int control(sqlite3_file *f, int op, void *arg)
{
	(void)f, (void)op, (void)arg;
	return SQLITE_NOTFOUND;
}

static int sector_size(sqlite3_file *f)
{
	(void)f;
	return 4096;
}

static int characteristics(sqlite3_file *f)
{
	(void)f;
	return 0;
}

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *flags_out)
{
	static const sqlite3_io_methods methods = {.iVersion = 1,
						   .xClose = close_file,
						   .xRead = read_file,
						   .xWrite = refuse_write,
						   .xTruncate = refuse_truncate,
						   .xSync = accept,
						   .xFileSize = file_size,
						   .xLock = accept,
						   .xUnlock = accept,
						   .xCheckReservedLock = is_reserved,
						   .xFileControl = control,
						   .xSectorSize = sector_size,
						   .xDeviceCharacteristics = characteristics};
	(void)name;
	f->pMethods = NULL;
	if (!(flags & SQLITE_OPEN_MAIN_DB))
		return SQLITE_CANTOPEN;
	f->pMethods = &methods;
	((struct file *)f)->image = vfs->pAppData;
	if (flags_out)
		*flags_out = SQLITE_OPEN_READONLY | SQLITE_OPEN_MAIN_DB;
	return SQLITE_OK;
}

static int remove_file(sqlite3_vfs *vfs, const char *name, int sync)
{
	(void)vfs, (void)name, (void)sync;
	return SQLITE_IOERR_DELETE_NOENT;
}

/* There is no journal beside it. */
static int is_there(sqlite3_vfs *vfs, const char *name, int flags, int *is)
{
	(void)vfs, (void)name, (void)flags;
	*is = 0;
	return SQLITE_OK;
}

static int full_name(sqlite3_vfs *vfs, const char *name, int size, char *out)
{
	(void)vfs;
	sqlite3_snprintf(size, out, "%s", name);
	return SQLITE_OK;
}

/* Each has a file system of its own, with this one file. */
static int attach(struct image *im, sqlite3 *db, struct ikv_err *err)
{
	char sql[100];
	sqlite3_vfs *base = sqlite3_vfs_find(NULL);
	if (!base)
		return ikv_err_set(err, IKV_UNAVAILABLE, "this SQLite has no file system");
	snprintf(im->name, sizeof im->name, "intentkv-%p", (void *)im);
	im->vfs = *base; /* time, randomness and sleep */
	im->vfs.iVersion = 1;
	im->vfs.szOsFile = sizeof(struct file);
	im->vfs.mxPathname = 64;
	im->vfs.pNext = NULL;
	im->vfs.zName = im->name;
	im->vfs.pAppData = im;
	im->vfs.xOpen = open_file;
	im->vfs.xDelete = remove_file;
	im->vfs.xAccess = is_there;
	im->vfs.xFullPathname = full_name;
	snprintf(sql, sizeof sql, "ATTACH 'file:batch?vfs=%s' AS batch", im->name);
	if (sqlite3_vfs_register(&im->vfs, 0) != SQLITE_OK || sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		return ikv_err_set(err, IKV_FAILED, "cannot attach the rows that wait: %s", sqlite3_errmsg(db));
	return 0;
}

int image_open(struct image **out, sqlite3 *db, const struct image_tree *trees, int count, struct ikv_err *err)
{
	uint32_t page;
	*out = NULL;
	struct image *im = ikv_alloc(1, sizeof *im, err);
	if (!im)
		return -1;
	int rc = new_page(im, &page, err);
	for (; rc == 0 && im->tree_count < count && im->tree_count < TREES_MAX; im->tree_count++) {
		struct tree *t = &im->trees[im->tree_count];
		t->type = strcmp(trees[im->tree_count].type, "index") ? TABLE_LEAF : INDEX_LEAF;
		rc = new_page(im, &t->root, err);
		t->leaf = t->root;
	}
	im->first = im->count;
	if (rc != 0 || write_schema(im, trees, err) != 0 || attach(im, db, err) != 0) {
		image_free(im);
		return -1;
	}
	*out = im;
	return 0;
}

void image_free(struct image *im)
{
	if (!im)
		return;
	sqlite3_vfs_unregister(&im->vfs);
	for (int i = 0; i < im->tree_count; i++)
		ikv_free(im->trees[i].edges);
	ikv_free(im->pages);
	ikv_free(im);
}
