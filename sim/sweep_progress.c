/* What a sweep says: progress while it runs, the points beforehand, a summary afterwards. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/figure.h"
#include "sim/run.h"
#include "sim/sweep_job.h"

enum { TTY_NS = 200000000, FRONT_LINES = 12 };
#define PLAIN_NS 10000000000ull

static uint32_t total_points(const struct sweep_job *j)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < j->known; i++)
		n += i % j->parts == j->part || j->points[i].state == POINT_FOUND;
	return n;
}

/* Fewest bytes within the limit of error; where none is within it, the least error. -1: nothing is measured. */
static int64_t best_point(const struct sweep_job *j)
{
	int64_t best = -1;
	for (uint32_t i = 0; i < j->known; i++) {
		const struct store_figures *f = &j->points[i].figures,
					   *b = best < 0 ? NULL : &j->points[best].figures;
		if (isnan(f->rel_l2) || isnan(f->read_share) || j->points[i].bound)
			continue;
		bool within = f->rel_l2 <= j->error_limit, had = b && b->rel_l2 <= j->error_limit;
		if (!b || (within && !had) ||
		    (within == had && (within ? f->read_share < b->read_share : f->rel_l2 < b->rel_l2)))
			best = i;
	}
	return best;
}

static const char *label_of(const struct sweep_job *j, int64_t point)
{
	const char *label = j->sweep.points[point].label;
	return *label ? label : "(no axes)";
}

static void print_time(FILE *f, double s)
{
	if (s < 3600)
		fprintf(f, "%d:%02d", (int)(s / 60), (int)s % 60);
	else
		fprintf(f, "%d:%02d h", (int)(s / 3600), (int)(s / 60) % 60);
}

void sweep_progress_clear(struct sweep_job *j)
{
	if (j->tty && !j->quiet)
		fputs("\r\033[K", stderr);
}

void sweep_progress(struct sweep_job *j, bool now)
{
	uint64_t t = wall_now_ns(), since = j->last_print_ns ? j->last_print_ns : j->start_ns;
	if (j->quiet || peers_rank(j->peers) || (!now && t - since < (j->tty ? TTY_NS : PLAIN_NS)))
		return;
	j->last_print_ns = t;
	uint32_t ended = j->done + j->failed, all = total_points(j), left = all - j->found - ended;
	double s = (double)(t - j->start_ns) * 1e-9, rate = s > 0 ? ended / s : 0;
	sweep_progress_clear(j);
	fprintf(stderr, "[%u/%u] %.3g points/s, ETA ", j->found + ended, all, rate);
	if (ended)
		print_time(stderr, left / rate);
	else
		fputc('?', stderr);
	fprintf(stderr, ", %u failed", j->failed);
	int64_t best = best_point(j);
	if (best >= 0) {
		fputs(", best ", stderr);
		command_print(stderr, label_of(j, best));
		fprintf(stderr, ": %.3g %% of bytes, error %.3g", 100 * j->points[best].figures.read_share,
			j->points[best].figures.rel_l2);
	}
	if (!j->tty)
		fputc('\n', stderr);
	fflush(stderr);
}

void sweep_progress_failure(struct sweep_job *j, uint32_t point, const char *text)
{
	sweep_progress_clear(j);
	fputs("failed: ", stderr);
	command_print(stderr, label_of(j, point));
	fputs(": ", stderr);
	command_print(stderr, text);
	fputc('\n', stderr);
}

void sweep_list(const struct sweep_job *j)
{
	static const char *const states[] = {[POINT_NEW] = "new", [POINT_FOUND] = "in the database"};
	uint32_t new = 0, failed = 0;
	for (uint32_t i = 0; i < j->known; i++) {
		const struct point_info *p = &j->points[i];
		bool other = i % j->parts != j->part && p->state == POINT_NEW;
		new += p->state == POINT_NEW && !other;
		failed += p->state == POINT_NEW && !other && p->failed_once;
		printf("%6u  %-16s  ", i + 1,
		       other                                     ? "another part"
		       : p->state == POINT_NEW && p->failed_once ? "failed before"
								 : states[p->state]);
		command_print(stdout, label_of(j, i));
		putchar('\n');
	}
	printf("%u points: %u to run", j->known, new);
	if (failed)
		printf(" (%u failed before)", failed);
	printf(", %u in the database", j->found);
	if (j->sweep.excluded)
		printf("; %u combinations left out by conditions", j->sweep.excluded);
	if (j->same)
		printf("; %u left out, their settings are those of an earlier one", j->same);
	if (j->sweep.refine_rounds)
		printf("; then up to %u rounds of %u between them", j->sweep.refine_rounds, j->sweep.refine_points);
	putchar('\n');
}

struct place {
	uint32_t point;
	double share;
};

static int by_share(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	return x->share != y->share ? (x->share > y->share) - (x->share < y->share)
				    : (x->point > y->point) - (x->point < y->point);
}

static void print_front(const struct sweep_job *j)
{
	struct place *front = calloc(j->known + (size_t)1, sizeof *front);
	uint32_t n = 0, bounds = 0;
	for (uint32_t i = 0; front && i < j->known; i++) {
		bounds += j->points[i].bound;
		if (sweep_loop_on_front(j, i))
			front[n++] = (struct place){i, j->points[i].figures.read_share};
	}
	if (n) {
		qsort(front, n, sizeof *front, by_share);
		printf("\non the Pareto front%s:\n%8s  %8s  point\n",
		       bounds ? " (oracle, which knows the future, apart)" : "", "read_pct", "rel_l2");
	}
	/* Evenly along a long front, ends included. */
	uint32_t lines = n < FRONT_LINES ? n : FRONT_LINES;
	for (uint32_t k = 0; k < lines; k++) {
		uint32_t i = front[lines > 1 ? (uint64_t)k * (n - 1) / (lines - 1) : 0].point;
		printf("%8.3f  %8.4g  ", 100 * j->points[i].figures.read_share, j->points[i].figures.rel_l2);
		command_print(stdout, label_of(j, i));
		putchar('\n');
	}
	if (n > lines)
		printf("  (%u of %u)\n", lines, n);
	free(front);
}

void sweep_summary(const struct sweep_job *j)
{
	double s = (double)(wall_now_ns() - j->start_ns) * 1e-9;
	printf("%u done, %u failed, %u were in the database; %.1f s", j->done, j->failed, j->found, s);
	if (j->done)
		printf(", %.3g points/s", j->done / s);
	if (j->done && peers_size(j->peers) == 1)
		printf(", workers busy %.1f %%", 100 * (double)j->busy_ns * 1e-9 / (s * j->jobs));
	putchar('\n');
	for (uint32_t i = 0; i < j->known; i++) {
		if (j->points[i].state != POINT_FAILED)
			continue;
		fputs("failed: ", stdout);
		command_print(stdout, label_of(j, i));
		putchar('\n');
	}
	print_front(j);
	printf("\nrecorded in %s\nnext: intentkv query %s pareto\n      intentkv plot %s", j->db, j->db, j->db);
	for (const struct figure *f = figures; f->query; f++)
		if (f->sweep)
			printf(" %s", f->plot.name);
	printf(" -o %.*s\n",
	       (int)strlen(j->db) - (strlen(j->db) > 3 && !strcmp(j->db + strlen(j->db) - 3, ".db") ? 3 : 0), j->db);
}
