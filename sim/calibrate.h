/* Fitting the cost model's constants (engine/intentkv/cost.h) to measured attention calls. */
#ifndef SIM_CALIBRATE_H
#define SIM_CALIBRATE_H

#include <intentkv.h>

struct calibrate_cell {    /* one kind of call, one layer */
	char shape[40];    /* query heads/KV heads/dimension, or what a file says */
	char format[24];   /* a page format, or "mixed" */
	char selected[24]; /* "dense", "0.25", "newest 0.25/head" */
	uint32_t tokens;   /* of the context, of each sequence */
	bool held;         /* not used in the fit: its error is a prediction's */
	struct ikv_cost_work work;
	double measured_ns;  /* median of several calls */
	double predicted_ns; /* by the fitted machine */
};

struct calibrate_set {
	struct calibrate_cell *cells;
	uint32_t count, cap;
};
/* A new cell, all zero. */
struct calibrate_cell *calibrate_add(struct calibrate_set *set, struct ikv_err *err);
void calibrate_free(struct calibrate_set *set);

struct calibrate_setup {
	const struct ikv_backend_ops *backend;
	const char *isa;
	uint32_t threads;
	uint32_t q_heads, kv_heads,
	    head_dim; /* of the model; other groups and another width are measured, too */
	uint32_t page_tokens;
	uint32_t tokens;                              /* the longest context */
	double seconds;                               /* a cell */
	int64_t cool_bytes;                           /* read before each call */
	void (*progress)(uint32_t done, uint32_t of); /* or NULL */
};
/* Time the backend's decode on random data, cold, with page mass asked for, as a run does. `m` gets what is measured
 * beside: plain reads, arithmetic, re-encoding. */
int calibrate_measure(const struct calibrate_setup *setup, struct calibrate_set *set, struct ikv_machine *m,
		      struct ikv_err *err);

/* Decode rows of an attention profile, CSV with the columns n_decode, kv_decode and time_us (prefill_chunk must be 0
 * or absent): so many sequences of so many tokens, `token_bytes` of KV a token in the layer. Every second row is held
 * out. */
int calibrate_read_csv(const char *path, uint32_t token_bytes, struct calibrate_set *set, struct ikv_err *err);

/* Constants that minimise the sum of |predicted / measured - 1| over the cells that are not held out, none negative;
 * fills the predictions of all. Constants that the cells do not determine stay as they are. */
int calibrate_fit(struct calibrate_set *set, struct ikv_machine *m, struct ikv_err *err);

struct calibrate_error { /* percent, |predicted / measured - 1| */
	uint32_t cells;
	double mean, median, worst;
};
/* Over cells, held out or not, with this format and shape (NULL: any). */
struct calibrate_error calibrate_errors(const struct calibrate_set *set, bool held, const char *format,
					const char *shape);

/* Least absolute relative error with non-negative coefficients by iteratively reweighted least squares:
 * x [rows][columns], y [rows] > 0. */
int calibrate_solve(const double *x, const double *y, uint32_t rows, uint32_t columns, double *coefficients,
		    struct ikv_err *err);

/* machines/NAME.yaml's form. Refuses to replace a file. */
int machine_write(const char *path, const struct ikv_machine *m, bool replace, struct ikv_err *err);

#endif
