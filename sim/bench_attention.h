/* How fast the CPU backend's attention is, against what this machine's memory gives in the same minutes. */
#ifndef SIM_BENCH_ATTENTION_H
#define SIM_BENCH_ATTENTION_H

#include <intentkv.h>

#define BENCH_LIST 16 /* most values of one option */

struct bench_shape {
	uint32_t q_heads, kv_heads, head_dim, kv_tokens, page_tokens;
	uint32_t latent; /* 0, or V is the first so many channels of K (MLA) */
};

struct bench_selection {
	double share;  /* of the pages, picked at random; 1: dense */
	bool per_head; /* each KV head has its own pages; otherwise all share them */
};

struct bench_attention_setup {
	const char *isa;
	uint32_t threads[BENCH_LIST], thread_count;
	struct bench_shape shapes[BENCH_LIST];
	uint32_t shape_count;
	enum ikv_format formats[BENCH_LIST];
	uint32_t format_count;
	struct bench_selection selections[BENCH_LIST];
	uint32_t selection_count;
	uint32_t q_lens[BENCH_LIST],
	    q_len_count; /* query rows a head; more than 1: the last ones of the context, causal */
	double seconds;  /* measuring time of a row */
	double warm_ms;  /* FMA before each call, after the caches were emptied */
};

struct bench_attention_row {
	const char *kernel; /* "decode"; "mla" where V aliases K; "prefill" with several rows a head */
	const char *isa, *format;
	uint32_t threads, q_len;
	struct bench_shape shape;
	struct bench_selection selection;
	double ms_median, ms_min, ms_max;
	uint64_t kv_bytes; /* read, scales included, a KV head once */
	double gbps;       /* of those in the median time */
	/* A pure read of as many bytes in the same order, interleaved with the kernel, by as many threads or, if that
	 * is faster, by one. For "mla" and "prefill" the
	 * rate at which FMA at its peak, interleaved and for as long if that is long, would consume them, if that is less. */
	double ceiling_gbps;
	double flops;  /* operations a second: 2 for a query head, a token that it sees, and a channel of K or V */
	double rel_l2; /* error against double precision over the same stored values */
};

/* Can every shape be measured, with this ISA? Before time is spent on it. */
int bench_attention_check(const struct bench_attention_setup *setup, struct ikv_err *err);
/* Rows are handed to `row` one by one as they are measured. */
int bench_attention(const struct bench_attention_setup *setup,
		    void (*row)(void *context, const struct bench_attention_row *row), void *context,
		    struct ikv_err *err);

struct bench_rates {         /* of this machine */
	double read_gbps[2]; /* one thread, all threads: 256 MiB, cold */
	uint32_t threads;
	double fma_gflops;                   /* one thread, the widest registers */
	double half_to_float, byte_to_float; /* 10^9 conversions a second, one thread; 0: not measured */
	double copy_gbps;                    /* bytes read and written by memcpy, one thread, cold */
};

/* FMA at its peak for so long, one thread: 10^9 operations a second; 0 where it cannot be measured. */
double bench_fma(double seconds);
int bench_machine(struct bench_rates *rates, double seconds, struct ikv_err *err);

/* A pure read of pieces of `bytes` at the given offsets of a buffer, by so many threads, each its share in order. */
struct bench_reader;
int bench_reader_create(struct bench_reader **out, size_t bytes, uint32_t threads, struct ikv_err *err);
void bench_reader_destroy(struct bench_reader *r);
double bench_reader_run(struct bench_reader *r, const uint64_t *offsets, uint64_t count, size_t bytes); /* seconds */
double bench_reader_alone(struct bench_reader *r, const uint64_t *offsets, uint64_t count, size_t bytes); /* by one thread */
/* FMA at its peak by its threads for so long. A core whose FMA units were not in use, if only for a millisecond of
 * reading, runs them slower at first (Zen 3: a quarter, for two milliseconds; docs/kernels.md). */
void bench_reader_warm(struct bench_reader *r, double seconds);
#define BENCH_WARM_MS 2
/* What comes before a cold call: the whole buffer is read, and then FMA kept in use for BENCH_WARM_MS, as products of a
 * model do before attention. */
void bench_reader_cool(struct bench_reader *r);
#define BENCH_COOL_BYTES ((size_t)256 << 20) /* leave nothing of a measurement's data in a cache */
/* A cold call is made so often and the shortest counts: other work only makes it longer, and so does memory that the
 * hypervisor unmapped meanwhile to see what is in use (docs/cost-model.md). */
#define BENCH_COLD_CALLS 3
/* The whole buffer. */
double bench_reader_all(struct bench_reader *r);

double bench_now(void);                          /* seconds */
double bench_median(double *values, uint32_t n); /* sorts them */

struct bench_format_row {
	const char *format, *step; /* "encode", "decode", "re-encode" */
	double gbps;               /* bytes of FP16 taken or given a second, cold data, one thread */
	double fraction;           /* of copying as many bytes of FP16, counted once */
	double snr_k, snr_v;       /* dB: 10 log10(sum of x² / sum of squared errors); infinite without error */
};
#define BENCH_FORMAT_ROWS 32
int bench_formats(double seconds, struct bench_format_row *rows, uint32_t *count, struct ikv_err *err);

#endif
