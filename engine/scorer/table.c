#include <string.h>
#include "table.h"

static const struct ikv_scorer_ops *const scorers[] = {&scorer_cosine, &scorer_quest, NULL};

const struct ikv_scorer_ops *const *ikv_scorers(void)
{
	return scorers;
}

const struct ikv_scorer_ops *ikv_scorer_find(const char *name)
{
	for (const struct ikv_scorer_ops *const *s = scorers; *s; s++)
		if (!strcmp((*s)->name, name))
			return *s;
	return NULL;
}

int scorer_check(const struct ikv_score_unit *u, const struct ikv_geometry *g, const char *scorer,
		 struct ikv_err *err)
{
	const struct ikv_layout *l = u->layout;
	if (!u->q_count || u->q_first >= g->q_heads || u->q_count > g->q_heads - u->q_first || u->layer >= g->layers)
		return ikv_err_set(
		    err, IKV_FAILED,
		    "scorer %s: heads %u to %u of layer %u do not exist: the model has %u layers of %u", scorer,
		    u->q_first, u->q_first + u->q_count, u->layer, g->layers, g->q_heads);
	if (l->page_tokens != g->page_tokens)
		return ikv_err_set(err, IKV_FAILED, "scorer %s: a layout of %u-token pages, keys in %u-token pages",
				   scorer, l->page_tokens, g->page_tokens);
	if (l->total_tokens > ikv_exact_tokens(u->kv, u->seq, u->layer))
		return ikv_err_set(err, IKV_FAILED, "scorer %s: a layout of %u tokens, keys of %u", scorer,
				   l->total_tokens, ikv_exact_tokens(u->kv, u->seq, u->layer));
	return 0;
}
