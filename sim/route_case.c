#include <string.h>
#include "sim/route_case.h"

static const char *const root_keys[] = {"page_size", "page_tokens", "total_tokens", "config", "blocks", "expect"};
static const char *const block_keys[] = {"name", "start", "end", "policy", "score", "kind"};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static const struct ikv_router_ops *router(void)
{
	return ikv_router_find("semantic");
}

void route_case_free(struct route_case *c)
{
	for (uint32_t i = 0; c->names && i < c->layout.count; i++)
		ikv_free(c->names[i]);
	ikv_free(c->names);
	ikv_free(c->layout.blocks);
	ikv_free(c->config);
	memset(c, 0, sizeof *c);
}

static int missing(const struct yaml_node *map, const char *file, const char *key, struct ikv_err *err)
{
	return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, map), key, "is missing");
}

/* One of a list of names, by index. */
static int read_choice(const struct yaml_node *n, const char *file, const char *key, const char *const *choices,
		       int *out, struct ikv_err *err)
{
	size_t count = 0, used = 0;
	char got[120], list[300] = "";
	for (; choices[count]; count++) {
		if (n->type == YAML_SCALAR && !strcmp(choices[count], n->text)) {
			*out = (int)count;
			return 0;
		}
		if (used < sizeof list - 40)
			used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", count ? ", " : "",
						 choices[count]);
	}
	const char *near = n->type == YAML_SCALAR ? ikv_nearest(n->text, choices, count) : NULL;
	yaml_describe(n, got, sizeof got);
	return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), key, "got %s, expected one of: %s%s%s%s", got,
			  list, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static int read_tokens(const struct yaml_node *map, const char *file, const char *key, int64_t min, int64_t max,
		       uint32_t *out, struct ikv_err *err)
{
	const struct yaml_node *n = yaml_get(map, key);
	int64_t v;
	if (!n)
		return missing(map, file, key, err);
	if (yaml_int(n, file, key, min, max, &v, err))
		return -1;
	*out = (uint32_t)v;
	return 0;
}

static int read_block(const struct yaml_node *n, const char *file, uint32_t i, struct route_case *c,
		      struct ikv_err *err)
{
	struct ikv_block *b = &c->layout.blocks[i];
	int choice = IKV_KIND_OTHER;
	if (yaml_check_keys(n, file, "blocks", block_keys, COUNT(block_keys), err))
		return -1;
	const struct yaml_node *name = yaml_get(n, "name"), *policy = yaml_get(n, "policy");
	const struct yaml_node *kind = yaml_get(n, "kind"), *score = yaml_get(n, "score");
	if (!name || !policy)
		return missing(n, file, name ? "policy" : "name", err);
	if (yaml_expect(name, YAML_SCALAR, file, "name", err))
		return -1;
	c->names[i] = ikv_alloc(strlen(name->text) + 1, 1, err);
	if (!c->names[i])
		return -1;
	strcpy(c->names[i], name->text);
	b->name = c->names[i];
	b->line = n->line;
	b->col = n->col;
	if (read_tokens(n, file, "start", 0, UINT32_MAX, &b->start, err) ||
	    read_tokens(n, file, "end", 0, UINT32_MAX, &b->end, err))
		return -1;
	if (kind && read_choice(kind, file, "kind", ikv_kind_names(), &choice, err))
		return -1;
	b->kind = (enum ikv_kind)choice;
	if (read_choice(policy, file, "policy", ikv_policy_names(), &choice, err))
		return -1;
	b->policy = (enum ikv_policy)choice;
	b->has_score = score && !yaml_is_null(score);
	return b->has_score ? yaml_real(score, file, "score", 0, 1, &b->score, err) : 0;
}

static int set_option(const struct yaml_node *n, const char *file, const char *name, const char *key,
		      struct route_case *c, struct ikv_err *err)
{
	struct ikv_err inner;
	char full[200];
	snprintf(full, sizeof full, "config.%s", key);
	if (yaml_expect(n, YAML_SCALAR, file, full, err))
		return -1;
	if (!ikv_option_set(router()->options, c->config, name, n->text, &inner))
		return 0;
	/* The inner message begins with the key, which the place repeats in full. */
	const char *text = strstr(inner.text, ": ");
	return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, n), full, "%s", text ? text + 2 : inner.text);
}

static int read_ladder(const struct yaml_node *map, const char *file, struct route_case *c, struct ikv_err *err)
{
	const struct yaml_node *name = yaml_get(map, "ladder"), *high = yaml_get(map, "high"),
			       *medium = yaml_get(map, "medium");
	const char *names[32];
	int n = 0, at = 0;
	for (const struct ikv_ladder *const *l = ikv_ladder_presets(); *l && n < 31; l++)
		names[n++] = (*l)->name;
	names[n] = NULL;
	if (name && read_choice(name, file, "config.ladder", names, &at, err))
		return -1;
	c->ladder = *ikv_ladder_presets()[at];
	if ((high && yaml_real(high, file, "config.high", 0, 1, &c->ladder.high, err)) ||
	    (medium && yaml_real(medium, file, "config.medium", 0, 1, &c->ladder.medium, err)))
		return -1;
	if (c->ladder.medium > c->ladder.high)
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, medium ? medium : high), "config.medium",
				  "got %g, expected at most the threshold high, %g", c->ladder.medium,
				  c->ladder.high);
	return 0;
}

/* What the options mean together. */
static int check_config(const struct yaml_node *map, const char *file, struct route_case *c, struct ikv_err *err)
{
	struct ikv_err inner;
	void *state;
	if (!router()->create(&state, c->config, &c->ladder, &inner)) {
		router()->destroy(state);
		return 0;
	}
	return ikv_err_at(err, inner.status, YAML_PLACE(file, map), "config", "%s", inner.text);
}

static int read_config(const struct yaml_node *map, const char *file, struct route_case *c, struct ikv_err *err)
{
	static const char *const own[] = {"memory_pressure", "preserve_system_prompt", "ladder", "high", "medium"};
	const char *valid[64];
	size_t n = 0;
	for (; n < COUNT(own); n++)
		valid[n] = own[n];
	for (const struct ikv_option *o = router()->options; o->name && n < COUNT(valid); o++)
		if (strcmp(o->name, "share") != 0) /* one layout has one plan, whatever it is for */
			valid[n++] = o->name;
	if (yaml_check_keys(map, file, "config", valid, n, err) || read_ladder(map, file, c, err))
		return -1;
	if (yaml_get(map, "preserve_system_prompt") && yaml_get(map, "preserve_system"))
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, map), "config.preserve_system",
				  "given twice: preserve_system_prompt is the same setting");
	for (uint32_t i = 0; i < map->count; i++) {
		const char *key = map->keys[i], *name = key;
		if (!strcmp(key, "memory_pressure")) {
			if (yaml_real(map->items[i], file, "config.memory_pressure", 0, 1, &c->pressure, err))
				return -1;
			continue;
		}
		if (!strcmp(key, "preserve_system_prompt"))
			name = "preserve_system";
		if (ikv_option_find(router()->options, name) && set_option(map->items[i], file, name, key, c, err))
			return -1;
	}
	return check_config(map, file, c, err);
}

static int read_case(const struct yaml_node *root, const char *file, struct route_case *c, struct ikv_err *err)
{
	if (yaml_check_keys(root, file, NULL, root_keys, COUNT(root_keys), err))
		return -1;
	const struct yaml_node *twice = yaml_get(root, "page_size");
	const char *page = yaml_get(root, "page_tokens") ? "page_tokens" : "page_size";
	if (twice && yaml_get(root, "page_tokens"))
		return ikv_err_at(err, IKV_BAD_INPUT, YAML_PLACE(file, twice), "page_size",
				  "given twice: page_tokens is the same setting");
	const struct yaml_node *blocks = yaml_get(root, "blocks"), *config = yaml_get(root, "config");
	if (read_tokens(root, file, page, 1, IKV_PAGE_TOKENS_MAX, &c->layout.page_tokens, err) ||
	    read_tokens(root, file, "total_tokens", 0, UINT32_MAX - IKV_PAGE_TOKENS_MAX, &c->layout.total_tokens,
			err))
		return -1;
	if (!blocks)
		return missing(root, file, "blocks", err);
	if (yaml_expect(blocks, YAML_SEQ, file, "blocks", err))
		return -1;
	c->config = ikv_alloc(1, router()->config_bytes, err);
	c->names = ikv_alloc(blocks->count, sizeof *c->names, err);
	c->layout.blocks = ikv_alloc(blocks->count, sizeof *c->layout.blocks, err);
	if (!c->config || !c->names || !c->layout.blocks)
		return -1;
	ikv_option_defaults(router()->options, c->config);
	if (ikv_option_set(router()->options, c->config, "recent_window_tokens", "0", err) ||
	    (config && read_config(config, file, c, err)))
		return -1;
	for (uint32_t i = 0; i < blocks->count; i++) {
		c->layout.count = i + 1;
		if (read_block(blocks->items[i], file, i, c, err))
			return -1;
	}
	return ikv_layout_validate(&c->layout, file, true, err);
}

int route_case_read(const struct yaml_node *root, const char *file, struct route_case *out, struct ikv_err *err)
{
	memset(out, 0, sizeof *out);
	out->pressure = 0.5;
	out->ladder = *ikv_ladder_find("seed");
	if (!read_case(root, file, out, err))
		return 0;
	route_case_free(out);
	return -1;
}

int route_case_run(const struct route_case *c, struct ikv_route *route, struct ikv_err *err)
{
	const struct ikv_layout *l = &c->layout;
	struct ikv_route_unit unit = {.q_count = 1, .layout = l, .pressure = c->pressure, .route = route};
	void *state;
	if (ikv_route_init(route, l->page_tokens, ikv_pages(l->total_tokens, l->page_tokens), l->count, err))
		return -1;
	if (router()->create(&state, c->config, &c->ladder, err)) {
		ikv_route_free(route);
		return -1;
	}
	int rc = router()->act(state, &unit, 1, err);
	router()->destroy(state);
	if (rc)
		ikv_route_free(route);
	return rc;
}

static json_t *number_or_null(double v)
{
	return v == v ? json_real(v) : json_null();
}

static json_t *block_json(const struct route_case *c, const struct ikv_decision *d)
{
	const struct ikv_block *b = &c->layout.blocks[d->block];
	char text[300];
	ikv_decision_explain(d, text, sizeof text);
	return json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:b, s:I}", "name", b->name,
			 "start", (json_int_t)d->start, "end", (json_int_t)d->end, "kind", ikv_kind_name(b->kind),
			 "policy", ikv_policy_name(b->policy), "decision", ikv_decision_name(d->code), "precision",
			 ikv_format_info(d->format)->name, "reason", ikv_reason_name(d->reason), "why", text, "score",
			 number_or_null(d->score), "rank", d->rank < 0 ? json_null() : json_integer(d->rank),
			 "threshold", number_or_null(d->threshold), "recent", (int)d->recent, "selected_tokens",
			 (json_int_t)d->selected_tokens);
}

/* The mask, if any, as one character a token of the page: bit t of the page's words is character t. */
static json_t *page_json(const struct ikv_plan *p, const struct ikv_page_ref *r)
{
	char bits[IKV_PAGE_TOKENS_MAX + 1];
	json_t *o = json_pack("{s:I, s:i, s:i, s:s}", "id", (json_int_t)r->page, "lo", (int)r->lo, "hi", (int)r->hi,
			      "format", ikv_format_info((enum ikv_format)r->request)->name);
	if (o && r->mask != IKV_NO_MASK) {
		for (uint32_t t = 0; t < p->page_tokens; t++)
			bits[t] = ikv_plan_has(p, r, t) ? '1' : '0';
		bits[p->page_tokens] = 0;
		json_object_set_new(o, "mask", json_string(bits));
	}
	return o;
}

static json_t *summary_json(const struct route_case *c, const struct ikv_route *r)
{
	uint64_t tokens[IKV_FMT_COUNT] = {0};
	json_t *formats = json_object();
	json_int_t skipped = 0, masked = 0;
	double bytes = 0;
	for (uint32_t i = 0; i < r->decision_count; i++) {
		tokens[r->decisions[i].format] += r->decisions[i].selected_tokens;
		skipped += r->decisions[i].code == IKV_SKIP;
	}
	for (int f = IKV_FMT_FP16; f < IKV_FMT_COUNT; f++) {
		const struct ikv_format_info *info = ikv_format_info((enum ikv_format)f);
		bytes += (double)tokens[f] * info->accounting_bytes;
		if (tokens[f])
			json_object_set_new(formats, info->name, json_integer((json_int_t)tokens[f]));
	}
	for (uint32_t i = 0; i < r->plan.count; i++)
		masked += r->plan.pages[i].mask != IKV_NO_MASK;
	const uint32_t total = c->layout.total_tokens;
	return json_pack(
	    "{s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:o, s:f}", "selected_tokens",
	    (json_int_t)r->plan.selected_tokens, "total_tokens", (json_int_t)total, "selected_fraction",
	    total ? (double)r->plan.selected_tokens / total : 0.0, "selected_pages", (json_int_t)r->plan.count,
	    "total_pages", (json_int_t)ikv_pages(total, c->layout.page_tokens), "masked_pages", masked,
	    "skipped_blocks", skipped, "page_tokens", (json_int_t)c->layout.page_tokens, "precision_tokens", formats,
	    "accounting_bytes_per_value", r->plan.selected_tokens ? bytes / (double)r->plan.selected_tokens : 0.0);
}

json_t *route_case_json(const struct route_case *c, const struct ikv_route *r)
{
	json_t *blocks = json_array(), *pages = json_array(), *prefetch = json_array();
	for (uint32_t i = 0; i < r->decision_count; i++)
		json_array_append_new(blocks, block_json(c, &r->decisions[i]));
	for (uint32_t i = 0; i < r->plan.count; i++)
		json_array_append_new(pages, page_json(&r->plan, &r->plan.pages[i]));
	for (uint32_t i = 0; i < r->prefetch_count; i++)
		json_array_append_new(prefetch, json_integer(r->prefetch[i]));
	return json_pack("{s:o, s:o, s:o, s:o}", "blocks", blocks, "pages", pages, "prefetch_pages", prefetch,
			 "summary", summary_json(c, r));
}

/* Runs of pages of the same format and full bounds share a line. */
static void print_pages(const struct ikv_plan *p, FILE *to)
{
	for (uint32_t i = 0, next; i < p->count; i = next) {
		const struct ikv_page_ref *r = &p->pages[i];
		for (next = i + 1; next < p->count; next++) {
			const struct ikv_page_ref *n = &p->pages[next];
			if (n->page != r->page + (next - i) || n->request != r->request || r->mask != IKV_NO_MASK ||
			    n->mask != IKV_NO_MASK || n->lo != r->lo || n->hi != r->hi)
				break;
		}
		char id[32];
		if (next - i == 1)
			snprintf(id, sizeof id, "%u", r->page);
		else
			snprintf(id, sizeof id, "%u-%u", r->page, p->pages[next - 1].page);
		fprintf(to, "%-16s %4u %4u  %s%s\n", id, r->lo, r->hi,
			ikv_format_info((enum ikv_format)r->request)->name, r->mask == IKV_NO_MASK ? "" : "  masked");
	}
}

void route_case_table(const struct route_case *c, const struct ikv_route *r, FILE *to)
{
	char text[300];
	fprintf(to, "%-20s %9s %9s %-7s %-19s %-14s %9s  %s\n", "block", "start", "end", "policy", "decision",
		"precision", "selected", "why");
	for (uint32_t i = 0; i < r->decision_count; i++) {
		const struct ikv_decision *d = &r->decisions[i];
		const struct ikv_block *b = &c->layout.blocks[d->block];
		ikv_decision_explain(d, text, sizeof text);
		fprintf(to, "%-20s %9u %9u %-7s %-19s %-14s %9u  %s\n", b->name, d->start, d->end,
			ikv_policy_name(b->policy), ikv_decision_name(d->code), ikv_format_info(d->format)->name,
			d->selected_tokens, text);
	}
	fprintf(to, "\n%-16s %4s %4s  %s\n", "pages", "lo", "hi", "format");
	print_pages(&r->plan, to);
	fprintf(to, "\nprefetch:");
	for (uint32_t i = 0; i < r->prefetch_count; i++)
		fprintf(to, " %u", r->prefetch[i]);
	fprintf(to, "%s\nselected: %llu of %u tokens, %u of %u pages\n", r->prefetch_count ? "" : " none",
		(unsigned long long)r->plan.selected_tokens, c->layout.total_tokens, r->plan.count,
		ikv_pages(c->layout.total_tokens, c->layout.page_tokens));
}
