/* Prints the statistics of a source as tab-separated rows, for docs/synthetic-source.md, its figure and fitting.
 *
 *   bench_source_statistics SOURCE LAYER [key=value ...]
 *
 * Keys: the source's options; and heads, kv_heads, d, tokens, steps, seed, page_tokens of the setup. LAYER counts
 * the executed layers. A source without sessions plays the mean recorded session shape. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/source_stats.h"

struct settings {
	int64_t heads, kv_heads, d, tokens, steps, seed, page_tokens;
};

static const struct ikv_option settings_table[] = {
    {"heads", IKV_OPT_INT, offsetof(struct settings, heads), "8", 1, 1024, NULL, ""},
    {"kv_heads", IKV_OPT_INT, offsetof(struct settings, kv_heads), "2", 1, 1024, NULL, ""},
    {"d", IKV_OPT_INT, offsetof(struct settings, d), "64", 16, 1024, NULL, ""},
    {"tokens", IKV_OPT_INT, offsetof(struct settings, tokens), "6176", 1000, 1 << 20, NULL, ""},
    {"steps", IKV_OPT_INT, offsetof(struct settings, steps), "512", 1, 1 << 20, NULL, ""},
    {"seed", IKV_OPT_INT, offsetof(struct settings, seed), "1", 0, 1 << 30, NULL, ""},
    {"page_tokens", IKV_OPT_INT, offsetof(struct settings, page_tokens), "16", 1, 1024, NULL, ""},
    IKV_OPTION_END};

static void print(const struct source_stats *s)
{
	static const char *const shares[] = {"head", "kv_head", "shared"};
	for (int i = 0; i < SOURCE_STATS_SHARES; i++)
		for (int f = 0; f < SOURCE_STATS_FRACTIONS; f++)
			printf("recall_%s_%g\t%.4f\n", shares[i], source_stats_fraction[f], s->recall[i][f]);
	for (int i = 0; i < SOURCE_STATS_WINDOWS; i++)
		printf("recency_%u\t%.4f\n", source_stats_window[i], s->recency[i]);
	for (int i = 0; i < SOURCE_STATS_WINDOWS; i++)
		printf("overlap_%u\t%.4f\n", source_stats_lag[i], s->overlap[i]);
	printf("effective_pages\t%.3f\nsink\t%.4f\npages\t%.0f\nsteps\t%u\n", s->effective_pages, s->sink, s->pages,
	       s->steps);
	printf("model_recall\t%.4f\nmodel_correlation\t%.4f\nscore_correlation\t%.4f\n", s->model_recall,
	       s->model_correlation, s->score_correlation);
	for (int k = 0; k < IKV_KIND_COUNT; k++)
		if (s->kind_tokens[k] > 0)
			printf("kind_%s\t%.4f\t%.4f\n", ikv_kind_name((enum ikv_kind)k), s->kind_mass[k],
			       s->kind_tokens[k]);
}

static int measure(const struct source_ops *ops, uint32_t layer, const struct settings *set, const void *config,
		   struct ikv_err *err)
{
	struct source_setup setup = {.sequences = 1, .seed = (uint64_t)set->seed};
	struct session_list list = {0};
	struct source_stats stats;
	struct source *source;
	setup.geometry = (struct ikv_geometry){.layers = layer + 1,
					       .q_heads = (uint32_t)set->heads,
					       .kv_heads = (uint32_t)set->kv_heads,
					       .d_qk = (uint32_t)set->d,
					       .d_v = (uint32_t)set->d,
					       .page_tokens = (uint32_t)set->page_tokens,
					       .scale = (float)(1 / __builtin_sqrt((double)set->d))};
	if (ops->open(&source, config, &setup, err))
		return -1;
	int rc = ops->sessions ? ops->sessions(source, &list, err)
			       : source_stats_session(&list, (uint32_t)set->tokens, (uint32_t)set->steps, err);
	if (!rc)
		rc = source_stats_measure(source, &setup, list.items, layer, (uint32_t)set->steps, true, &stats, err);
	if (!rc)
		print(&stats);
	ops->close(source);
	session_list_free(&list);
	return rc;
}

int main(int argc, char **argv)
{
	struct ikv_err err = {0};
	struct settings set = {0};
	const struct source_ops *ops = argc > 2 ? source_find(argv[1]) : NULL;
	if (!ops) {
		fprintf(stderr, "usage: %s synthetic|capture LAYER [key=value ...]\n", argv[0]);
		return IKV_USAGE;
	}
	void *config = calloc(1, ops->config_bytes);
	if (!config)
		return IKV_FAILED;
	ikv_option_defaults(settings_table, &set);
	ikv_option_defaults(ops->options, config);
	int rc = 0;
	for (int i = 3; !rc && i < argc; i++) {
		char *value = strchr(argv[i], '=');
		if (!value) {
			rc = ikv_err_set(&err, IKV_USAGE, "%s: expected key=value", argv[i]);
			break;
		}
		*value++ = 0;
		rc = ikv_option_find(settings_table, argv[i])
			 ? ikv_option_set(settings_table, &set, argv[i], value, &err)
			 : ikv_option_set(ops->options, config, argv[i], value, &err);
	}
	if (!rc)
		rc = measure(ops, (uint32_t)atoi(argv[2]), &set, config, &err);
	if (rc)
		fprintf(stderr, "%s\n", err.text);
	free(config);
	return rc ? (int)err.status : 0;
}
