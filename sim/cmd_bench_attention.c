/* intentkv bench attention and formats: what is measured, printed as a table, CSV or JSON; the roofline. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "sim/cmd_bench.h"
#include "sim/command.h"
#include "sim/roofline.h"

struct printer {
	const struct bench_report *report;
	uint32_t rows;
	struct roofline plot;
	struct bench_rates rates;
};

static void selection_text(const struct bench_selection *s, char *text, size_t size)
{
	if (s->share == 1 && !s->per_head)
		snprintf(text, size, "dense");
	else
		snprintf(text, size, "%g%s", s->share, s->per_head ? "/head" : "");
}

static void print_row(void *context, const struct bench_attention_row *r)
{
	struct printer *p = context;
	char selected[40];
	const struct bench_shape *s = &r->shape;
	bool decode = !strcmp(r->kernel, "decode");
	double fraction = r->ceiling_gbps > 0 ? r->gbps / r->ceiling_gbps : 0;
	selection_text(&r->selection, selected, sizeof selected);
	if (p->report->output == BENCH_TABLE)
		printf("%-7s %4u %-10s %7u  %-13s %3u/%-3u %4u %8u %5u  %-11s %9.3f %9.3f %9.3f %8.1f %8.1f %5.0f%% "
		       "%8.1f "
		       "%9.1e\n",
		       r->kernel, r->q_len, r->isa, r->threads, r->format, s->q_heads, s->kv_heads, s->head_dim,
		       s->kv_tokens, s->page_tokens, selected, r->ms_median, r->ms_min, r->ms_max, r->gbps,
		       r->ceiling_gbps, 100 * fraction, r->flops * 1e-9, r->rel_l2);
	else if (p->report->output == BENCH_CSV)
		printf("%s,%s,%u,%s,%u,%u,%u,%u,%u,%s,%.4f,%.4f,%.4f,%llu,%.3f,%.3f,%.4f,%.3g\n", r->kernel, r->isa,
		       r->threads, r->format, s->q_heads, s->kv_heads, s->head_dim, s->kv_tokens, s->page_tokens,
		       selected, r->ms_median, r->ms_min, r->ms_max, (unsigned long long)r->kv_bytes, r->gbps,
		       r->ceiling_gbps, fraction, r->rel_l2);
	else
		printf("%s "
		       "{\"kernel\":\"%s\",\"isa\":\"%s\",\"threads\":%u,\"format\":\"%s\",\"q_heads\":%u,\"kv_"
		       "heads\":%u,"
		       "\"head_dim\":%u,\"kv_tokens\":%u,\"page_tokens\":%u,\"selected\":\"%s\",\"ms_median\":%.4f,"
		       "\"ms_min\":%.4f,\"ms_max\":%.4f,\"kv_bytes\":%llu,\"gbps\":%.3f,\"ceiling_gbps\":%.3f,"
		       "\"fraction\":%.4f,\"rel_l2\":%.3g}",
		       p->rows ? ",\n" : "", r->kernel, r->isa, r->threads, r->format, s->q_heads, s->kv_heads,
		       s->head_dim, s->kv_tokens, s->page_tokens, selected, r->ms_median, r->ms_min, r->ms_max,
		       (unsigned long long)r->kv_bytes, r->gbps, r->ceiling_gbps, fraction, r->rel_l2);
	if (p->plot.f) {
		char label[120];
		snprintf(label, sizeof label, "%s%s%s, %s, %u/%u heads of %u, %u thread%s", decode ? "" : r->kernel,
			 decode ? "" : " ", r->format, selected, s->q_heads, s->kv_heads, s->head_dim, r->threads,
			 r->threads == 1 ? "" : "s");
		roofline_add(&p->plot, label, r->gbps, r->flops * 1e-9);
	}
	p->rows++;
	fflush(stdout);
}

static void print_machine(const struct printer *p)
{
	const struct bench_rates *m = &p->rates;
	if (p->report->output != BENCH_TABLE)
		return;
	printf("reads %.1f GB/s with one thread, %.1f with %u; memcpy %.1f (read and written); FMA %.0f GFLOP/s;\n"
	       "FP16 to float %.1f, INT8 to float %.1f 10^9 values a second (one thread each)\n\n",
	       m->read_gbps[0], m->read_gbps[1], m->threads, m->copy_gbps, m->fma_gflops, m->half_to_float,
	       m->byte_to_float);
	printf("%-7s %4s %-10s %7s  %-13s %7s %4s %8s %5s  %-11s %9s %9s %9s %8s %8s %6s %8s %9s\n", "kernel", "rows",
	       "isa", "threads", "format", "heads", "dim", "tokens", "page", "selected", "ms", "least", "most",
	       "GB/s", "ceiling", "share", "GFLOP/s", "error");
}

int cmd_bench_attention(const struct bench_attention_setup *setup, const struct bench_report *report)
{
	struct printer p = {.report = report};
	struct ikv_err err;
	int rc = 0;
	for (uint32_t i = 0; i < setup->thread_count; i++)
		if (setup->threads[i] > p.rates.threads)
			p.rates.threads = setup->threads[i];
	if (bench_attention_check(setup, &err))
		return command_fail(&err);
	if ((report->output == BENCH_TABLE || report->plot) && bench_machine(&p.rates, report->seconds, &err))
		return command_fail(&err);
	if (report->plot)
		rc = roofline_open(&p.plot, report->plot, "reads and FMA of one thread", p.rates.read_gbps[0],
				   p.rates.fma_gflops);
	if (rc)
		return rc;
	print_machine(&p);
	if (report->output == BENCH_CSV)
		printf("kernel,isa,threads,format,q_heads,kv_heads,head_dim,kv_tokens,page_tokens,selected,ms_median,"
		       "ms_min,"
		       "ms_max,kv_bytes,gbps,ceiling_gbps,fraction,rel_l2\n");
	if (report->output == BENCH_JSON)
		printf("[\n");
	if (bench_attention(setup, print_row, &p, &err))
		rc = command_fail(&err);
	if (report->output == BENCH_JSON)
		printf("\n]\n");
	return roofline_close(&p.plot, rc);
}

/* JSON has no infinity: null stands for no error at all. */
static void print_format_json(const struct bench_format_row *r, bool last)
{
	printf(" {\"format\":\"%s\",\"step\":\"%s\",\"gbps\":%.4f,\"fraction\":%.4f", r->format, r->step, r->gbps,
	       r->fraction);
	if (isinf(r->snr_k))
		printf(",\"snr_k_db\":null,\"snr_v_db\":null}%s\n", last ? "" : ",");
	else
		printf(",\"snr_k_db\":%.4f,\"snr_v_db\":%.4f}%s\n", r->snr_k, r->snr_v, last ? "" : ",");
}

int cmd_bench_formats(const struct bench_report *report)
{
	struct bench_format_row rows[BENCH_FORMAT_ROWS];
	struct ikv_err err;
	uint32_t n;
	if (bench_formats(report->seconds, rows, &n, &err))
		return command_fail(&err);
	if (report->output == BENCH_TABLE)
		printf("%-14s %-8s %10s %12s %9s %9s\n", "format", "step", "GB/s", "of copying", "SNR K, dB",
		       "SNR V, dB");
	if (report->output == BENCH_CSV)
		printf("format,step,gbps,fraction,snr_k_db,snr_v_db\n");
	if (report->output == BENCH_JSON)
		printf("[\n");
	for (uint32_t i = 0; i < n; i++) {
		const struct bench_format_row *r = &rows[i];
		if (report->output == BENCH_TABLE)
			printf("%-14s %-8s %10.2f %11.0f%% %9.2f %9.2f\n", r->format, r->step, r->gbps,
			       100 * r->fraction, r->snr_k, r->snr_v);
		else if (report->output == BENCH_CSV)
			printf("%s,%s,%.4f,%.4f,%.4f,%.4f\n", r->format, r->step, r->gbps, r->fraction, r->snr_k,
			       r->snr_v);
		else
			print_format_json(r, i + 1 == n);
	}
	if (report->output == BENCH_JSON)
		printf("]\n");
	return IKV_OK;
}
