#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include "attn/crew.h"
#include "intentkv/alloc.h"

#define CREW_MAX 1024

struct member {
	struct crew *crew;
	pthread_t thread;
	uint32_t index;
};

struct crew {
	pthread_mutex_t lock;
	pthread_cond_t start, done;
	uint64_t round; /* of work handed out */
	uint32_t busy;
	bool leave;
	void (*work)(void *context, uint32_t member);
	void *context;
	uint32_t size, started; /* members; threads running besides the caller */
	struct member *members;
};

static void *member_main(void *arg)
{
	struct member *m = arg;
	struct crew *c = m->crew;
	uint64_t seen = 0;
	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (c->round == seen && !c->leave)
			pthread_cond_wait(&c->start, &c->lock);
		if (c->leave)
			break;
		seen = c->round;
		pthread_mutex_unlock(&c->lock);
		c->work(c->context, m->index);
		pthread_mutex_lock(&c->lock);
		if (--c->busy == 0)
			pthread_cond_signal(&c->done);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int crew_create(struct crew **out, uint32_t threads, struct ikv_err *err)
{
	if (threads == 0) {
		long n = sysconf(_SC_NPROCESSORS_ONLN);
		threads = n < 1 ? 1 : n > CREW_MAX ? CREW_MAX : (uint32_t)n;
	}
	if (threads > CREW_MAX)
		return ikv_err_set(err, IKV_BAD_INPUT, "threads: got %u, expected at most %d", threads, CREW_MAX);
	struct crew *c = ikv_alloc(1, sizeof *c, err);
	if (!c)
		return -1;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->start, NULL);
	pthread_cond_init(&c->done, NULL);
	c->size = threads;
	c->members = ikv_alloc(threads, sizeof *c->members, err);
	if (!c->members) {
		crew_destroy(c);
		return -1;
	}
	for (uint32_t i = 1; i < threads; i++) {
		c->members[i] = (struct member){.crew = c, .index = i};
		int e = pthread_create(&c->members[i].thread, NULL, member_main, &c->members[i]);
		if (e) {
			ikv_err_set(err, IKV_FAILED, "cannot start thread %u: %s", i, strerror(e));
			crew_destroy(c);
			return -1;
		}
		c->started = i;
	}
	*out = c;
	return 0;
}

void crew_destroy(struct crew *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->leave = true;
	pthread_cond_broadcast(&c->start);
	pthread_mutex_unlock(&c->lock);
	for (uint32_t i = 1; i <= c->started; i++)
		pthread_join(c->members[i].thread, NULL);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->start);
	pthread_cond_destroy(&c->done);
	ikv_free(c->members);
	ikv_free(c);
}

uint32_t crew_size(const struct crew *c)
{
	return c->size;
}

void crew_run(struct crew *c, void (*work)(void *context, uint32_t member), void *context)
{
	if (c->size > 1) {
		pthread_mutex_lock(&c->lock);
		c->work = work;
		c->context = context;
		c->busy = c->size - 1;
		c->round++;
		pthread_cond_broadcast(&c->start);
		pthread_mutex_unlock(&c->lock);
	}
	work(context, 0);
	if (c->size > 1) {
		pthread_mutex_lock(&c->lock);
		while (c->busy)
			pthread_cond_wait(&c->done, &c->lock);
		pthread_mutex_unlock(&c->lock);
	}
}
