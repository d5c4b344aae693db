/* intentkv calibrate: a machine profile from measurements, with the error of its predictions. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "gpu/gpu.h"
#include "sim/bench_attention.h"
#include "sim/calibrate.h"
#include "sim/command.h"
#include "sim/output.h"
#include "sim/scenario.h"

enum { FORCE = 256, DB, NAME, BACKEND, ISA, THREADS, MODEL, PAGE, TOKENS, SECONDS, CACHE, FROM, BYTES, FORMAT };
static const struct command_option options[] = {
    {"output", 'o', "FILE", "*.yaml", NULL, "the profile to write; needed"},
    {"force", FORCE, NULL, NULL, NULL, "replace FILE"},
    {"db", DB, "FILE", "*.db", NULL,
     "keep constants and measurements in a database, beside older ones (queries calibrations, calibration-errors)"},
    {"name", NAME, "NAME", NULL, NULL, "of the machine (default: the host's)"},
    {"backend", BACKEND, "NAME", "cpu cuda", "cpu", "of attention"},
    {"isa", ISA, "ISA", NULL, "auto", "instruction set of the CPU's kernels"},
    {"threads", THREADS, "N", NULL, NULL, "(default: all cores)"},
    {"model", MODEL, "MODEL", "<models>", "llama-3-8b", "whose shape to measure, or query heads/KV heads/dimension, such as 16/4/128: profiles are good for models with these"},
    {"page-tokens", PAGE, "N", NULL, "16", "tokens of a page"},
    {"tokens", TOKENS, "N", NULL, "32768", "of the longest context"},
    {"seconds", SECONDS, "S", NULL, "0.1", "measuring time of a call"},
    {"cache", CACHE, "BYTES", NULL, "256MiB", "read between calls, so that none finds its data in a cache: twice the last one's size"},
    {"from", FROM, "CSV", "*.csv", NULL, "fit decode rows of a file instead: columns n_decode, kv_decode, time_us"},
    {"token-bytes", BYTES, "N", NULL, "4096", "its KV bytes of a token in a layer"},
    {"format", FORMAT, "FORMAT", "table csv json", "table",
     "form of the errors of held-out calls by shape and format"},
    {.name = NULL},
};

const struct command command_calibrate = {
    .name = "calibrate",
    .summary = "fit the cost model's constants to measured attention",
    .arguments = "-o FILE",
    .examples = "intentkv calibrate -o mine.yaml\ttime this machine's attention, write a profile\n"
		"intentkv run SCENARIO -s cost.machine=./mine.yaml\tuse it\n"
		"intentkv calibrate -o gpu.yaml --backend cuda --db results/mine.db\n"
		"intentkv calibrate -o rtx.yaml --from profile.csv --token-bytes 4096\n",
    .about =
	"Times decode attention of a model's shape in every page format and in several at once, over contexts, selections "
	"and batches, with cold caches and tokens that stand out as in sessions, and fits rates and overheads to half of "
	"the calls; the others, another group and another head width are held out and tell how far predictions are off. "
	"Runs say when they read less or more than was measured or have another group (query heads a KV head), other KV "
	"heads or pages of another size, and the column sim_outside marks the steps.\n",
    .options = options,
    .run = cmd_calibrate,
};

struct choice {
	const char *output, *db, *name, *from;
	const char *model;
	bool force;
	uint32_t token_bytes;
	enum store_format form;
	struct calibrate_setup setup;
};

static void progress(uint32_t done, uint32_t of)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\rcalibrate: %u of %u%s", done, of, done == of ? "\n" : "");
}

static int pick_backend(const char *name, struct calibrate_setup *s)
{
	char why[300];
	s->backend = !strcmp(name, "cpu") ? &ikv_backend_cpu : !strcmp(name, "cuda") ? gpu_backend() : NULL;
	if (!s->backend)
		return command_usage("calibrate", "--backend: got \"%.40s\", expected cpu or cuda", name);
	if (s->backend->usable(why, sizeof why))
		return 0;
	return command_fail(
	    &(struct ikv_err){IKV_UNAVAILABLE, "--backend: cuda cannot be used; see `intentkv doctor`"});
}

/* Query heads/KV heads/dimension. */
static bool pick_heads(const char *text, struct calibrate_setup *s)
{
	int end = 0;
	uint32_t q, kv, dim;
	if (strspn(text, "0123456789/") != strlen(text) || sscanf(text, "%5u/%5u/%5u%n", &q, &kv, &dim, &end) != 3 ||
	    text[end] || !q || !kv || !dim || q % kv || (uint64_t)q * dim > 1 << 16)
		return false;
	s->q_heads = q;
	s->kv_heads = kv;
	s->head_dim = dim;
	return true;
}

static int pick_model(const char *name, struct calibrate_setup *s)
{
	if (pick_heads(name, s))
		return 0;
	const char *names[64];
	size_t n = 0;
	for (const struct model_preset *m = model_presets; m->name && n < 64; m++) {
		names[n++] = m->name;
		if (strcmp(m->name, name) != 0)
			continue;
		s->q_heads = m->q_heads;
		s->kv_heads = m->kv_heads;
		s->head_dim = m->head_dim;
		return 0;
	}
	const char *near = ikv_nearest(name, names, n);
	return command_usage("calibrate", "--model: got \"%.40s\", expected one of `intentkv list models` or such as 16/4/128%s%s%s",
			     name, near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* A number or a size, as the scenario's keys of that kind are written. */
static int take_value(const struct ikv_option *option, void *value)
{
	const struct ikv_option table[] = {*option, IKV_OPTION_END};
	struct ikv_err err;
	return ikv_option_set(table, value, option->name, optarg, &err) ? command_usage("calibrate", "%s", err.text) : 0;
}

static int take(int c, struct choice *x)
{
	struct calibrate_setup *s = &x->setup;
	switch (c) {
	case 'o':
		x->output = optarg;
		return 0;
	case FORCE:
		x->force = true;
		return 0;
	case DB:
		x->db = optarg;
		return 0;
	case NAME:
		x->name = optarg;
		return 0;
	case BACKEND:
		return pick_backend(optarg, s);
	case ISA:
		s->isa = optarg;
		return 0;
	case THREADS:
		return command_count("calibrate", "--threads", optarg, 1, 1024, &s->threads);
	case MODEL:
		return pick_model(x->model = optarg, s);
	case PAGE:
		return command_count("calibrate", "--page-tokens", optarg, 1, IKV_PAGE_TOKENS_MAX, &s->page_tokens);
	case TOKENS:
		return command_count("calibrate", "--tokens", optarg, 1024, 1 << 22, &s->tokens);
	case SECONDS:
		return take_value(&(struct ikv_option){"--seconds", IKV_OPT_REAL, 0, "0.1", 0.001, 60, NULL, ""}, &s->seconds);
	case CACHE:
		return take_value(&(struct ikv_option){"--cache", IKV_OPT_BYTES, 0, "256MiB", 1 << 20, 0x1p40, NULL, ""},
				  &s->cool_bytes);
	case FROM:
		x->from = optarg;
		return 0;
	case BYTES:
		return command_count("calibrate", "--token-bytes", optarg, 1, 1 << 30, &x->token_bytes);
	case FORMAT:
		return command_format(optarg, &x->form) ? IKV_USAGE : 0;
	default:
		return IKV_USAGE;
	}
}

static void print_constants(const struct ikv_machine *m)
{
	for (const struct ikv_option *o = ikv_machine_options; o->name; o++) {
		double v = *(const double *)((const char *)m + o->offset);
		if (v > 0)
			printf("%-28s %14.5g\n", o->name, v);
	}
}

static void print_error(const struct choice *x, bool first, const char *shape, const char *format,
			const struct calibrate_error *e)
{
	if (x->form == STORE_JSON)
		printf("%s {\"shape\":\"%s\",\"format\":\"%s\",\"calls\":%u,\"error_pct\":%.3f,\"median_pct\":%.3f,"
		       "\"worst_pct\":%.3f}",
		       first ? "[\n" : ",\n", shape, format, e->cells, e->mean, e->median, e->worst);
	else if (x->form == STORE_CSV)
		printf("%s%s,%s,%u,%.3f,%.3f,%.3f\r\n",
		       first ? "shape,format,calls,error_pct,median_pct,worst_pct\r\n" : "", shape, format, e->cells,
		       e->mean, e->median, e->worst);
	else
		printf("%s%-16s %-14s %6u %8.1f %% %8.1f %% %8.1f %%\n",
		       first
			   ? "\nheld out:\nshape            format          calls       mean     median      worst\n"
			   : "",
		       shape, format, e->cells, e->mean, e->median, e->worst);
}

/* Errors of held-out calls: a line for each shape and format in order of first appearance, all of them at the end. */
static void print_errors(const struct choice *x, const struct calibrate_set *set)
{
	bool first = true;
	for (uint32_t i = 0; i < set->count && !x->from; i++) {
		const struct calibrate_cell *c = &set->cells[i];
		bool seen = !c->held;
		for (uint32_t k = 0; k < i && !seen; k++)
			seen = set->cells[k].held && !strcmp(set->cells[k].shape, c->shape) &&
			       !strcmp(set->cells[k].format, c->format);
		if (seen)
			continue;
		struct calibrate_error e = calibrate_errors(set, true, c->format, c->shape);
		print_error(x, first, c->shape, c->format, &e);
		first = false;
	}
	struct calibrate_error e = calibrate_errors(set, true, NULL, NULL);
	print_error(x, first, "all", "all", &e);
	if (x->form == STORE_JSON)
		printf("\n]\n");
}

static int keep(const struct choice *x, const struct calibrate_set *set, const struct ikv_machine *m,
		struct ikv_err *err)
{
	struct calibrate_error fitted = calibrate_errors(set, false, NULL, NULL),
			       held = calibrate_errors(set, true, NULL, NULL);
	struct store_calibration c = {.machine = m,
				      .backend = x->from ? NULL : x->setup.backend->name,
				      .isa = x->from ? NULL : x->setup.isa,
				      .threads = x->from ? -1 : (int64_t)x->setup.threads,
				      .cells = fitted.cells,
				      .held_cells = held.cells,
				      .fit_error_pct = fitted.mean,
				      .held_error_pct = held.mean,
				      .held_median_pct = held.median};
	struct store_calibration_cell *cells = ikv_alloc(set->count, sizeof *cells, err);
	struct store *s = NULL;
	int64_t id;
	int rc = cells ? store_open(&s, x->db, err) : -1;
	for (uint32_t i = 0; i < set->count && !rc; i++) {
		const struct calibrate_cell *from = &set->cells[i];
		cells[i] = (struct store_calibration_cell){
		    from->shape, from->format,      from->selected,    from->tokens, (int64_t)from->work.kv_bytes,
		    from->held,  from->measured_ns, from->predicted_ns};
	}
	if (!rc)
		rc = store_calibration(s, &c, cells, set->count, &id, err);
	if (s && store_close(s, rc ? NULL : err))
		rc = -1;
	ikv_free(cells);
	return rc;
}

static void describe(const struct choice *x, const struct calibrate_set *set, struct ikv_machine *m)
{
	struct calibrate_error held = calibrate_errors(set, true, NULL, NULL);
	const struct calibrate_setup *s = &x->setup;
	if (x->from)
		snprintf(m->source, sizeof m->source,
			 "Fitted by intentkv calibrate to decode rows of %.100s, %u bytes a token; mean error %.1f "
			 "%% on %u "
			 "held-out rows.",
			 strrchr(x->from, '/') ? strrchr(x->from, '/') + 1 : x->from, x->token_bytes, held.mean,
			 held.cells);
	else
		snprintf(m->source, sizeof m->source,
			 "Fitted by intentkv calibrate: backend %s, %u threads, %s, pages of %u; median error %.1f "
			 "%%, mean "
			 "%.1f %% on %u held-out calls. Link not measured.",
			 s->backend->name, s->threads, x->model, s->page_tokens, held.median, held.mean, held.cells);
}

static int calibrate(struct choice *x, struct calibrate_set *set, struct ikv_err *err)
{
	struct ikv_machine m;
	memset(&m, 0, sizeof m);
	ikv_option_defaults(ikv_machine_options, &m);
	snprintf(m.name, sizeof m.name, "%s", x->name);
	if (x->from ? calibrate_read_csv(x->from, x->token_bytes, set, err)
		    : calibrate_measure(&x->setup, set, &m, err))
		return -1;
	if (calibrate_fit(set, &m, err))
		return -1;
	describe(x, set, &m);
	if (x->form == STORE_TABLE)
		print_constants(&m);
	print_errors(x, set);
	if ((x->from && output_apart(x->output, x->from, err)) || machine_write(x->output, &m, x->force, err))
		return -1;
	return x->db ? keep(x, set, &m, err) : 0;
}

static int check(struct choice *x)
{
	struct calibrate_setup *s = &x->setup;
	if (!x->output)
		return command_usage("calibrate", "--output: no file given");
	if (!x->force && access(x->output, F_OK) == 0)
		return command_usage("calibrate", "--output: %.200s is there; --force replaces it", x->output);
	if (x->form == STORE_MARKDOWN)
		return command_usage("calibrate", "--format: expected table, csv or json");
	if (strpbrk(x->name, "\"\\\n"))
		return command_usage("calibrate", "--name: quotes and backslashes cannot be part of it");
	s->tokens = s->tokens / (16 * s->page_tokens) * 16 * s->page_tokens;
	if (!s->tokens)
		return command_usage("calibrate", "--tokens: too few for sixteen pages of %u", s->page_tokens);
	if (!s->threads)
		s->threads = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	return 0;
}

int cmd_calibrate(int argc, char **argv)
{
	struct command_line line;
	char host[64] = "machine";
	gethostname(host, sizeof host - 1);
	struct choice x = {.name = host,
			   .model = "llama-3-8b",
			   .token_bytes = 4096,
			   .form = STORE_TABLE,
			   .setup = {.backend = &ikv_backend_cpu,
				     .isa = "auto",
				     .page_tokens = 16,
				     .tokens = 32768,
				     .seconds = 0.1,
				     .cool_bytes = BENCH_COOL_BYTES,
				     .progress = progress}};
	struct calibrate_set set = {0};
	struct ikv_err err;
	int c, rc = pick_model(x.model, &x.setup);
	command_begin(&line, &command_calibrate, argc, argv);
	while (!rc && (c = command_next(&line)) != -1)
		rc = take(c, &x);
	if (!rc && optind < argc)
		rc = command_usage("calibrate", "unexpected argument \"%.40s\"", argv[optind]);
	if (!rc)
		rc = check(&x);
	if (!rc && calibrate(&x, &set, &err))
		rc = command_fail(&err);
	calibrate_free(&set);
	return rc;
}
