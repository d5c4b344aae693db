/* Reading records back: from the file of another process, or from the queue of another thread. */
#include <stdlib.h>
#include <string.h>
#include "store_spool.h"

/* At least one byte at r->at; 0: there are no more. */
static int look(struct spool_reader *r, struct ikv_err *err)
{
	if (r->left > 0)
		return 1;
	if (r->more(r->source, &r->at, &r->left, err) != 0)
		return -1;
	return r->left > 0;
}

static int incomplete(struct ikv_err *err)
{
	return ikv_err_set(err, IKV_FAILED, "the spool of a run is incomplete");
}

static int get(struct spool_reader *r, void *to, size_t size, struct ikv_err *err)
{
	unsigned char *at = to;
	while (size > 0) {
		int there = look(r, err);
		if (there <= 0)
			return there < 0 ? -1 : incomplete(err);
		size_t n = size < r->left ? size : r->left;
		memcpy(at, r->at, n);
		r->at += n;
		r->left -= n;
		at += n;
		size -= n;
	}
	return 0;
}

/* The next text, valid until the record is done. */
static int get_text(struct spool_reader *r, const char **out, struct ikv_err *err)
{
	char *text = NULL;
	size_t size = 0;
	const unsigned char *end = NULL;
	if (!*out)
		return 0;
	*out = NULL;
	if (r->texts == sizeof r->text / sizeof *r->text)
		return ikv_err_set(err, IKV_FAILED, "a record of the spool has too many texts");
	while (!end) { /* up to its zero, which may lie in a later buffer */
		int there = look(r, err);
		end = there > 0 ? memchr(r->at, 0, r->left) : NULL;
		size_t n = end ? (size_t)(end - r->at) + 1 : r->left;
		char *grown = there > 0 ? realloc(text, size + n) : NULL;
		if (!grown) {
			free(text);
			return there < 0 ? -1 : there == 0 ? incomplete(err) : ikv_err_set(err, IKV_FAILED, "out of memory");
		}
		text = grown;
		memcpy(text + size, r->at, n);
		size += n;
		r->at += n;
		r->left -= n;
	}
	r->text[r->texts++] = text;
	*out = text;
	return 0;
}

static int take_run(struct store *s, struct spool_reader *r, int64_t *run_id, const char *key, struct ikv_err *err)
{
	struct store_run run;
	if (get(r, &run, sizeof run, err) != 0)
		return -1;
	run.run_id = *run_id;
	run.point_key = key;
	run.message = STORE_TAKEN_IN_PART;
	for (int i = 0; i < SPOOL_RUN_TEXTS; i++)
		if (get_text(r, (const char **)((char *)&run + spool_run_texts[i]), err) != 0)
			return -1;
	struct store_param *params = ikv_alloc(run.param_count + 1, sizeof *params, err);
	int rc = params ? 0 : -1;
	for (uint32_t i = 0; rc == 0 && i < run.param_count; i++) {
		params[i] = (struct store_param){"", "", ""};
		if (get_text(r, &params[i].key, err) != 0 || get_text(r, &params[i].value, err) != 0 ||
		    get_text(r, &params[i].origin, err) != 0)
			rc = -1;
	}
	run.params = params;
	if (rc == 0)
		rc = store_run_begin(s, &run, run_id, err);
	ikv_free(params);
	return rc;
}

/* The next row, into r->before. */
static int get_row(struct spool_reader *r, int which, struct ikv_err *err)
{
	size_t size = store_tables[which].row_bytes;
	unsigned char *to = (unsigned char *)&r->before[which], bits[32];
	if (get(r, bits, spool_bits(size), err) != 0)
		return -1;
	for (size_t i = 0; i < size / 8; i++)
		if ((bits[i / 8] >> i % 8 & 1) && get(r, to + 8 * i, 8, err) != 0)
			return -1;
	return 0;
}

static int take_row(struct store *s, struct spool_reader *r, int which, int64_t run_id, struct ikv_err *err)
{
	const struct store_table *table = &store_tables[which];
	union spool_row row;
	if (get_row(r, which, err) != 0)
		return -1;
	memcpy(&row, &r->before[which], table->row_bytes);
	for (int i = 0; i < table->text_count; i++)
		if (get_text(r, (const char **)((char *)&row + table->texts[i]), err) != 0)
			return -1;
	row.run_id = run_id ? run_id : row.run_id;
	return which == STORE_ROW_SESSION ? store_session(s, &row.session, err)
	       : which == STORE_ROW_STEP  ? store_step(s, &row.step, err)
	       : which == STORE_ROW_ROLE  ? store_role(s, &row.role, err)
	       : which == STORE_ROW_LAYER ? store_layer(s, &row.layer, err)
					  : store_prefill(s, &row.prefill, err);
}

static int take_event(struct store *s, struct spool_reader *r, int type, int64_t run_id, struct ikv_err *err)
{
	if (type == SPOOL_PAGE) {
		struct spool_page p;
		return get(r, &p, sizeof p, err) != 0 ||
			       store_page_event(s, run_id ? run_id : p.run_id, p.session, p.step, &p.action, err) != 0
			   ? -1
			   : 0;
	}
	struct store_block_event row;
	struct ikv_decision decision;
	if (type != SPOOL_BLOCK)
		return ikv_err_set(err, IKV_FAILED, "the spool of a run is damaged");
	if (get(r, &row, sizeof row, err) != 0 || get(r, &decision, sizeof decision, err) != 0 ||
	    get_text(r, &row.block, err) != 0)
		return -1;
	row.run_id = run_id ? run_id : row.run_id;
	row.decision = &decision;
	return store_block_event(s, &row, err);
}

int spool_take(struct store *s, struct spool_reader *r, int64_t *run_id, const char *key, struct ikv_err *err)
{
	unsigned char type;
	int there = look(r, err);
	if (there <= 0)
		return there;
	int rc = get(r, &type, 1, err);
	if (rc == 0)
		rc = type == SPOOL_RUN        ? take_run(s, r, run_id, key, err)
		     : type < STORE_ROW_COUNT ? take_row(s, r, type, *run_id, err)
					      : take_event(s, r, type, *run_id, err);
	while (r->texts)
		free(r->text[--r->texts]);
	return rc == 0 ? 1 : -1;
}
