/* Ranks of MPI. Rank 0 hands out points one at a time: a rank asks for one more than it has idle workers for, so that
 * the next is there when a worker comes free. All waiting sleeps: workers need the cores. Results go to rank 0 as
 * figures only; rows stay in each rank's file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <mpi.h>
#include "sim/sweep_job.h"

enum { TAG_WANT = 1, TAG_POINT, TAG_RESULT };
enum { QUEUE = 1024, NAP_US = 500 };

struct peers {
	int rank, size;
	int64_t queue[QUEUE];
	uint32_t queued, wanted;
	bool over;
	uint32_t told; /* rank 0: ranks that know that the round is over */
};

/* Started as one of several? MPI_Init alone takes a tenth of a second. */
static bool launched(void)
{
	static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK", "PMI_RANK",
					    "SLURM_PROCID"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (getenv(names[i]))
			return true;
	return false;
}

int peers_open(struct peers **out, int *argc, char ***argv, struct ikv_err *err)
{
	*out = NULL;
	if (!launched())
		return 0;
	/* Forked workers do not use MPI, and Open MPI need not warn of them. */
	setenv("OMPI_MCA_mpi_warn_on_fork", "0", 0);
	if (MPI_Init(argc, argv) != MPI_SUCCESS)
		return ikv_err_set(err, IKV_UNAVAILABLE, "MPI does not start");
	struct peers *p = calloc(1, sizeof *p);
	if (!p)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	MPI_Comm_rank(MPI_COMM_WORLD, &p->rank);
	MPI_Comm_size(MPI_COMM_WORLD, &p->size);
	*out = p;
	return 0;
}

int peers_rank(const struct peers *p)
{
	return p ? p->rank : 0;
}

int peers_size(const struct peers *p)
{
	return p ? p->size : 1;
}

static void nap_until_done(MPI_Request *request)
{
	for (int done = 0; !done;) {
		MPI_Test(request, &done, MPI_STATUS_IGNORE);
		if (!done)
			usleep(NAP_US);
	}
}

static void broadcast(void *data, size_t bytes)
{
	MPI_Request request;
	MPI_Ibcast(data, (int)bytes, MPI_BYTE, 0, MPI_COMM_WORLD, &request);
	nap_until_done(&request);
}

void peers_agree(struct peers *p, int64_t *base)
{
	if (p)
		broadcast(base, sizeof *base);
}

void peers_wait(struct peers *p)
{
	MPI_Request request;
	if (!p)
		return;
	MPI_Ibarrier(MPI_COMM_WORLD, &request);
	nap_until_done(&request);
}

static void serve(struct peers *p, struct sweep_job *j)
{
	for (;;) {
		int there;
		MPI_Status s;
		MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &there, &s);
		if (!there)
			return;
		if (s.MPI_TAG == TAG_WANT) {
			MPI_Recv(NULL, 0, MPI_BYTE, s.MPI_SOURCE, TAG_WANT, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
			int64_t point = sweep_loop_next(j);
			p->told += point < 0;
			MPI_Send(&point, sizeof point, MPI_BYTE, s.MPI_SOURCE, TAG_POINT, MPI_COMM_WORLD);
		} else {
			struct sweep_result r;
			MPI_Recv(&r, sizeof r, MPI_BYTE, s.MPI_SOURCE, TAG_RESULT, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
			sweep_loop_count(j, &r);
		}
	}
}

/* Rank 0 answers -1 once, and the rank then asks no more in this round: so many answers end it. */
static void ask(struct peers *p, uint32_t idle)
{
	for (;;) {
		int there;
		int64_t point;
		MPI_Iprobe(0, TAG_POINT, MPI_COMM_WORLD, &there, MPI_STATUS_IGNORE);
		if (!there)
			break;
		MPI_Recv(&point, sizeof point, MPI_BYTE, 0, TAG_POINT, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
		p->wanted--;
		if (point < 0)
			p->over = true;
		else
			p->queue[p->queued++] = point;
	}
	if (!p->over && p->wanted == 0 && p->queued < idle + 1 && p->queued < QUEUE) {
		MPI_Send(NULL, 0, MPI_BYTE, 0, TAG_WANT, MPI_COMM_WORLD);
		p->wanted++;
	}
}

int peers_exchange(struct peers *p, struct sweep_job *j, uint32_t idle)
{
	if (!p || p->size == 1)
		return 0;
	if (p->rank)
		ask(p, idle);
	else
		serve(p, j);
	return 0;
}

int64_t peers_take(struct peers *p)
{
	if (!p->queued)
		return -1;
	int64_t point = p->queue[0];
	memmove(p->queue, p->queue + 1, --p->queued * sizeof *p->queue);
	return point;
}

bool peers_over(const struct peers *p)
{
	if (!p || p->size == 1)
		return true;
	/* Rank 0 has yet to answer who has not heard it. */
	return p->rank ? p->over && !p->queued && !p->wanted : p->told == (uint32_t)p->size - 1;
}

void peers_report(struct peers *p, const struct sweep_result *r)
{
	(void)p;
	MPI_Send(r, sizeof *r, MPI_BYTE, 0, TAG_RESULT, MPI_COMM_WORLD);
}

void peers_share(struct peers *p, struct sweep_job *j)
{
	if (!p || p->size == 1)
		return;
	for (uint32_t i = 0; i < j->known; i++)
		broadcast(&j->points[i].figures, sizeof j->points[i].figures);
	p->told = 0;
	p->over = false;
}

void peers_close(struct peers *p)
{
	if (!p)
		return;
	MPI_Finalize();
	free(p);
}

void peers_abort(struct peers *p, int code)
{
	if (p && p->size > 1)
		MPI_Abort(MPI_COMM_WORLD, code);
}
