/* Pareto-guided refinement: bytes read against error. A point on the front is looked at with its nearest neighbours
 * along each numeric axis, all else equal; halfway to a neighbour is a candidate. Those where the two lie farthest
 * apart in (log bytes, log error) come first. Two points of one front pull the line between them; a neighbour behind
 * the front says where it bends. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/sweep_job.h"

struct candidate {
	uint32_t from;
	const struct sweep_axis *axis;
	char text[64]; /* value on the axis */
	double gap;
};
struct candidates {
	struct candidate *items;
	uint32_t count, cap;
};

static bool same_value(const struct yaml_node *a, const struct yaml_node *b)
{
	if (!a || !b || a->type != b->type || a->count != b->count)
		return a == b;
	if (a->type == YAML_SCALAR)
		return !strcmp(a->text, b->text);
	for (uint32_t i = 0; i < a->count; i++)
		if (!same_value(a->items[i], b->items[i]))
			return false;
	return true;
}

/* All axes but one agree. */
static bool in_line(const struct sweep *s, uint32_t a, uint32_t b, const char *but)
{
	for (uint32_t k = 0; k < s->key_count; k++)
		if (strcmp(s->keys[k], but) != 0 && !same_value(sweep_value(s->points[a].root, s->keys[k]),
								sweep_value(s->points[b].root, s->keys[k])))
			return false;
	return true;
}

static bool place_on(const struct sweep *s, uint32_t point, const struct sweep_axis *axis, double *plain)
{
	const struct yaml_node *n = sweep_value(s->points[point].root, axis->key);
	double value;
	char unit[8];
	return n && n->type == YAML_SCALAR && !sweep_number(n->text, &value, plain, unit) &&
	       !strcmp(unit, axis->unit);
}

static double gap(const struct store_figures *a, const struct store_figures *b)
{
	if (isnan(b->read_share) || isnan(b->rel_l2))
		return 0;
	double bytes = log((a->read_share + 1e-6) / (b->read_share + 1e-6)),
	       error = log((a->rel_l2 + 1e-4) / (b->rel_l2 + 1e-4));
	return hypot(bytes, error);
}

static int add(struct candidates *c, const struct candidate *new, struct ikv_err *err)
{
	for (uint32_t i = 0; i < c->count; i++)
		if (c->items[i].axis == new->axis && c->items[i].from == new->from &&
		    !strcmp(c->items[i].text, new->text))
			return 0;
	if (c->count == c->cap) {
		uint32_t cap = c->cap ? 2 * c->cap : 64;
		if (ikv_grow(&c->items, c->cap, cap, sizeof *c->items, err))
			return -1;
		c->cap = cap;
	}
	c->items[c->count++] = *new;
	return 0;
}

/* Halfway to the nearest neighbours below and above on one axis. */
static int look_around(struct sweep_job *j, uint32_t point, const struct sweep_axis *axis, struct candidates *c,
		       struct ikv_err *err)
{
	double here, there;
	int64_t nearest[2] = {-1, -1};
	double at[2] = {0, 0};
	if (!place_on(&j->sweep, point, axis, &here))
		return 0;
	for (uint32_t i = 0; i < j->known; i++) {
		if (i == point || !in_line(&j->sweep, point, i, axis->key) || !place_on(&j->sweep, i, axis, &there) ||
		    there == here)
			continue;
		int up = there > here;
		if (nearest[up] < 0 || fabs(there - here) < fabs(at[up] - here)) {
			nearest[up] = i;
			at[up] = there;
		}
	}
	for (int up = 0; up < 2; up++) {
		if (nearest[up] < 0)
			continue;
		struct candidate new = {.from = point,
					.axis = axis,
					.gap = gap(&j->points[point].figures, &j->points[nearest[up]].figures)};
		char a[64], b[64];
		sweep_between(here, at[up], 0.5, axis->log, axis->whole, axis->unit, new.text, sizeof new.text);
		sweep_between(here, at[up], 0, axis->log, axis->whole, axis->unit, a, sizeof a);
		sweep_between(here, at[up], 1, axis->log, axis->whole, axis->unit, b, sizeof b);
		if (strcmp(new.text, a) != 0 && strcmp(new.text, b) != 0 && new.gap > 0.05 && add(c, &new, err))
			return -1;
	}
	return 0;
}

static int widest(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	if (x->gap != y->gap)
		return x->gap < y->gap ? 1 : -1;
	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	return strcmp(x->text, y->text);
}

/* Label of a point with one value replaced: the same words, the axis's last word with the new value. */
static void relabel(const char *label, const struct sweep_axis *axis, const char *text, char *out, size_t size)
{
	const char *dot = strrchr(axis->key, '.'), *word = dot ? dot + 1 : axis->key;
	size_t n = strlen(word);
	const char *at = label;
	while ((at = strstr(at, word)) && !((at == label || at[-1] == ' ') && at[n] == '='))
		at++;
	if (!at) {
		snprintf(out, size, "%s %s=%s", label, word, text);
		return;
	}
	snprintf(out, size, "%.*s%s=%s%s", (int)(at - label), label, word, text, at + n + strcspn(at + n, " "));
}

static bool exists(const struct sweep *s, const struct yaml_node *root)
{
	for (uint32_t i = 0; i < s->count; i++) {
		uint32_t k = 0;
		while (k < s->key_count &&
		       same_value(sweep_value(root, s->keys[k]), sweep_value(s->points[i].root, s->keys[k])))
			k++;
		if (k == s->key_count)
			return true;
	}
	return false;
}

static int make(struct sweep_job *j, const struct candidate *c, struct ikv_err *err)
{
	char label[1100];
	struct yaml_node *root = yaml_copy(j->sweep.points[c->from].root, YAML_FILE);
	struct yaml_node *value = root ? sweep_scalar(c->text, root) : NULL;
	if (!value) {
		yaml_release(root);
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	}
	if (yaml_put(root, c->axis->key, value, err)) {
		yaml_release(root);
		return -1;
	}
	const struct yaml_node *where = yaml_get(yaml_get(j->doc.root, "sweep"), "where");
	bool met = true;
	for (uint32_t i = 0; where && met && i < (where->type == YAML_SEQ ? where->count : 1); i++) {
		if (sweep_where(j->doc.path, where->type == YAML_SEQ ? where->items[i] : where, root, &met, err)) {
			yaml_release(root);
			return -1;
		}
	}
	if (!met || exists(&j->sweep, root)) {
		yaml_release(root);
		return 0;
	}
	relabel(j->sweep.points[c->from].label, c->axis, c->text, label, sizeof label);
	return scenario_sweep_add(&j->sweep, root, label, err);
}

int sweep_refine(struct sweep_job *j, struct ikv_err *err)
{
	struct candidates c = {.count = 0};
	int rc = 0;
	for (uint32_t i = 0; rc == 0 && i < j->known; i++)
		for (uint32_t a = 0; rc == 0 && sweep_loop_on_front(j, i) && a < j->sweep.axis_count; a++)
			rc = look_around(j, i, &j->sweep.axes[a], &c, err);
	if (c.count)
		qsort(c.items, c.count, sizeof *c.items, widest);
	for (uint32_t i = 0; rc == 0 && i < c.count && j->sweep.count - j->known < j->sweep.refine_points; i++)
		rc = make(j, &c.items[i], err);
	ikv_free(c.items);
	return rc;
}
