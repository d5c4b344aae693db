/* intentkv formats: what page formats and KIVI caches lose of recorded or generated K and V. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/loss.h"
#include "sim/scenario.h"
#include "sim/source_stats.h"

enum { FORMAT = 256, BY, RESIDUAL, PAGE, QUERIES, LAYERS, MODEL, TOKENS, SEED, OUTPUT };
static const struct command_option options[] = {
    {"format", FORMAT, "LIST", "<formats>", NULL, "page formats (default: all)"},
    {"by", BY, "LIST", "kind layer head", NULL,
     "a row for each block kind, layer or KV head, or their combinations (default: one for all)"},
    {"residual", RESIDUAL, "N", "32 64 96 128", "128",
     "KIVI: newest tokens that a cache keeps in FP16; of V so many, of K the length modulo N"},
    {"page-tokens", PAGE, "N", NULL, "32", "tokens of a page; the last, unfilled page is FP16"},
    {"queries", QUERIES, "N", NULL, "128", "at most so many, evenly spaced over the decode steps"},
    {"layers", LAYERS, "LIST", NULL, NULL, "recorded layers to read, as 3,5,7 (default: all)"},
    {"model", MODEL, "PRESET", "<models>", "llama-3-8b", "synthetic: whose heads; two layers are generated"},
    {"tokens", TOKENS, "N", NULL, "4096", "synthetic: of the context"},
    {"seed", SEED, "N", NULL, "1", "synthetic: other content"},
    {"output", OUTPUT, "FORM", "table csv json", "table", "form of the output"},
    {.name = NULL},
};

const struct command command_formats = {
    .name = "formats",
    .summary = "what page formats lose of K and V, and of attention over them",
    .arguments = "[CAPTURE]",
    .words = {"*"},
    .examples = "intentkv formats session.safetensors\tevery format, on a recorded session\n"
		"intentkv formats session.safetensors --format INT4,KIVI4 --by layer,kind --residual 64\n"
		"intentkv formats --model qwen2.5-7b --tokens 8192\ton generated K and V\n",
    .about =
	"Reads Q, K and V recorded from a model, a safetensors file as kv.path of a scenario takes it, or generates "
	"them where no file is given. Each row says, for pages of a format or for a KIVI cache with its residual "
	"window: "
	"the bytes of K and V of a token, a layer and KV head; the signal-to-noise ratio of K and of V in dB, over "
	"what "
	"is encoded; the relative L2 error of the attention output over the whole context; and the error of its "
	"log-sum-exp, the root of the mean square. Attention is computed over the values as stored: what kernels "
	"round "
	"is not in it. With `--by kind` the errors are those in the part that a kind's tokens have in the output, "
	"beside "
	"the whole output.\n",
    .options = options,
    .run = cmd_formats,
};

enum { GENERATED_LAYERS = 2, GENERATED_STEPS = 512, SCHEMES_MAX = IKV_FMT_COUNT + 3, BY_WORDS = 3 };
enum form { FORM_TABLE, FORM_CSV, FORM_JSON };
enum by { BY_KIND, BY_LAYER, BY_HEAD };
static const char *const by_words[BY_WORDS + 1] = {"kind", "layer", "head", NULL};
static const char *const form_words[] = {"table", "csv", "json", NULL};

struct request {
	const char *path, *layers, *model;
	uint32_t tokens, seed, residual;
	bool by[BY_WORDS], formats[IKV_FMT_COUNT],
	    generated; /* generated: an option of the synthetic source was given */
	enum form form;
	struct loss_setup setup;
	struct loss_scheme schemes[SCHEMES_MAX];
};

static int one_of(const char *option, const char *word, const char *const *words, uint32_t *out)
{
	char list[300] = "";
	size_t n = 0, used = 0;
	for (; words[n]; n++) {
		if (!strcmp(word, words[n])) {
			*out = (uint32_t)n;
			return 0;
		}
		used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", n ? ", " : "", words[n]);
	}
	const char *near = ikv_nearest(word, words, n);
	return command_usage("formats", "%s: got \"%.40s\", expected %s%s%s%s", option, word, list,
			     near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
}

/* Words between commas, each set in `chosen`. */
static int take_list(const char *option, const char *text, const char *const *words, bool *chosen)
{
	for (;; text++) {
		char word[64];
		size_t n = strcspn(text, ",");
		uint32_t at;
		snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), text);
		if (one_of(option, word, words, &at))
			return IKV_USAGE;
		chosen[at] = true;
		text += n;
		if (!*text)
			return 0;
	}
}

static int take_residual(const char *text, uint32_t *out)
{
	if (command_count("formats", "--residual", text, 32, 128, out))
		return IKV_USAGE;
	return *out % 32 == 0 ? 0 : command_usage("formats", "--residual: got %u, expected 32, 64, 96 or 128", *out);
}

/* Of the synthetic source. */
static int take_generated(struct request *r, int c)
{
	r->generated = true;
	if (c == MODEL)
		r->model = optarg;
	else if (c == TOKENS)
		return command_count("formats", "--tokens", optarg, 1024, 1u << 20, &r->tokens);
	else
		return command_count("formats", "--seed", optarg, 0, UINT32_MAX, &r->seed);
	return 0;
}

static int take_option(struct request *r, int c)
{
	uint32_t word;
	int rc;
	switch (c) {
	case FORMAT: /* SKIP, which stores nothing, is none of them */
		return take_list("--format", optarg, ikv_format_names() + IKV_FMT_SKIP + 1,
				 r->formats + IKV_FMT_SKIP + 1);
	case BY:
		return take_list("--by", optarg, by_words, r->by);
	case RESIDUAL:
		return take_residual(optarg, &r->residual);
	case PAGE:
		return command_count("formats", "--page-tokens", optarg, 1, IKV_PAGE_TOKENS_MAX,
				     &r->setup.page_tokens);
	case QUERIES:
		return command_count("formats", "--queries", optarg, 1, 1u << 20, &r->setup.queries);
	case LAYERS:
		r->layers = optarg;
		return 0;
	case OUTPUT:
		rc = one_of("--output", optarg, form_words, &word);
		r->form = rc ? r->form : (enum form)word;
		return rc;
	case COMMAND_WRONG:
		return IKV_USAGE;
	default:
		return take_generated(r, c);
	}
}

/* Pages of every format chosen, and after those of a KIVI format the cache. */
static void list_schemes(struct request *r)
{
	bool any = false;
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		any = any || r->formats[f];
	for (int f = IKV_FMT_SKIP + 1; f < IKV_FMT_COUNT; f++) {
		if (any && !r->formats[f])
			continue;
		r->schemes[r->setup.scheme_count++] = (struct loss_scheme){(enum ikv_format)f, 0};
		if (f >= IKV_FMT_KIVI8 && f <= IKV_FMT_KIVI2)
			r->schemes[r->setup.scheme_count++] = (struct loss_scheme){(enum ikv_format)f, r->residual};
	}
	r->setup.schemes = r->schemes;
}

struct printer {
	const struct request *r;
	const struct source_setup *source;
	uint32_t rows;
};

static const char *kind_text(uint32_t part)
{
	return part == LOSS_NO_BLOCK ? "none" : ikv_kind_name((enum ikv_kind)part);
}

static void print_head(const struct printer *p, const struct loss *l)
{
	if (p->r->form == FORM_CSV)
		printf("format,residual,layer,kv_head,kind,bytes_per_token,snr_k_db,snr_v_db,rel_l2,lse_rms\n");
	if (p->r->form != FORM_TABLE)
		return;
	printf("%u tokens, %u quer%s, layers", l->tokens, l->queries, l->queries == 1 ? "y" : "ies");
	for (uint32_t i = 0; i < l->layers; i++)
		printf(" %u", p->source->layer_numbers[i]);
	printf(", %u KV heads of %u\n\n%-13s %8s", l->kv_heads, p->source->geometry.d_qk, "format", "residual");
	if (p->r->by[BY_LAYER])
		printf(" %5s", "layer");
	if (p->r->by[BY_HEAD])
		printf(" %7s", "KV head");
	if (p->r->by[BY_KIND])
		printf(" %-11s", "kind");
	printf(" %11s %9s %9s %10s %10s\n", "bytes/token", "SNR K, dB", "SNR V, dB", "rel. L2", "LSE, rms");
}

/* JSON has no infinity: null stands for no noise at all. */
static void decibel(double x, enum form form, char *text, size_t size)
{
	if (isinf(x))
		snprintf(text, size, "%s", form == FORM_JSON ? "null" : "inf");
	else
		snprintf(text, size, form == FORM_TABLE ? "%.2f" : "%.4f", x);
}

/* A number that a row is for, or that it is for all of them: -1. */
static void place(int64_t number, enum form form, char *text, size_t size)
{
	if (number < 0)
		snprintf(text, size, "%s", form == FORM_JSON ? "null" : "all");
	else
		snprintf(text, size, "%lld", (long long)number);
}

/* One row as texts. */
struct row {
	const char *format;
	char residual[16], layer[24], head[24], kind[40], k[32], v[32];
	double bytes, rel_l2, lse;
};

static void print_table_row(const struct request *r, const struct row *x)
{
	printf("%-13s %8s", x->format, x->residual);
	if (r->by[BY_LAYER])
		printf(" %5s", x->layer);
	if (r->by[BY_HEAD])
		printf(" %7s", x->head);
	if (r->by[BY_KIND])
		printf(" %-11s", x->kind);
	printf(" %11.1f %9s %9s %10.2e %10.2e\n", x->bytes, x->k, x->v, x->rel_l2, x->lse);
}

static void print_row(struct printer *p, const struct loss_scheme *s, int64_t layer, int64_t head, uint32_t part,
		      const struct loss_sums *sums)
{
	enum form form = p->r->form;
	struct row x = {.format = ikv_format_info(s->format)->name,
			.bytes = loss_bytes(sums),
			.rel_l2 = loss_rel_l2(sums),
			.lse = loss_lse(sums)};
	snprintf(x.residual, sizeof x.residual, form == FORM_TABLE && !s->residual ? "-" : "%u", s->residual);
	place(layer < 0 ? -1 : (int64_t)p->source->layer_numbers[layer], form, x.layer, sizeof x.layer);
	place(head, form, x.head, sizeof x.head);
	place(-1, form, x.kind, sizeof x.kind);
	if (part != LOSS_ALL)
		snprintf(x.kind, sizeof x.kind, form == FORM_JSON ? "\"%s\"" : "%s", kind_text(part));
	decibel(loss_snr(sums, IKV_SIDE_K), form, x.k, sizeof x.k);
	decibel(loss_snr(sums, IKV_SIDE_V), form, x.v, sizeof x.v);
	if (form == FORM_TABLE)
		print_table_row(p->r, &x);
	else if (form == FORM_CSV)
		printf("%s,%s,%s,%s,%s,%.3f,%s,%s,%.6g,%.6g\n", x.format, x.residual, x.layer, x.head, x.kind,
		       x.bytes, x.k, x.v, x.rel_l2, x.lse);
	else
		printf("%s {\"format\":\"%s\",\"residual\":%s,\"layer\":%s,\"kv_head\":%s,\"kind\":%s,"
		       "\"bytes_per_token\":%.3f,\"snr_k_db\":%s,\"snr_v_db\":%s,\"rel_l2\":%.6g,\"lse_rms\":%.6g}",
		       p->rows ? ",\n" : "", x.format, x.residual, x.layer, x.head, x.kind, x.bytes, x.k, x.v,
		       x.rel_l2, x.lse);
	p->rows++;
}

/* A row for each kind that occurs, or one for all. */
static void print_parts(struct printer *p, const struct loss *l, uint32_t scheme, int64_t layer, int64_t head)
{
	for (uint32_t part = p->r->by[BY_KIND] ? 0 : LOSS_ALL; part < (p->r->by[BY_KIND] ? LOSS_KINDS : LOSS_PARTS);
	     part++) {
		struct loss_sums sum = {0};
		for (uint32_t i = 0; i < l->layers; i++)
			for (uint32_t h = 0; h < l->kv_heads; h++)
				if ((layer < 0 || layer == i) && (head < 0 || head == h))
					loss_add(&sum,
						 &l->cells[(((size_t)scheme * l->layers + i) * l->kv_heads + h) *
							       LOSS_PARTS +
							   part]);
		if (sum.rows > 0)
			print_row(p, &p->r->schemes[scheme], layer, head, part, &sum);
	}
}

static void print(const struct request *r, const struct source_setup *source, const struct loss *l)
{
	struct printer p = {.r = r, .source = source};
	uint32_t layers = r->by[BY_LAYER] ? l->layers : 1, heads = r->by[BY_HEAD] ? l->kv_heads : 1;
	print_head(&p, l);
	printf("%s", r->form == FORM_JSON ? "[\n" : "");
	for (uint32_t s = 0; s < r->setup.scheme_count; s++)
		for (uint32_t i = 0; i < layers; i++)
			for (uint32_t h = 0; h < heads; h++)
				print_parts(&p, l, s, r->by[BY_LAYER] ? (int64_t)i : -1,
					    r->by[BY_HEAD] ? (int64_t)h : -1);
	printf("%s", r->form == FORM_JSON ? "\n]\n" : "");
}

static int measure(const struct request *r, const struct source_ops *ops, const void *config,
		   struct source_setup *setup, struct ikv_err *err)
{
	struct session_list list = {0};
	struct source *source;
	struct loss loss;
	if (ops->open(&source, config, setup, err))
		return -1;
	int rc = ops->sessions ? ops->sessions(source, &list, err)
			       : source_stats_session(&list, r->tokens, GENERATED_STEPS, err);
	if (!rc)
		rc = loss_measure(source, &setup->geometry, list.items, &r->setup, &loss, err);
	if (!rc) {
		print(r, setup, &loss);
		loss_free(&loss);
	}
	ops->close(source);
	session_list_free(&list);
	return rc;
}

/* The heads of the model that --model names. */
static int find_model(const char *name, struct ikv_geometry *g)
{
	const char *names[64] = {NULL};
	uint32_t n = 0, at;
	for (const struct model_preset *m = model_presets; m->name && n < 63; m++)
		if (!m->latent_dim) /* latents have no K and V of heads */
			names[n++] = m->name;
	if (one_of("--model", name, names, &at))
		return IKV_USAGE;
	for (const struct model_preset *m = model_presets; m->name; m++)
		if (!strcmp(m->name, names[at]))
			model_geometry(m, g);
	return 0;
}

static int open_and_measure(struct request *r)
{
	static const uint32_t layers[GENERATED_LAYERS] = {0, 1};
	const struct source_ops *ops = source_find(r->path ? "capture" : "synthetic");
	struct source_setup setup = {
	    .geometry = {.layers = GENERATED_LAYERS, .page_tokens = r->setup.page_tokens},
	    .model_layers = layers,
	    .sequences = 1,
	    .seed = r->seed,
	};
	struct ikv_err err = {0};
	int rc = find_model(r->model, &setup.geometry);
	if (rc)
		return rc;
	void *config = calloc(1, ops->config_bytes);
	if (!config)
		return command_usage("formats", "out of memory");
	ikv_option_defaults(ops->options, config);
	if (r->path && (ikv_option_set(ops->options, config, "path", r->path, &err) ||
			(r->layers && ikv_option_set(ops->options, config, "layers", r->layers, &err))))
		rc = command_fail(&err);
	if (!rc && measure(r, ops, config, &setup, &err))
		rc = command_fail(&err);
	free(config);
	return rc;
}

int cmd_formats(int argc, char **argv)
{
	struct command_line line;
	struct request r = {
	    .model = "llama-3-8b",
	    .tokens = 4096,
	    .seed = 1,
	    .residual = 128,
	    .setup = {.page_tokens = 32, .queries = 128, .isa = "auto"},
	};
	const char *forced = getenv("INTENTKV_ISA");
	int c, rc = 0;
	if (forced && *forced)
		r.setup.isa = forced;
	command_begin(&line, &command_formats, argc, argv);
	while (!rc && (c = command_next(&line)) != -1)
		rc = take_option(&r, c);
	if (rc)
		return rc;
	if (optind + 1 < argc)
		return command_usage("formats", "expected one capture at most");
	r.path = optind < argc ? argv[optind] : NULL;
	if (r.path && r.generated)
		return command_usage("formats", "--model, --tokens and --seed are for generated K and V, not for a "
						"capture");
	if (!r.path && r.layers)
		return command_usage("formats", "--layers chooses among those of a capture; none is given");
	list_schemes(&r);
	return open_and_measure(&r);
}
