/* A sweep being played: its points, the workers, and the process that has the database.
 *
 * Workers are forked processes that play one point at a time into a spool; they never open the database. The parent
 * takes each finished spool in as one transaction, so that a point is in the database whole or not at all, whatever
 * ends which process when; the worker is at its next point by then. Under MPI every rank is such a parent with a file (shard) of its own, and rank 0 says
 * who plays what. */
#ifndef SIM_SWEEP_JOB_H
#define SIM_SWEEP_JOB_H

#include <signal.h>
#include <sys/types.h>
#include "db/store.h"
#include "sim/scenario.h"

enum point_state { POINT_NEW, POINT_FOUND, POINT_GIVEN, POINT_DONE, POINT_FAILED };
struct point_info {
	char key[33];
	uint8_t state;    /* enum point_state */
	bool failed_once; /* the database has an earlier failure */
	bool bound;       /* its router knows the future: on no front, and never the best */
	int64_t run_id;   /* where found */
	struct store_figures figures;
};

struct sweep_result { /* from a worker to its parent, and from a rank to rank 0 */
	uint32_t point;
	int32_t status; /* enum ikv_status */
	uint64_t wall_ns, busy_ns, bytes; /* busy: with everything around the run */
	struct store_figures figures;
	char text[1000];
};

struct worker {
	pid_t pid; /* 0: none */
	int socket;
	int spools[2]; /* in turn: while the parent takes a point in, the next is written into the other */
	uint32_t turn; /* spool of the point that is played, or of the next */
	int64_t point; /* -1: idle */
	bool again;    /* the point was given a second time */
	uint64_t since_ns;
};

struct peers; /* the other ranks; NULL without MPI */

struct sweep_job {
	struct scenario_doc doc;
	struct sweep sweep;
	struct point_info *points;
	uint32_t known;            /* entries of `points` */
	uint32_t same;             /* combinations left out: their settings are those of an earlier one */
	char db[4096], file[4096]; /* the database, and what this process writes to */
	struct store *store;
	struct worker *workers;
	uint32_t jobs;
	uint32_t part, parts; /* of --part */
	double timeout_s;     /* 0: none */
	double error_limit;
	bool quiet, tty;
	int64_t base; /* run_id of point 0 */
	uint32_t next, done, failed, found, given;
	uint64_t start_ns, busy_ns, last_print_ns;
	struct peers *peers;
	volatile sig_atomic_t *stop;
};

/* cmd_sweep.c: apply -s, -x or -w to a scenario that is read; all its points, with their keys; end of a job. */
int sweep_change(struct sweep_job *j, int option, const char *value, struct ikv_err *err);
int sweep_points(struct sweep_job *j, struct ikv_err *err);
void sweep_free(struct sweep_job *j);

/* sweep_pool.c */
int sweep_pool_open(struct sweep_job *j, struct ikv_err *err);
void sweep_pool_close(struct sweep_job *j);
int sweep_pool_give(struct sweep_job *j, struct worker *w, uint32_t point, struct ikv_err *err);
/* The spool of a worker whose point has ended; its next point goes into the other one. */
int sweep_pool_take(struct worker *w);
/* Wait up to `ms` for a result; 1: *w and *r say what came, 0: nothing did. A worker that was lost or took too long
 * gives a failure. */
int sweep_pool_wait(struct sweep_job *j, int ms, struct worker **w, struct sweep_result *r, struct ikv_err *err);
struct worker *sweep_pool_idle(struct sweep_job *j);

/* sweep_loop.c: keys of all points, each once, and what the database has of them; then play. */
int sweep_loop_prepare(struct sweep_job *j, uint32_t first, struct ikv_err *err);
int sweep_loop_look_up(struct sweep_job *j, uint32_t first, const char *path, struct ikv_err *err);
int sweep_loop_adopt(struct sweep_job *j, uint32_t first, struct ikv_err *err);
int sweep_loop_play(struct sweep_job *j, struct ikv_err *err);
void sweep_loop_count(struct sweep_job *j, const struct sweep_result *r);
/* Next point for anyone, -1: none is left. */
int64_t sweep_loop_next(struct sweep_job *j);
bool sweep_loop_on_front(const struct sweep_job *j, uint32_t point);

/* sweep_refine.c: new points in between those on the Pareto front. */
int sweep_refine(struct sweep_job *j, struct ikv_err *err);

/* sweep_progress.c */
void sweep_progress(struct sweep_job *j, bool now);
void sweep_progress_failure(struct sweep_job *j, uint32_t point, const char *text);
void sweep_progress_clear(struct sweep_job *j);
void sweep_list(const struct sweep_job *j);
void sweep_summary(const struct sweep_job *j);

/* sweep_peers.c (without MPI) or sweep_mpi.c. */
int peers_open(struct peers **out, int *argc, char ***argv, struct ikv_err *err);
int peers_rank(const struct peers *p); /* 0 without others */
int peers_size(const struct peers *p);
/* Rank 0 has looked around; all others wait for it, and learn `base`. */
void peers_agree(struct peers *p, int64_t *base);
/* Exchange what there is; called often. Returns -1 when rank 0 gave up. */
int peers_exchange(struct peers *p, struct sweep_job *j, uint32_t idle);
int64_t peers_take(struct peers *p);                              /* a point for this rank, -1: none now */
bool peers_over(const struct peers *p);                           /* no more points in this round */
void peers_report(struct peers *p, const struct sweep_result *r); /* to rank 0 */
/* The round is over: everybody learns the figures of all points. */
void peers_share(struct peers *p, struct sweep_job *j);
void peers_wait(struct peers *p); /* all have come here */
void peers_close(struct peers *p);
/* End all ranks at once. */
void peers_abort(struct peers *p, int code);

/* sweep_slurm.c */
int cmd_emit_slurm(int argc, char **argv);
extern const struct command command_emit_slurm;

#endif
