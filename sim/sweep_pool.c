/* Worker processes: forked before they are needed, given a point's number, answering with what came of it. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "sim/run.h"
#include "sim/sweep_job.h"

struct player { /* what a worker keeps from point to point */
	struct session_list sessions;
	struct scenario made_for;
};

static int record(struct sweep_job *j, struct run *run, uint32_t point, int spool, struct sweep_result *r,
		  struct ikv_err *err)
{
	struct ikv_err ignored;
	if (store_spool_open(&run->store, spool, err))
		return -1;
	int rc = run_begin(run, &j->doc, j->sweep.points[point].label, NULL, err) || run_play(run, err) ? -1 : 0;
	r->wall_ns = run->wall_ns;
	return store_spool_close(run->store, &r->bytes, &r->figures, rc ? &ignored : err) || rc ? -1 : 0;
}

static int play(struct sweep_job *j, struct player *p, uint32_t point, int spool, struct sweep_result *r,
		struct ikv_err *err)
{
	const struct yaml_node *root = j->sweep.points[point].root;
	struct scenario sc;
	struct run run;
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	if (scenario_resolve(&j->doc, root, &sc, err))
		return -1;
	if (scenario_paths(&j->doc, root, &sc, err)) {
		scenario_free(&sc);
		return -1;
	}
	if (!sc.attention.threads) /* workers share the cores */
		sc.attention.threads = cores > (long)j->jobs ? cores / (long)j->jobs : 1;
	bool fresh = !p->made_for.file || !run_sessions_same(&p->made_for, &sc);
	int rc = 0;
	if (fresh) {
		session_list_free(&p->sessions);
		scenario_free(&p->made_for);
		rc = run_sessions(&sc, &p->sessions, err);
	}
	if (!rc && !(rc = run_open(&run, &sc, &p->sessions, err))) {
		rc = record(j, &run, point, spool, r, err);
		run_close(&run);
	}
	if (fresh && !rc)
		p->made_for = sc;
	else
		scenario_free(&sc);
	return rc;
}

struct task {
	uint32_t point, turn;
};

static void work(struct sweep_job *j, int sock, const int spools[2])
{
	struct player p = {.sessions = {.count = 0}};
	struct task t;
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	for (;;) {
		struct ikv_err err = {IKV_OK, ""};
		struct sweep_result r;
		ssize_t n;
		while ((n = recv(sock, &t, sizeof t, 0)) < 0 && errno == EINTR)
			;
		if (n != sizeof t || t.point >= j->sweep.count)
			_exit(0);
		memset(&r, 0, sizeof r);
		uint64_t start_ns = wall_now_ns();
		if (play(j, &p, t.point, spools[t.turn], &r, &err))
			r.status = err.status ? (int32_t)err.status : IKV_FAILED;
		r.point = t.point;
		r.busy_ns = wall_now_ns() - start_ns;
		memcpy(r.text, err.text, sizeof r.text);
		if (send(sock, &r, sizeof r, MSG_NOSIGNAL) != sizeof r)
			_exit(1);
	}
}

static int ascending(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	return (x > y) - (x < y);
}

/* Nothing of the parent's stays open: not the database, not its lock, not other workers. */
static void close_all_but(int socket, const int spools[2])
{
	int keep[] = {socket, spools[0], spools[1]};
	unsigned from = 3;
	qsort(keep, 3, sizeof *keep, ascending);
	for (int i = 0; i < 3; i++) {
		unsigned fd = (unsigned)keep[i];
		if (fd > from)
			close_range(from, fd - 1, 0);
		from = fd + 1 > from ? fd + 1 : from;
	}
	close_range(from, ~0u, 0);
}

static int start(struct sweep_job *j, struct worker *w, struct ikv_err *err)
{
	int pair[2];
	pid_t parent = getpid();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return ikv_err_set(err, IKV_FAILED, "no socket for a worker: %s", strerror(errno));
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0) {
		close(pair[0]);
		close(pair[1]);
		return ikv_err_set(err, IKV_FAILED, "no process for a worker: %s", strerror(errno));
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		close_all_but(pair[1], w->spools);
		work(j, pair[1], w->spools);
		_exit(0);
	}
	close(pair[1]);
	w->pid = pid;
	w->socket = pair[0];
	w->point = -1;
	return 0;
}

/* Three descriptors a worker: with hundreds of them more than the 1024 that a process may usually open. */
static void allow_files(uint32_t jobs)
{
	struct rlimit limit;
	rlim_t wanted = 3 * (rlim_t)jobs + 64;
	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted)
		return;
	limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int sweep_pool_open(struct sweep_job *j, struct ikv_err *err)
{
	allow_files(j->jobs);
	j->workers = calloc(j->jobs, sizeof *j->workers);
	if (!j->workers)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	for (uint32_t i = 0; i < j->jobs; i++) {
		struct worker *w = &j->workers[i];
		w->point = w->socket = w->spools[0] = w->spools[1] = -1;
		if (store_spool_file(j->file, &w->spools[0], err) || store_spool_file(j->file, &w->spools[1], err)) {
			j->jobs = i + 1;
			return -1;
		}
	}
	return 0;
}

static void end(struct worker *w, int signal_number)
{
	if (!w->pid)
		return;
	if (signal_number)
		kill(w->pid, signal_number);
	close(w->socket);
	waitpid(w->pid, NULL, 0);
	w->pid = 0;
	w->point = w->socket = -1;
}

void sweep_pool_close(struct sweep_job *j)
{
	for (uint32_t i = 0; j->workers && i < j->jobs; i++) {
		end(&j->workers[i], SIGKILL);
		for (int k = 0; k < 2; k++)
			if (j->workers[i].spools[k] >= 0)
				close(j->workers[i].spools[k]);
	}
	free(j->workers);
	j->workers = NULL;
}

struct worker *sweep_pool_idle(struct sweep_job *j)
{
	for (uint32_t i = 0; i < j->jobs; i++)
		if (j->workers[i].point < 0)
			return &j->workers[i];
	return NULL;
}

int sweep_pool_give(struct sweep_job *j, struct worker *w, uint32_t point, struct ikv_err *err)
{
	for (int attempt = 0; attempt < 2; attempt++) {
		if (!w->pid && start(j, w, err))
			return -1;
		const struct task t = {point, w->turn};
		if (send(w->socket, &t, sizeof t, MSG_NOSIGNAL) == sizeof t) {
			w->point = point;
			w->again = false;
			w->since_ns = wall_now_ns();
			return 0;
		}
		end(w, SIGKILL); /* it died while idle */
	}
	return ikv_err_set(err, IKV_FAILED, "workers die as soon as they start");
}

int sweep_pool_take(struct worker *w)
{
	w->turn ^= 1;
	return w->spools[w->turn ^ 1];
}

/* Its socket is closed: what became of the process? */
static void describe_loss(struct worker *w, struct sweep_result *r, bool *killed)
{
	int status = 0;
	waitpid(w->pid, &status, 0);
	close(w->socket);
	w->pid = 0;
	w->socket = -1;
	*killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	r->status = IKV_FAILED;
	if (WIFSIGNALED(status))
		snprintf(r->text, sizeof r->text, "the worker was ended by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else
		snprintf(r->text, sizeof r->text, "the worker ended with code %d", WEXITSTATUS(status));
}

/* 1: a result; 0: it was given again. */
static int lost(struct sweep_job *j, struct worker *w, struct sweep_result *r, struct ikv_err *err)
{
	uint32_t point = (uint32_t)w->point;
	bool killed, again = w->again;
	memset(r, 0, sizeof *r);
	r->point = point;
	r->wall_ns = wall_now_ns() - w->since_ns;
	describe_loss(w, r, &killed);
	w->point = -1;
	if (!killed || again)
		return 1;
	/* Killed from outside, for memory perhaps: once more before it counts as a failure. */
	if (sweep_pool_give(j, w, point, err))
		return -1;
	w->again = true;
	return 0;
}

static bool overdue(struct sweep_job *j, struct worker *w, struct sweep_result *r)
{
	uint64_t spent = wall_now_ns() - w->since_ns;
	if (w->point < 0 || !(j->timeout_s > 0) || (double)spent < j->timeout_s * 1e9)
		return false;
	memset(r, 0, sizeof *r);
	r->point = (uint32_t)w->point;
	r->status = IKV_FAILED;
	r->wall_ns = spent;
	snprintf(r->text, sizeof r->text, "took longer than %g s (--timeout)", j->timeout_s);
	end(w, SIGKILL);
	return true;
}

int sweep_pool_wait(struct sweep_job *j, int ms, struct worker **out, struct sweep_result *r, struct ikv_err *err)
{
	struct pollfd fds[1024];
	uint32_t n = j->jobs < 1024 ? j->jobs : 1024;
	for (uint32_t i = 0; i < n; i++)
		fds[i] =
		    (struct pollfd){.fd = j->workers[i].point >= 0 ? j->workers[i].socket : -1, .events = POLLIN};
	if (poll(fds, n, ms) < 0)
		return errno == EINTR ? 0 : ikv_err_set(err, IKV_FAILED, "poll: %s", strerror(errno));
	for (uint32_t i = 0; i < n; i++) {
		struct worker *w = &j->workers[i];
		*out = w;
		if (fds[i].fd >= 0 && fds[i].revents) {
			ssize_t got = recv(w->socket, r, sizeof *r, 0);
			if (got != sizeof *r)
				return lost(j, w, r, err);
			w->point = -1;
			return 1;
		}
		if (overdue(j, w, r))
			return 1;
	}
	return 0;
}
