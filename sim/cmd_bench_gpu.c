/* intentkv bench gpu: the CUDA kernels beside the card's own limits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "gpu/bench_gpu.h"
#include "sim/cmd_bench.h"
#include "sim/command.h"
#include "sim/plot.h"
#include "sim/roofline.h"

struct gpu_printer {
	enum bench_output output;
	uint32_t rows, moves;
	const char *folder; /* of the roofline, or NULL */
	struct roofline plot;
	int rc; /* of that */
};

static void print_limits(void *context, const struct gpu_bench_limits *m)
{
	struct gpu_printer *p = context;
	const uint32_t most = GPU_BENCH_READS - 1;
	if (p->folder)
		p->rc = roofline_open(&p->plot, p->folder, "reads and FP16 products of the device",
				      (double)m->read_bytes[most] / m->read_us[most] / 1e3, m->products_gflops);
	if (p->output == BENCH_CSV)
		printf("kernel,shape,format,batch,q_heads,kv_heads,head_dim,kv_tokens,page_tokens,selected,ms_median,"
		       "ms_min,ms_max,overlap_ms,resolve_ms,score_ms,pick_ms,chain_ms,read_ms,summary_bytes,kv_bytes,gbps,ceiling_gbps,fraction,error,blocks,"
		       "warps,slots\n");
	if (p->output == BENCH_JSON)
		printf("[\n");
	if (p->output != BENCH_TABLE)
		return;
	printf(
	    "kernel in a graph %.2f us; copy %.0f GB/s (read and written); FP16 products %.0f TFLOP/s; host link %.1f GB/s to "
	    "the device, %.1f back\ncold reads, MB: us (GB/s):",
	    m->kernel_us, m->copy_gbps, m->products_gflops / 1e3, m->to_device_gbps, m->to_host_gbps);
	for (int i = 0; i < GPU_BENCH_READS; i++)
		printf("  %.1f: %.1f (%.0f)", (double)m->read_bytes[i] / 1e6, m->read_us[i],
		       (double)m->read_bytes[i] / m->read_us[i] / 1e3);
	printf("\n");
}

static void print_head(void)
{
	printf("\n%-5s %-13s %5s %4s %7s %8s %8s %8s %8s %8s %8s %6s %6s %8s %6s %7s %7s %7s\n", "shape", "format", "heads",
	       "page", "share", "ms", "least", "most", "overlap", "list", "read", "ratio", "GB/s", "error", "warps", "scores",
	       "top", "chain");
}

static void print_row(void *context, const struct gpu_bench_result *r)
{
	struct gpu_printer *p = context;
	double gbps = (double)r->kv_bytes / r->ms_median / 1e6, ceiling = (double)r->kv_bytes / r->read_ms / 1e6;
	if (p->output == BENCH_TABLE && !p->rows)
		print_head();
	if (p->output == BENCH_TABLE)
		printf("%-5s %-13s %2u/%-2u %4u %7g %8.4f %8.4f %8.4f %8.4f %8.4f %8.4f %6.3f %6.0f %8.1e %6u "
		       "%7.4f %7.4f %7.4f\n",
		       r->shape, r->format, r->q_heads, r->kv_heads, r->page_tokens, r->share, r->ms_median,
		       r->ms_min, r->ms_max, r->overlap_ms, r->resolve_ms, r->read_ms, r->ms_median / r->read_ms,
		       gbps, r->error, r->warps, r->score_ms, r->pick_ms, r->chain_ms);
	else if (p->output == BENCH_CSV)
		printf(
		    "decode,%s,%s,%u,%u,%u,%u,%u,%u,%g,%.5f,%.5f,%.5f,%.5f,%.5f,%.5f,%.5f,%.5f,%.5f,%llu,%llu,%.1f,%.1f,%.4f,%.2g,%u,%u,%"
		    "u\n",
		    r->shape, r->format, r->batch, r->q_heads, r->kv_heads, r->head_dim, r->kv_tokens, r->page_tokens,
		    r->share, r->ms_median, r->ms_min, r->ms_max, r->overlap_ms, r->resolve_ms, r->score_ms, r->pick_ms,
		    r->chain_ms, r->read_ms, (unsigned long long)r->summary_bytes, (unsigned long long)r->kv_bytes, gbps, ceiling, gbps / ceiling, r->error, r->blocks, r->warps,
		    r->slots);
	else
		printf("%s {\"kernel\":\"decode\",\"shape\":\"%s\",\"format\":\"%s\",\"batch\":%u,\"q_heads\":%u,"
		       "\"kv_heads\":%u,\"head_dim\":%u,\"kv_tokens\":%u,\"page_tokens\":%u,\"selected\":%g,"
		       "\"ms_median\":%.5f,\"ms_min\":%.5f,\"ms_max\":%.5f,\"overlap_ms\":%.5f,\"resolve_ms\":%.5f,"
		       "\"score_ms\":%.5f,\"pick_ms\":%.5f,\"chain_ms\":%.5f,\"read_ms\":%.5f,"
		       "\"summary_bytes\":%llu,\"kv_bytes\":%llu,\"gbps\":%.1f,\"ceiling_gbps\":%.1f,\"fraction\":%.4f,"
		       "\"error\":%.2g}",
		       p->rows ? ",\n" : "", r->shape, r->format, r->batch, r->q_heads, r->kv_heads, r->head_dim,
		       r->kv_tokens, r->page_tokens, r->share, r->ms_median, r->ms_min, r->ms_max, r->overlap_ms,
		       r->resolve_ms, r->score_ms, r->pick_ms, r->chain_ms, r->read_ms,
		       (unsigned long long)r->summary_bytes, (unsigned long long)r->kv_bytes, gbps, ceiling, gbps / ceiling,
		       r->error);
	if (p->plot.f) {
		char label[120];
		snprintf(label, sizeof label, "%s %s, %g %% of pages of %u", r->shape, r->format, 100 * r->share, r->page_tokens);
		roofline_add(&p->plot, label, gbps, r->operations / r->ms_median / 1e6);
	}
	p->rows++;
	fflush(stdout);
}

static void print_move(void *context, const struct gpu_bench_move *r)
{
	struct gpu_printer *p = context;
	double gbps = (double)r->bytes / r->ms / 1e6, fraction = gbps / r->ceiling_gbps;
	unsigned long long piece = r->piece_bytes, bytes = r->bytes;
	if (p->output == BENCH_TABLE && !p->moves)
		printf("\n%-9s %-24s %9s %6s %10s %8s %6s %5s\n", "", "", "piece", "blocks", "bytes", "ms", "GB/s",
		       "ratio");
	if (p->output == BENCH_TABLE)
		printf("%-9s %-24s %9llu %6u %10llu %8.4f %6.1f %5.2f\n", r->kernel, r->what, piece, r->blocks, bytes,
		       r->ms, gbps, fraction);
	else if (p->output == BENCH_CSV) /* in the columns of the other rows */
		printf("%s,%llu,%s,,,,,,,,%.5f,,,,,,%llu,%.1f,%.1f,%.4f,,%u,,\n", r->kernel, piece, r->what, r->ms,
		       bytes, gbps, r->ceiling_gbps, fraction, r->blocks);
	else
		printf("%s {\"kernel\":\"%s\",\"what\":\"%s\",\"piece_bytes\":%llu,\"blocks\":%u,\"ms_median\":%.5f,"
		       "\"bytes\":%llu,\"gbps\":%.1f,\"ceiling_gbps\":%.1f,\"fraction\":%.4f}",
		       p->rows + p->moves ? ",\n" : "", r->kernel, r->what, piece, r->blocks, r->ms, bytes, gbps,
		       r->ceiling_gbps, fraction);
	p->moves++;
	fflush(stdout);
}

enum { OUTPUT = 256, SHAPE, FORMAT, PAGE, SELECTION, REPLAYS, WARM, NO_CHECK, WHAT, PLOT };
static const struct command_option options[] = {
    {"shape", SHAPE, "LIST", "S1 S2 S3 S4 S5 S6 L1 L2 L3 L4 L5 L6 L7 L8", "S1 to S5",
     "batch, heads and tokens as in docs/results/h200.md, L with latent attention"},
    {"format", FORMAT, "LIST", "<formats>", NULL,
     "page formats and mixed, a quarter each FP16, FP8, INT8 and INT4 (default: all)"},
    {"page", PAGE, "LIST", "16 32 64 128", "16,64", "tokens of a page"},
    {"selection", SELECTION, "LIST", "1 0.25 0.0625", "1,0.25,0.0625", "share of pages read"},
    {"plot", PLOT, "FOLDER", "/", NULL, "draw the roofline there; the folder is made if absent"},
    {"replays", REPLAYS, "N", NULL, "20", "of which the median is taken"},
    {"warm", WARM, "MS", NULL, "40", "milliseconds that the same kernels run before"},
    {"no-check", NO_CHECK, NULL, NULL, NULL, "do not compare outputs with double precision"},
    {"what", WHAT, "NAME", "attention moves all", "all",
     "attention; moves: copies over the host link, by their way and the size of their pieces, and re-encoding"},
    {"output", OUTPUT, "FORM", "table csv json", "table", "form of the output"},
    {.name = NULL},
};

const struct command command_bench_gpu = {
    .name = "bench gpu",
    .summary = "decode of the CUDA backend beside the card's own limits",
    .examples = "intentkv bench gpu --shape S1,S4 --format FP16,mixed --page 16 --selection 1,0.25\n",
    .about = "Random data with cold caches and pages in random order, beside pure reads of as many bytes; the card's "
	     "limits: reads, a copy, products, the host link, an empty kernel; then what moves and re-encodes pages.\n",
    .options = options,
    .run = cmd_bench_gpu,
};

static int take_option(int c, struct gpu_bench_setup *setup, struct gpu_printer *p)
{
	char tail;
	switch (c) {
	case OUTPUT:
		if (bench_set_output(optarg, &p->output))
			return 0;
		return command_usage("bench gpu", "--output: got \"%.40s\", expected table, csv or json", optarg);
	case SHAPE:
		setup->shapes = optarg;
		return 0;
	case FORMAT:
		setup->formats = optarg;
		return 0;
	case PAGE:
		setup->pages = optarg;
		return 0;
	case SELECTION:
		setup->selections = optarg;
		return 0;
	case NO_CHECK:
		setup->check = false;
		return 0;
	case PLOT:
		p->folder = optarg;
		return 0;
	case WHAT:
		setup->attention = !strcmp(optarg, "attention") || !strcmp(optarg, "all");
		setup->moves = !strcmp(optarg, "moves") || !strcmp(optarg, "all");
		if (setup->attention || setup->moves)
			return 0;
		return command_usage("bench gpu", "--what: got \"%.40s\", expected attention, moves or all", optarg);
	case REPLAYS:
		if (sscanf(optarg, "%u%c", &setup->replays, &tail) == 1 && setup->replays >= 1 &&
		    setup->replays <= 250)
			return 0;
		return command_usage("bench gpu", "--replays: got \"%.40s\", expected a number from 1 to 250",
				     optarg);
	case WARM:
		return bench_set_warm("bench gpu", optarg, &setup->warm_ms);
	default:
		return IKV_USAGE;
	}
}

int cmd_bench_gpu(int argc, char **argv)
{
	struct command_line line;
	struct gpu_bench_setup setup = {.shapes = "S1,S2,S3,S4,S5",
					.formats = "FP16,FP8,INT8,INT4,INT4_RESIDUAL,mixed",
					.pages = "16,64",
					.selections = "1,0.25,0.0625",
					.replays = 20,
					.warm_ms = 40,
					.check = true,
					.attention = true,
					.moves = true};
	struct gpu_printer p = {.output = BENCH_TABLE};
	struct gpu_bench_limits limits;
	struct ikv_err err;
	int c;
	command_begin(&line, &command_bench_gpu, argc, argv);
	while ((c = command_next(&line)) != -1)
		if (c == COMMAND_WRONG || take_option(c, &setup, &p))
			return IKV_USAGE;
	if (optind != argc)
		return command_usage("bench gpu", "it takes options only; got \"%.40s\"", argv[optind]);
	int rc = p.folder ? plot_folder(p.folder) : 0; /* not after minutes of measuring */
	if (rc)
		return rc;
	rc = gpu_bench(&setup, &limits, print_limits, print_row, print_move, &p, &err) ? command_fail(&err) : p.rc;
	if (p.output == BENCH_JSON)
		printf("\n]\n");
	rc = roofline_close(&p.plot, rc);
	return rc ? rc : fflush(stdout) == 0 ? IKV_OK : IKV_IO;
}
