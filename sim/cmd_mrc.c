/* intentkv mrc: how many references of a trace miss, by policy and bytes of the cache. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "sim/command.h"
#include "sim/mrc.h"
#include "sim/plot.h"
#include "sim/scenario.h"

enum { POLICY = COMMAND_FROM_VALUE + 1, CAPACITY, CURVE, ORDER, MODEL, KV_BYTES, BLOCK_TOKENS, SKIP_BAD, FORMAT };
static const struct command_option options[] = {
    {"policy", POLICY, "LIST", "<residencies>", NULL, "residency policies (default: all; belady is the bound)"},
    {"capacity", CAPACITY, "LIST", NULL, NULL,
     "such as 5859blk (blocks), 128MiB, 2G; a plain number is bytes (default: evenly on a logarithmic scale up to "
     "all "
     "that occurs)"},
    {"curve", CURVE, NULL, NULL, NULL, "LRU from stack distances, at 41 capacities or those given"},
    COMMAND_FROM,
    {"order", ORDER, "ORDER", "auto trace time", "auto",
     "of the requests; auto is time where the trace goes session by session"},
    {"model", MODEL, "PRESET", "<models>", "llama-3-8b", "whose KV a block holds, in FP16"},
    {"kv-bytes-per-token", KV_BYTES, "N", NULL, NULL, "the same as a number"},
    {"block-tokens", BLOCK_TOKENS, "N", NULL, NULL, "ids in blocks of N tokens instead of the trace's"},
    {"skip-bad", SKIP_BAD, NULL, NULL, NULL, "leave broken records out"},
    {"format", FORMAT, "FORMAT", "table csv json", "table", "form of the output"},
    {"output", 'o', "FOLDER", "/", NULL, "draw it as well: mrc.gp, mrc.tsv and mrc.svg there"},
    {.name = NULL},
};

const struct command command_mrc = {
    .name = "mrc",
    .summary = "miss-ratio curves of the blocks or objects that a trace names, by residency policy",
    .arguments = "TRACE",
    .words = {"*"},
    .examples = "intentkv mrc trace.jsonl\tevery policy, 21 capacities\n"
		"intentkv mrc trace.jsonl --policy lru,belady --capacity 5859blk,1GiB\n"
		"intentkv mrc weka/ --curve -o figures\tLRU's whole curve, drawn\n",
    .options = options,
    .run = cmd_mrc,
};

enum { CAPACITIES_MAX = 256, POLICIES_MAX = 16, OCTAVES = 10 };
enum format { FORMAT_TABLE, FORMAT_CSV, FORMAT_JSON };

struct request {
	const char *path, *output;
	const char *policies, *capacities, *model;
	struct ref_trace_options read;
	int64_t kv_bytes;
	enum format format;
	bool curve;
};

struct curves {
	struct ref_trace trace;
	const char *names[POLICIES_MAX];
	const struct ikv_residency_ops *ops[POLICIES_MAX]; /* NULL: by stack distances */
	uint32_t policies, count;
	uint64_t bytes[CAPACITIES_MAX];                /* ascending */
	uint64_t misses[POLICIES_MAX][CAPACITIES_MAX]; /* [policies][count] */
};

static int choose(struct curves *c, const char *word)
{
	const struct ikv_residency_ops *const *all = ikv_residencies();
	const char *names[POLICIES_MAX];
	size_t n = 0;
	for (; all[n]; n++)
		names[n] = all[n]->name;
	const struct ikv_residency_ops *ops = ikv_residency_find(word);
	if (!ops) {
		const char *near = ikv_nearest(word, names, n);
		return command_usage("mrc",
				     "--policy: got \"%.40s\", expected one of `intentkv list residencies`%s%s%s",
				     word, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
	}
	for (uint32_t i = 0; i < c->policies; i++)
		if (c->ops[i] == ops)
			return command_usage("mrc", "--policy: \"%.40s\" twice", word);
	c->names[c->policies] = ops->name;
	c->ops[c->policies++] = ops;
	return 0;
}

/* Hand each word of a list to `use`; an exit code. */
static int each(const char *option, const char *list, int (*use)(struct curves *c, const char *word),
		struct curves *c)
{
	char text[2000], *rest = text, *word;
	int rc = 0;
	if (strlen(list) >= sizeof text)
		return command_usage("mrc", "%s: a list of more than %zu letters", option, sizeof text - 1);
	strcpy(text, list);
	while (!rc && (word = strsep(&rest, ",")))
		rc = *word ? use(c, word) : command_usage("mrc", "%s: an empty word in \"%.80s\"", option, list);
	return rc;
}

static int choose_policies(struct curves *c, const struct request *r)
{
	if (r->curve) {
		c->names[c->policies++] = "lru";
		return 0;
	}
	if (r->policies)
		return each("--policy", r->policies, choose, c);
	int rc = 0;
	for (const struct ikv_residency_ops *const *p = ikv_residencies(); *p && !rc; p++)
		rc = choose(c, (*p)->name);
	return rc;
}

static int parse_capacity(const char *word, const struct ref_trace *t, uint64_t *bytes, struct ikv_err *err)
{
	static const struct ikv_option sizes[] = {{"--capacity", IKV_OPT_BYTES, 0, "0", 1, 0x1p62, NULL, ""},
						  IKV_OPTION_END};
	char *end;
	errno = 0;
	unsigned long long blocks = strtoull(word, &end, 10);
	if (*word >= '0' && *word <= '9' && !strcmp(end, "blk")) {
		if (t->bytes)
			return ikv_err_set(err, IKV_USAGE,
					   "--capacity: got \"%.40s\", but the trace names objects, not blocks",
					   word);
		if (blocks == 0 || errno || blocks > (1ull << 62) / t->unit_bytes)
			return ikv_err_set(err, IKV_USAGE, "--capacity: got \"%.40s\", expected 1blk or more", word);
		*bytes = blocks * t->unit_bytes;
		return 0;
	}
	int64_t value;
	struct ikv_err e;
	if (ikv_option_set(sizes, &value, "--capacity", word, &e) || value < 1)
		return ikv_err_set(err, IKV_USAGE,
				   "--capacity: got \"%.40s\", expected blocks such as 5859blk or a size such as "
				   "128MiB, 2G or 4096",
				   word);
	*bytes = (uint64_t)value;
	return 0;
}

static int add_capacity(struct curves *c, const char *word)
{
	struct ikv_err err;
	if (c->count == CAPACITIES_MAX)
		return command_usage("mrc", "--capacity: more than %d", CAPACITIES_MAX);
	if (parse_capacity(word, &c->trace, &c->bytes[c->count], &err))
		return command_usage("mrc", "%s", err.text);
	c->count++;
	return 0;
}

static int ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static int choose_capacities(struct curves *c, const struct request *r)
{
	uint64_t unit = c->trace.unit_bytes;
	int steps = r->curve ? 4 : 2; /* an octave */
	if (!r->capacities && c->trace.unique_units > UINT64_MAX / unit)
		return command_usage("mrc",
				     "all blocks together take more than 2^64 bytes at %llu a block; give --capacity",
				     (unsigned long long)unit);
	if (r->capacities) {
		int rc = each("--capacity", r->capacities, add_capacity, c);
		if (rc)
			return rc;
	}
	for (int i = -OCTAVES * steps; i <= 0 && !r->capacities; i++) {
		double part = ikv_det_pow(2, (double)i / steps);
		uint64_t units = (uint64_t)((double)c->trace.unique_units * part);
		units = i == 0 ? c->trace.unique_units : units ? units : 1;
		c->bytes[c->count++] = units * unit;
	}
	qsort(c->bytes, c->count, sizeof *c->bytes, ascending);
	uint32_t kept = 0;
	for (uint32_t i = 0; i < c->count; i++)
		if (!kept || c->bytes[kept - 1] != c->bytes[i])
			c->bytes[kept++] = c->bytes[i];
	c->count = kept;
	return 0;
}

static int token_bytes(struct request *r)
{
	const char *names[32];
	size_t n = 0;
	if (r->kv_bytes) {
		r->read.token_bytes = (uint64_t)r->kv_bytes;
		return 0;
	}
	for (const struct model_preset *m = model_presets; m->name && n < 32; m++) {
		names[n++] = m->name;
		if (strcmp(m->name, r->model) != 0)
			continue;
		r->read.token_bytes = 2ull * m->layers * model_kv_values(m); /* of two bytes */
		return 0;
	}
	const char *near = ikv_nearest(r->model, names, n);
	return command_usage("mrc", "--model: got \"%.40s\", expected one of `intentkv list models`%s%s%s", r->model,
			     near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

static double ratio(const struct curves *c, uint32_t policy, uint32_t k)
{
	return (double)c->misses[policy][k] / c->trace.count;
}

static void print(const struct curves *c, enum format format)
{
	static const char *const rows[] = {
	    [FORMAT_TABLE] = "%-8s %20llu %12u %12llu",
	    [FORMAT_CSV] = "%s,%llu,%u,%llu\n",
	    [FORMAT_JSON] = "%s\n {\"policy\":\"%s\",\"capacity_bytes\":%llu,\"requests\":%u,\"misses\":%llu}"};
	if (format == FORMAT_TABLE)
		printf("%-8s %20s %12s %12s %10s\n", "policy", "capacity_bytes", "requests", "misses", "miss_ratio");
	if (format == FORMAT_CSV)
		printf("policy,capacity_bytes,requests,misses\n");
	for (uint32_t p = 0; p < c->policies; p++) {
		for (uint32_t k = 0; k < c->count; k++) {
			unsigned long long bytes = c->bytes[k], misses = c->misses[p][k];
			if (format == FORMAT_JSON)
				printf(rows[format], p || k ? "," : "[", c->names[p], bytes, c->trace.count, misses);
			else
				printf(rows[format], c->names[p], bytes, c->trace.count, misses);
			if (format == FORMAT_TABLE)
				printf(" %10.4f\n", ratio(c, p, k));
		}
	}
	if (format == FORMAT_JSON)
		printf("\n]\n");
}

/* An exit code. The picture is named on stderr, since the figures are on stdout. */
static int draw(const struct curves *c, const char *folder)
{
	static const struct plot plot = {
	    .name = "mrc", .title = "Miss ratio of residency policies by capacity", .script = "plots/mrc.gp"};
	char data[4096];
	int bad = plot_folder(folder);
	if (bad)
		return bad;
	if (snprintf(data, sizeof data, "%s/mrc.tsv", folder) >= (int)sizeof data)
		return plot_fail(IKV_USAGE, folder, "the path is too long");
	FILE *f = fopen(data, "we");
	if (!f)
		return plot_fail(IKV_CANT_CREATE, data, strerror(errno));
	for (uint32_t p = 0; p < c->policies; p++) {
		fprintf(f, "%spolicy\tcapacity_bytes\tmiss_ratio\n", p ? "\n\n" : "");
		for (uint32_t k = 0; k < c->count; k++)
			fprintf(f, "%s\t%llu\t%.6f\n", c->names[p], (unsigned long long)c->bytes[k], ratio(c, p, k));
	}
	int rc = plot_finish(f, data);
	if (!rc)
		rc = plot_make(&plot, folder, "svg");
	if (!rc)
		fprintf(stderr, "intentkv: %s/mrc.svg\n", folder);
	return rc;
}

static int compute(struct request *r, struct curves *c)
{
	struct ikv_err err;
	int rc = choose_policies(c, r);
	if (!rc)
		rc = token_bytes(r);
	if (rc)
		return rc;
	if (ref_trace_read(&c->trace, r->path, &r->read, &err))
		return command_fail(&err);
	rc = choose_capacities(c, r);
	for (uint32_t p = 0; p < c->policies && !rc; p++) {
		int bad = c->ops[p]
			      ? mrc_run(&c->trace, c->ops[p], NULL, c->bytes, c->count, c->misses[p], NULL, &err)
			      : mrc_curve(&c->trace, c->bytes, c->count, c->misses[p], &err);
		rc = bad ? command_fail(&err) : 0;
	}
	if (!rc)
		print(c, r->format);
	if (!rc && fflush(stdout) != 0)
		rc = plot_fail(IKV_IO, "standard output", strerror(errno));
	if (!rc && r->output)
		rc = draw(c, r->output);
	ref_trace_free(&c->trace);
	return rc;
}

static int word_of(const char *option, const char *const *words, int *out)
{
	for (int i = 0; words[i]; i++) {
		if (!strcmp(optarg, words[i])) {
			*out = i;
			return 0;
		}
	}
	return command_usage("mrc", "%s: got \"%.40s\", expected %s, %s or %s", option, optarg, words[0], words[1],
			     words[2]);
}

/* One option; 0 or an exit code. */
static int set(struct request *r, int c)
{
	static const char *const orders[] = {"auto", "trace", "time", NULL}, *const formats[] = {"table", "csv",
												 "json", NULL};
	static const struct ikv_option bytes[] = {{"--kv-bytes-per-token", IKV_OPT_BYTES, 0, "0", 1, 1e9, NULL, ""},
						  IKV_OPTION_END};
	struct ikv_err err;
	int word, rc = 0;
	if (c == POLICY)
		r->policies = optarg;
	else if (c == CAPACITY)
		r->capacities = optarg;
	else if (c == CURVE)
		r->curve = true;
	else if (c == COMMAND_FROM_VALUE)
		r->read.format = optarg;
	else if (c == MODEL)
		r->model = optarg;
	else if (c == 'o')
		r->output = optarg;
	else if (c == SKIP_BAD)
		r->read.skip_bad = true;
	else if (c == BLOCK_TOKENS)
		rc = command_count("mrc", "--block-tokens", optarg, 1, 65536, &r->read.block_tokens);
	else if (c == ORDER) {
		rc = word_of("--order", orders, &word);
		r->read.order = rc ? r->read.order : (enum ref_order)word;
	} else if (c == FORMAT) {
		rc = word_of("--format", formats, &word);
		r->format = rc ? r->format : (enum format)word;
	} else if (c == KV_BYTES)
		rc = ikv_option_set(bytes, &r->kv_bytes, "--kv-bytes-per-token", optarg, &err)
			 ? command_usage("mrc", "%s", err.text)
			 : 0;
	else
		rc = IKV_USAGE;
	return rc;
}

int cmd_mrc(int argc, char **argv)
{
	struct command_line line;
	struct request r = {.read = {.format = "auto"}};
	int c, rc = 0;
	command_begin(&line, &command_mrc, argc, argv);
	while (!rc && (c = command_next(&line)) != -1)
		rc = set(&r, c);
	if (rc)
		return rc;
	if (optind + 1 != argc)
		return command_usage("mrc", "expected one trace: a file or folder");
	if (r.curve && r.policies)
		return command_usage("mrc", "--curve is LRU's; it takes no --policy");
	if (r.model && r.kv_bytes)
		return command_usage("mrc", "--model and --kv-bytes-per-token say the same; give one of them");
	r.path = argv[optind];
	r.model = r.model ? r.model : "llama-3-8b";
	struct curves *curves = calloc(1, sizeof *curves);
	rc = curves ? compute(&r, curves) : command_usage("mrc", "out of memory");
	free(curves);
	return rc;
}
