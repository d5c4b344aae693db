/* A database in memory, made a page at a time in SQLite's file format (sqlite.org/fileformat2.html), which a connection
 * reads as its schema `batch`. Rows are put in encoded; SQLite copies them into a table of the same definition as they
 * are, without taking them apart. */
#ifndef DB_STORE_IMAGE_H
#define DB_STORE_IMAGE_H

#include <sqlite3.h>
#include <intentkv.h>

struct image;
struct image_tree {
	const char *type, *name, *table, *sql; /* table or index, as in sqlite_schema */
};
/* Attach an empty one with these trees to `db`. Freed after the connection is closed. */
int image_open(struct image **out, sqlite3 *db, const struct image_tree *trees, int count, struct ikv_err *err);
void image_free(struct image *im);

/* What follows is for while no transaction of the connection has read the image. */
/* A new row of tree `i` at the end of it: where its record of `size` bytes goes, until the next call. Row numbers rise
 * from call to call; those of an index are not used, its records come in order. NULL: no memory, or no place. */
unsigned char *image_row(struct image *im, int i, int64_t number, size_t size, struct ikv_err *err);
/* Complete it, so that it can be read; and take all rows out. */
int image_finish(struct image *im, struct ikv_err *err);
void image_clear(struct image *im);

/* Records: a header with the size of itself and the type of each value, then the values. */
enum { IMAGE_RECORD_MAX = 4096 };
struct image_record {
	unsigned char head[512], body[IMAGE_RECORD_MAX]; /* head: without its own size */
	size_t head_size, body_size;
};
static inline size_t image_varint(unsigned char *to, uint64_t v)
{
	unsigned char digits[10];
	size_t n = 0;
	if (v < 128) {
		*to = (unsigned char)v;
		return 1;
	}
	if (v >> 56) { /* nine bytes, the last of eight bits */
		to[8] = (unsigned char)v;
		v >>= 8;
		for (int i = 7; i >= 0; i--, v >>= 7)
			to[i] = (unsigned char)((v & 127) | 128);
		return 9;
	}
	do
		digits[n++] = (unsigned char)((v & 127) | 128);
	while (v >>= 7);
	digits[0] &= 127;
	for (size_t i = 0; i < n; i++)
		to[i] = digits[n - 1 - i];
	return n;
}
static inline void image_null(struct image_record *r)
{
	r->head[r->head_size++] = 0;
}
/* Big-endian, in the fewest of 1, 2, 3, 4, 6 and 8 bytes; 0 and 1 have types of their own. */
static inline void image_int(struct image_record *r, int64_t v)
{
	static const unsigned char type_of[9] = {0, 1, 2, 3, 4, 5, 5, 6, 6}, size_of[7] = {0, 1, 2, 3, 4, 6, 8};
	uint64_t u = (uint64_t)v;
	if (u <= 1) {
		r->head[r->head_size++] = (unsigned char)(8 + u);
		return;
	}
	int bits = 65 - __builtin_clzll((u ^ (uint64_t)(v >> 63)) | 1); /* with that of the sign */
	unsigned char type = type_of[(bits + 7) / 8], size = size_of[type];
	u = __builtin_bswap64(u << (64 - 8 * size));
	__builtin_memcpy(r->body + r->body_size, &u, 8);
	r->body_size += size;
	r->head[r->head_size++] = type;
}
/* Whole numbers up to 2^47 are stored as integers in a REAL column, as SQLite itself does it; NaN is NULL. */
static inline void image_real(struct image_record *r, double v)
{
	const double most = 140737488355327;
	if (v >= -most && v <= most && (double)(int64_t)v == v) {
		image_int(r, (int64_t)v);
		return;
	}
	if (v != v) {
		image_null(r);
		return;
	}
	uint64_t u;
	__builtin_memcpy(&u, &v, 8);
	u = __builtin_bswap64(u);
	__builtin_memcpy(r->body + r->body_size, &u, 8);
	r->body_size += 8;
	r->head[r->head_size++] = 7;
}
static inline void image_text(struct image_record *r, const char *text, size_t size)
{
	r->head_size += image_varint(r->head + r->head_size, 13 + 2 * size);
	__builtin_memcpy(r->body + r->body_size, text, size);
	r->body_size += size;
}
/* Copy it into tree `i`. */
int image_put(struct image *im, int i, int64_t number, const struct image_record *r, struct ikv_err *err);

#endif
