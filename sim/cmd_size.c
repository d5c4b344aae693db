/* intentkv size: bytes of a context's KV cache, by model and scheme. */
#include <stdio.h>
#include <string.h>
#include "sim/command.h"
#include "sim/scenario.h"

enum { TOKENS = 256, GROUP, RESIDUAL, FORMAT };
static const struct command_option options[] = {
    {"tokens", TOKENS, "N", NULL, "1", "of context"},
    {"group", GROUP, "N", NULL, "32", "KIVI: tokens of a group of K, channels of a group of V"},
    {"residual", RESIDUAL, "N", NULL, "128", "KIVI: newest tokens that stay FP16, a multiple of the group"},
    {"format", FORMAT, "FORMAT", "table csv json", "table", "form of the output"},
    {.name = NULL},
};

const struct command command_size = {
    .name = "size",
    .summary = "bytes of a KV cache by model and format",
    .arguments = "[MODEL]",
    .words = {"<models>"},
    .examples = "intentkv size\tevery model, FP16, one token\n"
		"intentkv size llama-2-7b --tokens 4196\tone model in every page format and as KIVI\n",
    .options = options,
    .run = cmd_size,
};

struct sizes {
	enum store_format form;
	uint32_t rows;
};

/* One row of either table: a name, its bytes, and bits a value. */
static void row(struct sizes *s, const char *kind, const char *name, uint64_t bytes, double bits)
{
	double gib = (double)bytes / (1 << 30);
	if (s->form == STORE_JSON)
		printf("%s {\"%s\":\"%s\",\"bytes\":%llu,\"gib\":%.4f,\"bits_per_value\":%.4f}",
		       s->rows ? ",\n" : "[\n", kind, name, (unsigned long long)bytes, gib, bits);
	else if (s->form == STORE_CSV)
		printf("%s%s,%llu,%.4f,%.4f\r\n", s->rows ? "" : "name,bytes,gib,bits_per_value\r\n", name,
		       (unsigned long long)bytes, gib, bits);
	else
		printf("%s%-16s %20llu %12.4f %16.3f\n",
		       s->rows ? "" : "name                            bytes          GiB   bits per value\n", name,
		       (unsigned long long)bytes, gib, bits);
	s->rows++;
}

static uint64_t fp16_values(const struct model_preset *m, uint64_t tokens)
{
	return tokens * m->layers * model_kv_values(m);
}

static void all_models(struct sizes *s, uint32_t tokens)
{
	for (const struct model_preset *m = model_presets; m->name; m++)
		row(s, "model", m->name, 2 * fp16_values(m, tokens), 16);
}

/* Latents are kept in some formats only, and have no KIVI: its groups of V would be those of K. */
static void latent_schemes(struct sizes *s, const struct model_preset *m, uint32_t tokens)
{
	for (int f = IKV_FMT_FP16; f < IKV_FMT_COUNT; f++) {
		uint64_t bytes =
		    m->layers * ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, tokens, m->latent_dim + m->rope_dim);
		if (ikv_mla_stores((enum ikv_format)f))
			row(s, "scheme", ikv_format_info((enum ikv_format)f)->name, bytes,
			    8.0 * (double)bytes / (double)fp16_values(m, tokens));
	}
}

static void all_schemes(struct sizes *s, const struct model_preset *m, uint32_t tokens, struct ikv_kivi_config kivi)
{
	static const uint32_t bits[] = {8, 4, 2};
	uint64_t values = fp16_values(m, tokens), heads = (uint64_t)m->layers * m->kv_heads;
	for (int f = IKV_FMT_FP16; f < IKV_FMT_COUNT; f++) {
		uint64_t bytes = heads * (ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, tokens, m->head_dim) +
					  ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, tokens, m->head_dim));
		row(s, "scheme", ikv_format_info((enum ikv_format)f)->name, bytes,
		    8.0 * (double)bytes / (double)values);
	}
	for (int i = 0; i < 3; i++) {
		char name[32];
		kivi.bits = bits[i];
		uint64_t bytes = heads * ikv_kivi_bytes(&kivi, tokens, m->head_dim, m->head_dim);
		snprintf(name, sizeof name, "KIVI-%u", kivi.bits);
		row(s, "scheme", name, bytes, 8.0 * (double)bytes / (double)values);
	}
}

static int one_model(struct sizes *s, const char *name, uint32_t tokens, struct ikv_kivi_config kivi)
{
	const char *names[64];
	size_t n = 0;
	for (const struct model_preset *m = model_presets; m->name && n < 64; m++) {
		names[n++] = m->name;
		if (strcmp(name, m->name) != 0)
			continue;
		if (m->latent_dim)
			latent_schemes(s, m, tokens);
		else
			all_schemes(s, m, tokens, kivi);
		return IKV_OK;
	}
	const char *near = ikv_nearest(name, names, n);
	return command_usage("size", "no model \"%.40s\"%s%s%s", name, near ? "; did you mean \"" : "",
			     near ? near : "", near ? "\"?" : "");
}

int cmd_size(int argc, char **argv)
{
	struct command_line line;
	struct sizes s = {.form = STORE_TABLE};
	struct ikv_kivi_config kivi = {.group = 32, .residual = 128};
	uint32_t tokens = 1;
	int c, rc = 0;
	command_begin(&line, &command_size, argc, argv);
	while (!rc && (c = command_next(&line)) != -1) {
		if (c == TOKENS)
			rc = command_count("size", "--tokens", optarg, 1, 1u << 30, &tokens);
		else if (c == GROUP)
			rc = command_count("size", "--group", optarg, 1, 4096, &kivi.group);
		else if (c == RESIDUAL)
			rc = command_count("size", "--residual", optarg, 1, 1u << 20, &kivi.residual);
		else if (c == FORMAT)
			rc = command_format(optarg, &s.form) ? IKV_USAGE : 0;
		else
			return IKV_USAGE;
	}
	if (rc)
		return rc;
	if (s.form == STORE_MARKDOWN)
		return command_usage("size", "--format: expected table, csv or json");
	if (kivi.residual % kivi.group)
		return command_usage("size", "--residual: got %u, expected a multiple of the group, %u",
				     kivi.residual, kivi.group);
	if (optind + 1 < argc)
		return command_usage("size", "expected one model at most");
	if (optind < argc)
		rc = one_model(&s, argv[optind], tokens, kivi);
	else
		all_models(&s, tokens);
	if (!rc && s.form == STORE_JSON)
		printf("\n]\n");
	return rc;
}
