/* intentkv bench: measure policies, attention, formats and residency on this machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sim/bench_mrc.h"
#include "sim/bench_policies.h"
#include "sim/cmd_bench.h"
#include "sim/command.h"

enum { OUTPUT = 256, SECONDS, ISA, THREADS, SHAPE, Q_LEN, FORMAT, SELECTION, PLOT, WARM };
static const struct command_option attention_options[] = {
    {"isa", ISA, "ISA", NULL, "auto", "instruction set; INTENTKV_ISA overrides"},
    {"threads", THREADS, "LIST", NULL, NULL, "numbers of threads (default: 1 and all cores)"},
    {"shape", SHAPE, "LIST", NULL, "32/8/128/32768",
     "query heads/KV heads/dimension/tokens, and /page tokens if not 16; 576:512 as dimension: V is the first 512 of "
     "576 "
     "channels (MLA)"},
    {"q-len", Q_LEN, "LIST", NULL, "1",
     "query rows a head, the last ones of the context; more than 1: causal prefill"},
    {"format", FORMAT, "LIST", "<formats>", NULL, "page formats (default: all)"},
    {"selection", SELECTION, "LIST", NULL, "dense,0.25,0.0625",
     "dense, or the share of pages read, and /head if each KV head picks its own"},
    {"warm", WARM, "MS", NULL, "2", "milliseconds of FMA before each call, after the caches were emptied"},
    {"plot", PLOT, "FOLDER", "/", NULL, "draw the roofline there; the folder is made if absent"},
    {"output", OUTPUT, "FORM", "table csv json", "table", "form of the output"},
    {"seconds", SECONDS, "S", NULL, "0.5", "measuring time of a row"},
    {.name = NULL},
};
static const struct command_option format_options[] = {
    {"output", OUTPUT, "FORM", "table csv json", "table", "form of the output"},
    {"format", FORMAT, "FORM", "table csv json", NULL, "same as --output"},
    {"seconds", SECONDS, "S", NULL, "0.5", "measuring time of a row"},
    {.name = NULL},
};
static const struct command_option policy_options[] = {
    {"output", OUTPUT, "FORM", "table json", "table", "form of the output"},
    {"format", FORMAT, "FORM", "table json", NULL, "same as --output"},
    {"seconds", SECONDS, "S", NULL, "0.5; mrc: 2", "measuring time of a row"},
    {.name = NULL},
};

static const struct command policies_part = {
    .name = "bench policies",
    .summary = "routers and the memory manager, without attention",
    .examples = "intentkv bench policies\n",
    .about =
	"Routers with scores given, at 128K tokens, 64 blocks and pages of 16, router and page plan only, one core; "
	"and the memory manager's step at 8K pages under byte pressure. Allocations during the timed steps are "
	"counted.\n",
    .options = policy_options,
    .run = cmd_bench,
};
static const struct command attention_part = {
    .name = "bench attention",
    .summary = "decode, MLA and prefill of the CPU backend beside the machine's ceiling",
    .examples =
	"intentkv bench attention --threads 1,2 --shape 32/8/128/32768 --format FP16,INT8 --selection dense,0.25\n"
	"intentkv bench attention --shape 32/8/128/4096 --q-len 512 --format FP16 --selection dense\n"
	"intentkv bench attention --shape 128/1/576:512/8192 --format FP16,FP8,INT8 --selection dense\n",
    .about =
	"Random data with cold caches and FMA units in use, beside pure reads of as many bytes in the same order and, for prefill and "
	"MLA, FMA at its peak: the ceiling is the lesser of the two.\n",
    .options = attention_options,
    .run = cmd_bench,
};
static const struct command formats_part = {
    .name = "bench formats",
    .summary = "encoding and decoding of pages, beside copying, and what each format loses",
    .examples = "intentkv bench formats --output json\n",
    .options = format_options,
    .run = cmd_bench,
};
static const struct command mrc_part = {
    .name = "bench mrc",
    .summary = "residency policies over 10 million references",
    .examples = "intentkv bench mrc\n",
    .about =
	"Requests by Zipf(1.0) over a million ids, a cache of 100,000 objects, one core; ids are numbered and the "
	"trace is in memory before.\n",
    .options = policy_options,
    .run = cmd_bench,
};
static const struct command *const parts[] = {&policies_part, &attention_part,    &formats_part,
					      &mrc_part,      &command_bench_gpu, NULL};

const struct command command_bench = {
    .name = "bench",
    .summary = "measure policies, attention and formats on this machine",
    .arguments = "WHAT",
    .examples = "intentkv bench policies\n"
		"intentkv bench attention --threads 1,2 --format FP16,INT8 --selection dense,0.25\n"
		"intentkv bench gpu --shape S1,S4 --format FP16,mixed --page 16 --selection 1,0.25\n",
    .parts = parts,
};

static void table(const struct bench_policies_row *rows, uint32_t n, const struct bench_memory_row *memory)
{
	printf("%-12s %-22s %12s %8s %10s %12s\n", "router", "settings", "steps/s", "pages", "digest ns",
	       "allocations");
	for (uint32_t i = 0; i < n; i++)
		printf("%-12s %-22s %12.0f %8u %10.2f %12llu\n", rows[i].policy, rows[i].settings,
		       rows[i].steps_per_s, rows[i].pages, rows[i].digest_ns,
		       (unsigned long long)rows[i].allocations);
	printf("\n%-12s %8s %10s %12s %12s %12s\n", "manager", "pages", "selected", "us/step", "moves/step",
	       "allocations");
	printf("%-12s %8u %10u %12.1f %12.1f %12llu\n", "lru", memory->pages, memory->selected, memory->step_us,
	       memory->moves_per_step, (unsigned long long)memory->allocations);
}

static void json(const struct bench_policies_row *rows, uint32_t n, const struct bench_memory_row *memory)
{
	printf("[\n");
	for (uint32_t i = 0; i < n; i++)
		printf(" {\"router\":\"%s\",\"settings\":\"%s\",\"steps_per_s\":%.0f,\"pages\":%u,\"allocations\":%"
		       "llu},\n",
		       rows[i].policy, rows[i].settings, rows[i].steps_per_s, rows[i].pages,
		       (unsigned long long)rows[i].allocations);
	printf(" {\"manager\":\"lru\",\"pages\":%u,\"selected\":%u,\"step_us\":%.2f,\"moves_per_step\":%.2f,"
	       "\"allocations\":%llu}\n]\n",
	       memory->pages, memory->selected, memory->step_us, memory->moves_per_step,
	       (unsigned long long)memory->allocations);
}

struct bench_options {
	struct bench_attention_setup attention;
	struct bench_report report;
};

enum { TOKENS_MOST = 1 << 22, WIDTH_MOST = 1 << 16, ROWS_MOST = 1 << 16, THREADS_MOST = 1024 };
static const char shape_wanted[] = "query heads/KV heads/dimension[:values]/tokens[/page tokens], such as "
				   "32/8/128/32768 or 128/1/576:512/8192, with a "
				   "multiple of the KV heads as query heads, 65536 channels of all KV heads, 4194304 "
				   "tokens and 1024 of a page at most";

/* Digits at *text, from 1 to `most`; moves behind them. */
static bool take_number(const char **text, uint32_t most, uint32_t *out)
{
	uint64_t n = 0;
	const char *c = *text;
	for (; *c >= '0' && *c <= '9' && n <= most; c++)
		n = 10 * n + (uint64_t)(*c - '0');
	if (c == *text || n < 1 || n > most)
		return false;
	*text = c;
	*out = (uint32_t)n;
	return true;
}

static bool add_shape(const char *word, struct bench_attention_setup *s)
{
	struct bench_shape *x = &s->shapes[s->shape_count++];
	x->page_tokens = 16;
	x->latent = 0;
	if (!take_number(&word, WIDTH_MOST, &x->q_heads) || *word++ != '/' ||
	    !take_number(&word, WIDTH_MOST, &x->kv_heads) || *word++ != '/' ||
	    !take_number(&word, WIDTH_MOST, &x->head_dim))
		return false;
	if (*word == ':' && !(word++, take_number(&word, x->head_dim, &x->latent)))
		return false;
	if (*word++ != '/' || !take_number(&word, TOKENS_MOST, &x->kv_tokens))
		return false;
	if (*word == '/' && !(word++, take_number(&word, IKV_PAGE_TOKENS_MAX, &x->page_tokens)))
		return false;
	return !*word && x->q_heads % x->kv_heads == 0 && (uint64_t)x->kv_heads * x->head_dim <= WIDTH_MOST;
}

static bool add_rows(const char *word, struct bench_attention_setup *s)
{
	return take_number(&word, ROWS_MOST, &s->q_lens[s->q_len_count++]) && !*word;
}

static bool add_selection(const char *word, struct bench_attention_setup *s)
{
	struct bench_selection *x = &s->selections[s->selection_count++];
	int end = 0;
	if (!strcmp(word, "dense")) {
		*x = (struct bench_selection){1, false};
		return true;
	}
	if (sscanf(word, "%lf%n", &x->share, &end) != 1 || !(x->share > 0 && x->share <= 1))
		return false;
	x->per_head = !strcmp(word + end, "/head");
	return x->per_head || !word[end];
}

static bool add_threads(const char *word, struct bench_attention_setup *s)
{
	return take_number(&word, THREADS_MOST, &s->threads[s->thread_count++]) && !*word;
}

static bool add_format(const char *word, struct bench_attention_setup *s)
{
	enum ikv_format *x = &s->formats[s->format_count++];
	return ikv_format_by_name(word, x) == 0 && *x != IKV_FMT_SKIP;
}

/* Words between commas, handed to `add` one by one. */
static int take_list(const char *option, const char *text, const char *wanted,
		     bool (*add)(const char *word, struct bench_attention_setup *s), struct bench_attention_setup *s)
{
	char word[64];
	for (uint32_t n = 0;; n++) {
		size_t length = strcspn(text, ",");
		snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : sizeof word - 1), text);
		if (n == BENCH_LIST)
			return command_usage("bench", "--%s: more than %d values", option, BENCH_LIST);
		if (length >= sizeof word || !add(word, s))
			return command_usage("bench", "--%s: got \"%.40s\", expected %s", option, word, wanted);
		if (!text[length])
			return 0;
		text += length + 1;
	}
}

bool bench_set_output(const char *text, enum bench_output *output)
{
	static const char *const outputs[] = {"table", "csv", "json"};
	for (int i = 0; i < 3; i++)
		if (!strcmp(text, outputs[i])) {
			*output = (enum bench_output)i;
			return true;
		}
	return false;
}

int bench_set_warm(const char *command, const char *text, double *ms)
{
	char tail;
	if (sscanf(text, "%lf%c", ms, &tail) == 1 && *ms >= 0 && *ms <= 1e4)
		return 0;
	return command_usage(command, "--warm: got \"%.40s\", expected milliseconds from 0 to 10000", text);
}

static int take_option(int c, struct bench_options *o)
{
	char tail;
	switch (c) {
	case OUTPUT:
		if (bench_set_output(optarg, &o->report.output))
			return 0;
		return command_usage("bench", "--output: got \"%.40s\", expected table, csv or json", optarg);
	case SECONDS:
		if (sscanf(optarg, "%lf%c", &o->report.seconds, &tail) == 1 && o->report.seconds > 0 &&
		    o->report.seconds < 1e6)
			return 0;
		return command_usage("bench", "--seconds: got \"%.40s\", expected a number of seconds above 0",
				     optarg);
	case ISA:
		o->attention.isa = optarg;
		return 0;
	case PLOT:
		o->report.plot = optarg;
		return 0;
	case WARM:
		return bench_set_warm("bench attention", optarg, &o->attention.warm_ms);
	case THREADS:
		o->attention.thread_count = 0;
		return take_list("threads", optarg, "a number of threads from 1 to 1024", add_threads, &o->attention);
	case Q_LEN:
		o->attention.q_len_count = 0;
		return take_list("q-len", optarg, "a number of query rows a head from 1 to 65536", add_rows,
				 &o->attention);
	case SHAPE:
		o->attention.shape_count = 0;
		return take_list("shape", optarg, shape_wanted, add_shape, &o->attention);
	case FORMAT:
		/* Elsewhere --format is the form of the output; no page format has such a name. */
		if (bench_set_output(optarg, &o->report.output))
			return 0;
		o->attention.format_count = 0;
		return take_list("format", optarg, "a page format such as FP16 or KIVI4; intentkv list has them",
				 add_format, &o->attention);
	case SELECTION:
		o->attention.selection_count = 0;
		return take_list("selection", optarg, "dense, or a share of pages such as 0.25 or 0.25/head",
				 add_selection, &o->attention);
	default:
		return IKV_USAGE;
	}
}

static void fill_defaults(struct bench_attention_setup *s)
{
	const char *forced = getenv("INTENTKV_ISA");
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	if (forced && *forced)
		s->isa = forced;
	if (!s->thread_count) {
		s->threads[s->thread_count++] = 1;
		if (cores > 1 && cores <= THREADS_MOST)
			s->threads[s->thread_count++] = (uint32_t)cores;
	}
	if (!s->shape_count)
		s->shapes[s->shape_count++] = (struct bench_shape){32, 8, 128, 32768, 16, 0};
	for (unsigned f = IKV_FMT_SKIP + 1, given = s->format_count; !given && f < IKV_FMT_COUNT; f++)
		s->formats[s->format_count++] = (enum ikv_format)f;
	if (!s->q_len_count)
		s->q_lens[s->q_len_count++] = 1;
	if (!s->selection_count) {
		s->selections[s->selection_count++] = (struct bench_selection){1, false};
		s->selections[s->selection_count++] = (struct bench_selection){0.25, false};
		s->selections[s->selection_count++] = (struct bench_selection){0.0625, false};
	}
}

/* Query rows are the last ones of a context. */
static int check_rows(const struct bench_attention_setup *s)
{
	for (uint32_t i = 0; i < s->shape_count; i++)
		for (uint32_t k = 0; k < s->q_len_count; k++)
			if (s->q_lens[k] > s->shapes[i].kv_tokens)
				return command_usage("bench",
						     "--q-len: got %u, expected at most the %u tokens of --shape",
						     s->q_lens[k], s->shapes[i].kv_tokens);
	return 0;
}

static int bench_policies(const struct bench_report *report)
{
	struct bench_policies_setup setup = bench_policies_defaults();
	struct bench_policies_row rows[BENCH_POLICIES_ROWS];
	struct bench_memory_row memory;
	uint32_t n;
	struct ikv_err err;
	setup.seconds = report->seconds;
	if (report->output == BENCH_CSV)
		return command_usage("bench", "--output: policies are printed as table or json");
	if (bench_policies_router(&setup, rows, &n, &err) || bench_policies_memory(&setup, &memory, &err))
		return command_fail(&err);
	if (report->output == BENCH_JSON)
		json(rows, n, &memory);
	else
		table(rows, n, &memory);
	return IKV_OK;
}

static int bench_residency(const struct bench_report *report)
{
	struct bench_mrc_setup setup = bench_mrc_defaults();
	bool as_json = report->output == BENCH_JSON;
	struct bench_mrc_row rows[BENCH_MRC_ROWS];
	struct ikv_err err;
	uint32_t n;
	if (report->output == BENCH_CSV)
		return command_usage("bench", "--output: residency is printed as table or json");
	if (report->seconds > 0)
		setup.seconds = report->seconds;
	if (bench_mrc(&setup, rows, &n, &err))
		return command_fail(&err);
	if (!as_json)
		printf("%-8s %12s %10s %10s\n", "policy", "M requests/s", "miss ratio", "objects");
	for (uint32_t i = 0; i < n; i++)
		printf(as_json ? "%s {\"policy\":\"%s\",\"requests_per_s\":%.0f,\"miss_ratio\":%.6f,\"objects\":%u}%s"
			       : "%s%-8s %12.2f %10.4f %10u%s",
		       !as_json ? ""
		       : i      ? ",\n"
				: "[\n",
		       rows[i].policy, as_json ? rows[i].rate : rows[i].rate / 1e6, rows[i].miss_ratio,
		       rows[i].objects, as_json ? "" : "\n");
	if (as_json)
		printf("\n]\n");
	return fflush(stdout) == 0 ? IKV_OK : IKV_IO;
}

/* argv[0] says what to measure: the last word of one of the parts. */
int cmd_bench(int argc, char **argv)
{
	struct bench_options o = {.attention = {.isa = "auto", .warm_ms = BENCH_WARM_MS}, .report = {0}};
	struct command_line line;
	const struct command *part = parts[0];
	int c;
	for (const struct command *const *p = parts; *p; p++)
		part = strcmp(strrchr((*p)->name, ' ') + 1, argv[0]) == 0 ? *p : part;
	command_begin(&line, part, argc, argv);
	while ((c = command_next(&line)) != -1)
		if (c == COMMAND_WRONG || take_option(c, &o))
			return IKV_USAGE;
	if (optind < argc)
		return command_usage(part->name, "unexpected argument \"%.40s\"", argv[optind]);
	if (part != &attention_part && o.attention.format_count)
		return command_usage(part->name, "--format: expected table, csv or json");
	if (part == &mrc_part)
		return bench_residency(&o.report);
	o.report.seconds = o.report.seconds > 0 ? o.report.seconds : 0.5;
	o.attention.seconds = o.report.seconds;
	if (part == &formats_part)
		return cmd_bench_formats(&o.report);
	if (part == &policies_part)
		return bench_policies(&o.report);
	fill_defaults(&o.attention);
	return check_rows(&o.attention) ? IKV_USAGE : cmd_bench_attention(&o.attention, &o.report);
}
