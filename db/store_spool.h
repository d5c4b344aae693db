/* Records of rows on their way to the process or the thread that has the database: a type, a row struct, and its texts.
 * Of a struct go the words of 8 bytes that differ from those of the row before it in the same table, a third in most
 * runs, after a bit for each word: fewer cache lines change cores, and files of spools are small. Writer and reader are
 * the same program, so layouts agree. Pointers in the structs only say whether there is a text. */
#ifndef DB_STORE_SPOOL_H
#define DB_STORE_SPOOL_H

#include "db/store_internal.h"

enum { SPOOL_RUN = STORE_ROW_COUNT, SPOOL_BLOCK, SPOOL_PAGE, SPOOL_BUFFER = 1 << 17, SPOOL_LINE = 64, SPOOL_RUN_TEXTS = 14 };

union spool_row {
	struct store_session session;
	struct store_step step;
	struct store_role role;
	struct store_layer layer;
	struct store_prefill prefill;
	int64_t run_id; /* first in all of them */
	uint64_t words[1];
};
/* Bytes that say which words of a row of so many bytes are there. */
static inline size_t spool_bits(size_t row_bytes)
{
	return (row_bytes / 8 + 7) / 8;
}

extern const size_t spool_run_texts[SPOOL_RUN_TEXTS]; /* offsets in struct store_run */
struct spool_page {
	int64_t run_id, session, step;
	struct ikv_action action;
};

struct queue;
struct spool {
	int fd;              /* a file's, or -1 */
	struct queue *queue; /* of a thread, or NULL */
	uint64_t bytes, steps;
	double read_bytes, dense_bytes;
	double *errors; /* rel_l2 of the steps that have it; owned */
	size_t error_count, error_cap, used;
	int64_t since_ms;      /* when the queue was last given what there was; 0: not known */
	unsigned char *buffer; /* [SPOOL_BUFFER]; owned */
	/* Writes into `bits` which of the words of `row` are others than before, and those at `at`; returns their end. */
	unsigned char *(*changed_words)(unsigned char *bits, unsigned char *at, const unsigned char *row,
					const unsigned char *before, size_t words);
	union spool_row before[STORE_ROW_COUNT]; /* of other rows than steps */
	struct store_step rows[2];               /* steps in turn: the newest, and the one before it or the next */
	unsigned at;                             /* the one that waits to become a record, or the next */
	bool waits;
};
struct spool *spool_new(struct ikv_err *err); /* without a file or a queue */
void spool_free(struct spool *p);
void spool_forget(struct spool *p); /* the reader does not know the rows before */
/* Write out or hand over what is in the buffer. */
int spool_drain(struct spool *p, struct ikv_err *err);

struct spool_reader {
	/* The next bytes, which last until the next call; size 0: there are no more. */
	int (*more)(void *source, const unsigned char **at, size_t *size, struct ikv_err *err);
	void *source;
	const unsigned char *at;
	size_t left;
	char *text[4096]; /* of the record at hand; owned */
	uint32_t texts;
	union spool_row before[STORE_ROW_COUNT];
};
/* Take the next record into the database: 1, or 0 at the end. run_id: of the rows, and of the run that a record
 * begins; 0: as the record says. key: of that run. */
int spool_take(struct store *s, struct spool_reader *r, int64_t *run_id, const char *key, struct ikv_err *err);

/* store_queue.c: hand a block of SPOOL_BUFFER bytes over for an empty one, wait where there is none. */
int queue_give(struct queue *q, unsigned char **block, size_t used, struct ikv_err *err);

#endif
