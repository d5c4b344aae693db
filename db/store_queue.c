/* A thread of its own for SQLite: rows go as records through blocks, so that what plays a run only copies them.
 * Where all blocks are full, it waits. Everything but rows waits until the thread has written what was given, and
 * then has the database to itself; the database has one user at any time. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include "store_spool.h"

/* A block is large, for waking the thread costs some microseconds. While it keeps up, two or three go to and fro; the
 * others, made when they are wanted, are for when a disk makes it wait. */
enum { QUEUE_BLOCKS = 64 };

struct queue_call { /* something else that the thread shall do */
	int (*work)(struct store *s, void *arg, struct ikv_err *err);
	void *arg;
	struct ikv_err *err;
	int rc;
};

struct queue {
	struct store *to; /* has the database; the thread's while it is not idle */
	pthread_t thread;
	pthread_mutex_t mutex; /* of all below but the thread's reader */
	pthread_cond_t changed;
	unsigned char *full[QUEUE_BLOCKS], *empty[QUEUE_BLOCKS]; /* full: oldest first; owned */
	size_t used[QUEUE_BLOCKS];
	struct queue_call *call; /* NULL: none */
	unsigned full_count, empty_count, made;
	bool idle; /* the thread waits: it has taken all that it was given */
	bool stop;
	bool failed, told; /* a row could not be written; the caller knows */
	struct ikv_err error;
	struct spool_reader reader; /* the thread's, as the next */
	unsigned char *taken;       /* block that it reads, NULL: none */
};

static void do_call(struct queue *q)
{
	struct queue_call *c = q->call;
	pthread_mutex_unlock(&q->mutex);
	c->rc = c->work(q->to, c->arg, c->err);
	pthread_mutex_lock(&q->mutex);
	q->call = NULL;
	pthread_cond_broadcast(&q->changed);
}

/* Called by the thread: give the last block back and wait for the next. Size 0: it shall stop. */
static int more_of_queue(void *source, const unsigned char **at, size_t *size, struct ikv_err *err)
{
	struct queue *q = source;
	(void)err;
	pthread_mutex_lock(&q->mutex);
	if (q->taken)
		q->empty[q->empty_count++] = q->taken;
	q->taken = NULL;
	q->idle = q->full_count == 0;
	pthread_cond_broadcast(&q->changed);
	while (q->full_count == 0 && !q->stop) {
		if (q->call)
			do_call(q);
		else
			pthread_cond_wait(&q->changed, &q->mutex);
	}
	q->idle = false;
	*size = 0;
	if (q->full_count > 0) {
		q->taken = q->full[0];
		*at = q->taken;
		*size = q->used[0];
		q->full_count--;
		memmove(q->full, q->full + 1, q->full_count * sizeof *q->full);
		memmove(q->used, q->used + 1, q->full_count * sizeof *q->used);
	}
	pthread_mutex_unlock(&q->mutex);
	return 0;
}

/* After an error the rest is thrown away until the caller has waited for the thread: then records begin anew. */
static void *write_rows(void *arg)
{
	struct queue *q = arg;
	struct ikv_err err = {IKV_OK, ""};
	int64_t as_it_says = 0;
	int rc;
	while ((rc = spool_take(q->to, &q->reader, &as_it_says, NULL, &err)) != 0) {
		bool failed = rc < 0;
		if (failed) {
			pthread_mutex_lock(&q->mutex);
			q->failed = true;
			q->told = false;
			q->error = err;
			pthread_mutex_unlock(&q->mutex);
		}
		while (failed) {
			more_of_queue(q, &q->reader.at, &q->reader.left, NULL);
			pthread_mutex_lock(&q->mutex);
			failed = q->failed && !q->stop;
			pthread_mutex_unlock(&q->mutex);
			memset(q->reader.before, 0, sizeof q->reader.before); /* as in store_settle */
		}
	}
	return NULL;
}

/* Tell an error once: -1 the first time that it is asked for. */
static int tell(struct queue *q, struct ikv_err *err)
{
	if (!q->failed || q->told)
		return 0;
	q->told = true;
	if (err)
		*err = q->error;
	return -1;
}

int queue_give(struct queue *q, unsigned char **block, size_t used, struct ikv_err *err)
{
	pthread_mutex_lock(&q->mutex);
	if (q->empty_count == 0 && q->made < QUEUE_BLOCKS && (q->empty[0] = ikv_alloc(SPOOL_BUFFER, 1, NULL))) {
		q->empty_count = 1;
		q->made++;
	}
	while (q->empty_count == 0)
		pthread_cond_wait(&q->changed, &q->mutex);
	q->full[q->full_count] = *block;
	q->used[q->full_count++] = used;
	*block = q->empty[--q->empty_count];
	int rc = tell(q, err);
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->mutex);
	return rc;
}

int store_settle(struct store **s, struct ikv_err *err)
{
	struct queue *q = (*s)->queue;
	if (!q)
		return 0;
	int rc = spool_drain((*s)->spool, err);
	(*s)->spool->since_ms = 0;
	pthread_mutex_lock(&q->mutex);
	while (!q->idle || q->full_count > 0)
		pthread_cond_wait(&q->changed, &q->mutex);
	if (tell(q, err) != 0)
		rc = -1;
	if (q->failed) /* the thread does not know the rows that it has thrown away */
		spool_forget((*s)->spool);
	q->failed = false;
	pthread_mutex_unlock(&q->mutex);
	*s = q->to;
	return rc;
}

int store_call(struct store *s, int (*work)(struct store *s, void *arg, struct ikv_err *err), void *arg,
	       struct ikv_err *err)
{
	struct queue *q = s->queue;
	struct queue_call call = {work, arg, err, 0};
	if (store_settle(&s, err) != 0)
		return -1;
	if (!q)
		return work(s, arg, err);
	pthread_mutex_lock(&q->mutex);
	q->call = &call;
	pthread_cond_broadcast(&q->changed);
	while (q->call)
		pthread_cond_wait(&q->changed, &q->mutex);
	pthread_mutex_unlock(&q->mutex);
	return call.rc;
}

static void free_queue(struct store *s)
{
	struct queue *q = s->queue;
	for (unsigned i = 0; q && i < q->empty_count; i++)
		ikv_free(q->empty[i]);
	if (q) {
		pthread_mutex_destroy(&q->mutex);
		pthread_cond_destroy(&q->changed);
	}
	spool_free(s->spool);
	ikv_free(q);
	ikv_free(s);
}

int queue_close(struct store *s, struct ikv_err *err)
{
	struct store *to = s;
	struct queue *q = s->queue;
	int rc = store_settle(&to, err);
	pthread_mutex_lock(&q->mutex);
	q->stop = true;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->mutex);
	pthread_join(q->thread, NULL);
	free_queue(s);
	return store_close(to, rc == 0 ? err : NULL) != 0 ? -1 : rc;
}

/* Signals are for the threads that play the run. */
static int start(struct queue *q)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	int e = pthread_create(&q->thread, NULL, write_rows, q);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (e == 0)
		pthread_setname_np(q->thread, "intentkv-db"); /* for top and perf */
	return e;
}

int store_concurrent(struct store **s, struct ikv_err *err)
{
	if (!sqlite3_threadsafe())
		return ikv_err_set(err, IKV_UNAVAILABLE, "this SQLite was built for one thread");
	struct store *front = ikv_alloc(1, sizeof *front, err);
	struct queue *q = front ? ikv_alloc(1, sizeof *q, err) : NULL;
	if (!q) {
		ikv_free(front);
		return -1;
	}
	pthread_mutex_init(&q->mutex, NULL);
	pthread_cond_init(&q->changed, NULL);
	q->to = *s;
	q->reader.more = more_of_queue;
	q->reader.source = q;
	front->queue = q;
	front->lock_fd = -1;
	front->spool = spool_new(err);
	bool made = front->spool && (q->empty[0] = ikv_alloc(SPOOL_BUFFER, 1, err));
	if (made) {
		q->empty_count = 1;
		q->made = 2;
		front->spool->queue = q;
		int e = start(q);
		made = e == 0;
		if (e)
			ikv_err_set(err, IKV_FAILED, "no thread for the database: %s", strerror(e));
	}
	if (!made) {
		free_queue(front);
		return -1;
	}
	*s = front;
	return 0;
}
