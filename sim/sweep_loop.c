/* Playing a sweep: who plays what, what is recorded, rounds of refinement. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/run.h"
#include "sim/sweep_job.h"
#include "sim/sweep_key.h"

static int by_key_and_place(const void *a, const void *b)
{
	const struct point_info *x = *(const struct point_info *const *)a, *y = *(const struct point_info *const *)b;
	int order = strcmp(x->key, y->key);
	return order ? order : (x > y) - (x < y);
}

/* Of points with one key the first stays: two runs of it would be one point, and which of them the database has would
 * depend on when the sweep was interrupted. Those below `first` are in use and all different. */
static int drop_same(struct sweep_job *j, uint32_t first, struct ikv_err *err)
{
	uint32_t count = j->sweep.count, kept = first;
	struct point_info **order = calloc(count + (size_t)1, sizeof *order);
	bool *again = calloc(count + (size_t)1, sizeof *again);
	for (uint32_t i = 0; order && again && i < count; i++)
		order[i] = &j->points[i];
	if (order && again && count)
		qsort(order, count, sizeof *order, by_key_and_place);
	for (uint32_t i = 1; order && again && i < count; i++)
		again[order[i] - j->points] = !strcmp(order[i]->key, order[i - 1]->key);
	for (uint32_t i = first; order && again && i < count; i++) {
		if (again[i]) {
			scenario_sweep_point_free(&j->sweep.points[i]);
			continue;
		}
		j->sweep.points[kept] = j->sweep.points[i];
		j->points[kept++] = j->points[i];
	}
	int rc = order && again ? 0 : ikv_err_set(err, IKV_FAILED, "out of memory");
	if (!rc) {
		j->same += count - kept;
		j->sweep.count = kept;
	}
	free(order);
	free(again);
	return rc;
}

/* Every point is resolved before the first one runs: an error in the last must not cost the others. */
int sweep_loop_prepare(struct sweep_job *j, uint32_t first, struct ikv_err *err)
{
	struct point_info *points = realloc(j->points, (j->sweep.count + (size_t)1) * sizeof *points);
	if (!points)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	j->points = points;
	for (uint32_t i = first; i < j->sweep.count; i++) {
		const struct yaml_node *root = j->sweep.points[i].root;
		struct scenario sc;
		points[i] = (struct point_info){.figures = {NAN, NAN, 0}};
		if (scenario_resolve(&j->doc, root, &sc, err))
			return -1;
		points[i].bound = sc.router_ops->needs(sc.router.config) & IKV_NEEDS_COMING_MASS;
		int rc = scenario_paths(&j->doc, root, &sc, err) || sweep_key(&sc, root, points[i].key, err) ? -1 : 0;
		scenario_free(&sc);
		if (rc)
			return -1;
	}
	if (drop_same(j, first, err))
		return -1;
	j->known = j->sweep.count;
	return 0;
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct store_point *)a)->key, ((const struct store_point *)b)->key);
}

static int by_key_and_run(const void *a, const void *b)
{
	const struct store_point *x = a, *y = b;
	int order = by_key(a, b);
	return order ? order : (x->run_id > y->run_id) - (x->run_id < y->run_id);
}

/* Points that the file has done are found there: the first run of its key that is done. */
int sweep_loop_look_up(struct sweep_job *j, uint32_t first, const char *path, struct ikv_err *err)
{
	struct store_point *there, wanted;
	uint32_t count;
	if (store_points(path, &there, &count, err))
		return -1;
	if (count)
		qsort(there, count, sizeof *there, by_key_and_run);
	int rc = 0;
	for (uint32_t i = first; rc == 0 && i < j->known; i++) {
		struct point_info *p = &j->points[i];
		memcpy(wanted.key, p->key, sizeof wanted.key);
		struct store_point *s = count ? bsearch(&wanted, there, count, sizeof *there, by_key) : NULL;
		if (!s || p->state == POINT_FOUND)
			continue;
		while (s > there && !by_key(s - 1, &wanted))
			s--;
		for (; s < there + count && !s->done && !by_key(s, &wanted); s++)
			p->failed_once = true;
		if (s == there + count || by_key(s, &wanted))
			continue;
		p->state = POINT_FOUND;
		p->run_id = s->run_id;
		j->found++;
		if (j->sweep.refine_rounds || !j->quiet)
			rc = store_run_figures(path, p->run_id, &p->figures, err);
	}
	/* Numbers follow the points, whoever finishes first; a sweep that goes on keeps to its numbers. */
	if (first == 0 && path == j->db) {
		int64_t highest = 0;
		j->base = 0;
		for (uint32_t i = 0; i < count; i++)
			highest = there[i].run_id > highest ? there[i].run_id : highest;
		for (uint32_t i = 0; !j->base && i < j->known; i++)
			if (j->points[i].state == POINT_FOUND && j->points[i].run_id > i)
				j->base = j->points[i].run_id - i;
		if (!j->base)
			j->base = highest + 1;
	}
	ikv_free(there);
	return rc;
}

int64_t sweep_loop_next(struct sweep_job *j)
{
	for (; j->next < j->known; j->next++) {
		struct point_info *p = &j->points[j->next];
		if (p->state != POINT_NEW || j->next % j->parts != j->part)
			continue;
		p->state = POINT_GIVEN;
		j->given++;
		return j->next++;
	}
	return -1;
}

bool sweep_loop_on_front(const struct sweep_job *j, uint32_t point)
{
	const struct store_figures *a = &j->points[point].figures;
	if (isnan(a->read_share) || isnan(a->rel_l2) || j->points[point].bound)
		return false;
	for (uint32_t i = 0; i < j->known; i++) {
		const struct store_figures *b = &j->points[i].figures;
		if (!j->points[i].bound && b->read_share <= a->read_share && b->rel_l2 <= a->rel_l2 &&
		    (b->read_share < a->read_share || b->rel_l2 < a->rel_l2))
			return false;
	}
	return true;
}

void sweep_loop_count(struct sweep_job *j, const struct sweep_result *r)
{
	struct point_info *p = &j->points[r->point];
	j->given--;
	j->busy_ns += r->busy_ns;
	if (r->status) {
		p->state = POINT_FAILED;
		j->failed++;
		sweep_progress_failure(j, r->point, r->text);
		return;
	}
	p->state = POINT_DONE;
	p->figures = r->figures;
	j->done++;
}

/* Hand the row of a point, with the settings that the scenario gives it, to `use`. */
static int with_row(struct sweep_job *j, uint32_t i, int64_t run_id,
		    int (*use)(struct sweep_job *j, const struct store_run *row, const struct sweep_result *r,
			       struct ikv_err *err),
		    const struct sweep_result *r, struct ikv_err *err)
{
	const struct sweep_point *point = &j->sweep.points[i];
	struct scenario sc;
	if (scenario_resolve(&j->doc, point->root, &sc, err))
		return -1;
	struct store_param *params = calloc(sc.param_count + (size_t)1, sizeof *params);
	for (uint32_t k = 0; params && k < sc.param_count; k++)
		params[k] = (struct store_param){sc.params[k].key, sc.params[k].value, sc.params[k].origin};
	struct store_run row = {.name = sc.name,
				.scenario_path = j->doc.path,
				.scenario_text = j->doc.text,
				.point = point->label,
				.seed = (uint64_t)sc.seed,
				.router = sc.router.name,
				.scorer = sc.scorer.name,
				.source = sc.kv.name,
				.ladder = sc.ladder.name,
				.model = sc.preset.name,
				.machine = sc.machine.name,
				.params = params,
				.param_count = sc.param_count,
				.run_id = run_id,
				.point_key = j->points[i].key};
	int rc = params ? use(j, &row, r, err) : ikv_err_set(err, IKV_FAILED, "out of memory");
	free(params);
	scenario_free(&sc);
	return rc;
}

static int write_failure(struct sweep_job *j, const struct store_run *row, const struct sweep_result *r,
			 struct ikv_err *err)
{
	return store_failed_run(j->store, row, r->text, r->wall_ns, err);
}

static int adopt(struct sweep_job *j, const struct store_run *row, const struct sweep_result *r, struct ikv_err *err)
{
	(void)r;
	return store_run_adopt(j->store, row, err);
}

/* What the database had already are points of this scenario now: queries show them beside the ones played today. */
int sweep_loop_adopt(struct sweep_job *j, uint32_t first, struct ikv_err *err)
{
	for (uint32_t i = first; i < j->known; i++)
		if (j->points[i].state == POINT_FOUND && with_row(j, i, j->points[i].run_id, adopt, NULL, err))
			return -1;
	return 0;
}

static int record(struct sweep_job *j, int spool, const struct sweep_result *r, struct ikv_err *err)
{
	/* A full disk is nothing about this point: stop, so that it runs again. */
	if (r->status == IKV_IO || r->status == IKV_CANT_CREATE)
		return ikv_err_set(err, (enum ikv_status)r->status, "%.900s", r->text);
	if (r->status)
		return with_row(j, r->point, j->base + r->point, write_failure, r, err);
	return store_spool_take(j->store, spool, r->bytes, j->base + r->point, j->points[r->point].key, r->wall_ns,
				err);
}

/* Give idle workers points: from here on rank 0, from rank 0 elsewhere. */
static int hand_out(struct sweep_job *j, struct ikv_err *err)
{
	struct worker *w;
	while ((w = sweep_pool_idle(j))) {
		int64_t point = peers_rank(j->peers) == 0 ? sweep_loop_next(j) : peers_take(j->peers);
		if (point < 0)
			return 0;
		if (sweep_pool_give(j, w, (uint32_t)point, err))
			return -1;
	}
	return 0;
}

static uint32_t idle_workers(const struct sweep_job *j)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < j->jobs; i++)
		n += j->workers[i].point < 0;
	return n;
}

/* Rank 0 knows what is given; another rank is done when rank 0 has no more and its own workers rest. */
static bool round_is_over(struct sweep_job *j)
{
	if (peers_rank(j->peers) == 0)
		return j->given == 0 && j->next >= j->known && peers_over(j->peers);
	return peers_over(j->peers) && idle_workers(j) == j->jobs;
}

static int play_round(struct sweep_job *j, struct ikv_err *err)
{
	bool many = peers_size(j->peers) > 1;
	j->next = 0;
	for (;;) {
		struct worker *w;
		struct sweep_result r;
		if (*j->stop)
			return 0;
		if (peers_exchange(j->peers, j, idle_workers(j)))
			return ikv_err_set(err, IKV_FAILED, "another rank gave up");
		if (hand_out(j, err))
			return -1;
		if (round_is_over(j))
			return 0;
		int got = sweep_pool_wait(j, many ? 1 : 100, &w, &r, err);
		if (got < 0)
			return -1;
		if (got) {
			int spool = sweep_pool_take(w);
			if (hand_out(j, err) || record(j, spool, &r, err))
				return -1;
			if (peers_rank(j->peers) == 0)
				sweep_loop_count(j, &r);
			else
				peers_report(j->peers, &r);
		}
		sweep_progress(j, false);
	}
}

/* Workers know the points that there were when they were forked. */
static int fresh_pool(struct sweep_job *j, struct ikv_err *err)
{
	sweep_pool_close(j);
	return sweep_pool_open(j, err);
}

int sweep_loop_play(struct sweep_job *j, struct ikv_err *err)
{
	uint32_t added = 1;
	j->start_ns = wall_now_ns();
	for (uint32_t round = 0; added; round++) {
		if (fresh_pool(j, err) || play_round(j, err))
			return -1;
		if (*j->stop || round >= j->sweep.refine_rounds)
			return 0;
		peers_share(j->peers, j);
		uint32_t first = j->sweep.count;
		if (sweep_refine(j, err) || sweep_loop_prepare(j, first, err))
			return -1;
		added = j->sweep.count - first;
		if (added && peers_rank(j->peers) == 0 &&
		    (sweep_loop_look_up(j, first, j->db, err) || sweep_loop_adopt(j, first, err)))
			return -1;
	}
	return 0;
}
