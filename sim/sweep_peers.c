/* Without MPI there are no other ranks; started by mpirun or srun all the same, every one would be alone with the
 * same database, so that is refused. */
#include <stdlib.h>
#include "sim/sweep_job.h"

int peers_open(struct peers **out, int *argc, char ***argv, struct ikv_err *err)
{
	const char *size = getenv("OMPI_COMM_WORLD_SIZE");
	(void)argc, (void)argv;
	*out = NULL;
	if (!size)
		size = getenv("PMI_SIZE");
	if (size && atoi(size) > 1)
		return ikv_err_set(err, IKV_UNAVAILABLE,
				   "started as one of %s ranks, but built without MPI; configure --with-mpi", size);
	return 0;
}

int peers_rank(const struct peers *p)
{
	(void)p;
	return 0;
}

int peers_size(const struct peers *p)
{
	(void)p;
	return 1;
}

void peers_agree(struct peers *p, int64_t *base)
{
	(void)p, (void)base;
}

int peers_exchange(struct peers *p, struct sweep_job *j, uint32_t idle)
{
	(void)p, (void)j, (void)idle;
	return 0;
}

int64_t peers_take(struct peers *p)
{
	(void)p;
	return -1;
}

bool peers_over(const struct peers *p)
{
	(void)p;
	return true;
}

void peers_report(struct peers *p, const struct sweep_result *r)
{
	(void)p, (void)r;
}

void peers_share(struct peers *p, struct sweep_job *j)
{
	(void)p, (void)j;
}

void peers_wait(struct peers *p)
{
	(void)p;
}

void peers_close(struct peers *p)
{
	(void)p;
}

void peers_abort(struct peers *p, int code)
{
	(void)p, (void)code;
}
