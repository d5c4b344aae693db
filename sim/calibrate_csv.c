/* Attention profiles that others measured: decode rows of a CSV file. */
#include <stdio.h>
#include <string.h>
#include "sim/calibrate.h"
#include "sim/trace/csv_input.h"

enum { CHUNK, SEQUENCES, TOKENS, TIME, COLUMNS };
static const struct csv_column columns[COLUMNS] = {
    {.name = "prefill_chunk", .optional = true}, {.name = "n_decode"}, {.name = "kv_decode"}, {.name = "time_us"}};

struct profile {
	struct calibrate_set *set;
	uint32_t token_bytes;
};

static int read_row(struct trace *t, struct csv_input *in, void *ctx, struct ikv_err *err)
{
	struct profile *p = ctx;
	int64_t chunk = 0, sequences, tokens;
	double us;
	(void)t;
	if ((*csv_text(in, CHUNK) && csv_int(in, CHUNK, 0, INT32_MAX, &chunk, err)) ||
	    csv_int(in, SEQUENCES, 0, 1 << 20, &sequences, err) || csv_int(in, TOKENS, 0, 1 << 30, &tokens, err) ||
	    csv_real(in, TIME, 1e-6, 1e12, &us, err))
		return -1;
	if (chunk || !sequences || !tokens)
		return 0;
	struct calibrate_cell *c = calibrate_add(p->set, err);
	if (!c)
		return -1;
	snprintf(c->shape, sizeof c->shape, "%lld sequences", (long long)sequences);
	snprintf(c->format, sizeof c->format, "as given");
	snprintf(c->selected, sizeof c->selected, "dense");
	c->tokens = (uint32_t)tokens;
	c->held = p->set->count % 2 == 0;
	c->measured_ns = us * 1e3;
	c->work.layers = 1;
	c->work.sequences = (uint32_t)sequences;
	c->work.kv_bytes = (uint64_t)sequences * (uint64_t)tokens * p->token_bytes;
	return 0;
}

int calibrate_read_csv(const char *path, uint32_t token_bytes, struct calibrate_set *set, struct ikv_err *err)
{
	struct profile p = {set, token_bytes};
	struct session_options opts = {0};
	struct trace_facts facts;
	memset(&facts, 0, sizeof facts);
	struct trace t = {.opts = &opts, .facts = &facts, .path = path};
	if (csv_read(&t, path, columns, COLUMNS, read_row, &p, err))
		return -1;
	if (set->count < 8)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: %u decode rows, expected 8 at least", path, set->count);
	return 0;
}
