/* Result sets as a table, CSV, JSON, JSON lines, Markdown or gnuplot data. Tables wait for all rows, for their widths. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "store_internal.h"

struct cell {
	char *text; /* sqlite3_malloc */
	int width;  /* columns on a terminal */
	bool number;
};
struct store_writer {
	enum store_format format;
	bool header;
	sqlite3_stmt *stmt;
	FILE *file;
	int columns;
	uint64_t rows;
	struct cell *cells; /* of the header, then of all rows: table and Markdown only */
	size_t count, cap;
	char *block; /* first column of the block being written: gnuplot only */
};

/* Shortest of 15 to 17 digits that reads back as the same value. */
static void exact(double x, char *text, size_t size)
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(text, size, "%.*g", digits, x);
		if (strtod(text, NULL) == x)
			return;
	}
}

static void readable(double x, char *text, size_t size)
{
	double a = fabs(x);
	if (a >= 1e6 && a < 1e15)
		snprintf(text, size, "%.0f", x);
	else
		snprintf(text, size, "%.5g", x);
}

static bool is_number(int type)
{
	return type == SQLITE_INTEGER || type == SQLITE_FLOAT;
}

static const char *column_text(struct store_writer *w, int i)
{
	const char *text = (const char *)sqlite3_column_text(w->stmt, i);
	return text ? text : "";
}

/* Control characters never reach a terminal; C1 controls are two bytes in UTF-8, 0xc2 0x80..0x9f. */
static void add_cell(struct store_writer *w, const char *text, bool number, struct ikv_err *err)
{
	struct cell *c = &w->cells[w->count++];
	sqlite3_str *s = sqlite3_str_new(NULL);
	(void)err;
	c->number = number;
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p < 0x20 || *p == 0x7f) {
			sqlite3_str_appendchar(s, 1, ' ');
		} else if (*p == 0xc2 && p[1] >= 0x80 && p[1] <= 0x9f) {
			sqlite3_str_appendchar(s, 1, ' ');
			p++;
		} else {
			if (*p == '|' && w->format == STORE_MARKDOWN)
				sqlite3_str_appendchar(s, 1, '\\'), c->width++;
			sqlite3_str_appendchar(s, 1, (char)*p);
			if ((*p & 0xc0) == 0x80)
				continue;
		}
		c->width++;
	}
	c->text = sqlite3_str_finish(s);
}

static int room(struct store_writer *w, struct ikv_err *err)
{
	size_t need = w->count + (size_t)w->columns;
	if (need <= w->cap)
		return 0;
	size_t cap = need + w->cap;
	if (ikv_grow(&w->cells, w->cap, cap, sizeof *w->cells, err) != 0)
		return -1;
	w->cap = cap;
	return 0;
}

static void csv_text(FILE *f, const char *text)
{
	bool formula = *text && strchr("=+-@\t\r", *text);
	if (!formula && !strpbrk(text, ",\"\r\n")) {
		fputs(text, f);
		return;
	}
	fputs(formula ? "\"'" : "\"", f);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', f);
		fputc(*text, f);
	}
	fputc('"', f);
}

/* Length of the valid UTF-8 sequence at p, 0 if there is none. */
static int utf8(const unsigned char *p)
{
	int n = *p < 0x80                 ? 1
		: *p >= 0xc2 && *p < 0xe0 ? 2
		: (*p & 0xf0) == 0xe0     ? 3
		: *p >= 0xf0 && *p < 0xf5 ? 4
					  : 0;
	for (int i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) ||
	    (*p == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

static void json_text(FILE *f, const char *text)
{
	fputc('"', f);
	for (const unsigned char *p = (const unsigned char *)text; *p;) {
		int n = utf8(p);
		if (n == 0) {
			fputs("\\ufffd", f);
			p++;
		} else if (n == 1 && (*p < 0x20 || *p == '"' || *p == '\\' || *p == 0x7f)) {
			fprintf(f, "\\u%04x", *p++);
		} else {
			fwrite(p, 1, (size_t)n, f);
			p += n;
		}
	}
	fputc('"', f);
}

/* A label or value that gnuplot takes as data: no tabs, lines or quotes. */
static void data_text(FILE *f, const char *text)
{
	for (; *text; text++)
		fputc((unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text == '"' ? '\'' : *text, f);
}

static void number_text(struct store_writer *w, int i, char *text, size_t size)
{
	if (sqlite3_column_type(w->stmt, i) == SQLITE_INTEGER)
		snprintf(text, size, "%lld", (long long)sqlite3_column_int64(w->stmt, i));
	else if (w->format == STORE_TABLE || w->format == STORE_MARKDOWN)
		readable(sqlite3_column_double(w->stmt, i), text, size);
	else
		exact(sqlite3_column_double(w->stmt, i), text, size);
}

static void csv_row(struct store_writer *w)
{
	for (int i = 0; i < w->columns; i++) {
		char number[64];
		if (i)
			fputc(',', w->file);
		if (is_number(sqlite3_column_type(w->stmt, i))) {
			number_text(w, i, number, sizeof number);
			fputs(number, w->file);
		} else {
			csv_text(w->file, column_text(w, i));
		}
	}
	fputs("\r\n", w->file);
}

static void json_row(struct store_writer *w)
{
	bool line = w->format == STORE_JSONL;
	fputs(line ? "{" : w->rows ? ",\n {" : "\n {", w->file);
	for (int i = 0; i < w->columns; i++) {
		char number[64];
		int type = sqlite3_column_type(w->stmt, i);
		if (i)
			fputs(", ", w->file);
		json_text(w->file, sqlite3_column_name(w->stmt, i));
		fputs(": ", w->file);
		if (type == SQLITE_NULL || (type == SQLITE_FLOAT && !isfinite(sqlite3_column_double(w->stmt, i)))) {
			fputs("null", w->file);
		} else if (is_number(type)) {
			number_text(w, i, number, sizeof number);
			fputs(number, w->file);
		} else {
			json_text(w->file, column_text(w, i));
		}
	}
	fputs(line ? "}\n" : "}", w->file);
}

/* Rows of one first column make a block: its label and the column names, then the rows; blocks are parted by two
 * empty lines. */
static int data_row(struct store_writer *w, struct ikv_err *err)
{
	const char *label = column_text(w, 0);
	if (!w->block || strcmp(w->block, label) != 0) {
		if (w->block)
			fputs("\n\n", w->file);
		sqlite3_free(w->block);
		w->block = sqlite3_mprintf("%s", label);
		if (!w->block)
			return ikv_err_set(err, IKV_FAILED, "out of memory");
		data_text(w->file, *label ? label : "-");
		for (int i = 1; i < w->columns; i++) {
			fputc('\t', w->file);
			data_text(w->file, sqlite3_column_name(w->stmt, i));
		}
		fputc('\n', w->file);
	}
	for (int i = 0; i < w->columns; i++) {
		char number[64];
		if (i)
			fputc('\t', w->file);
		if (is_number(sqlite3_column_type(w->stmt, i))) {
			number_text(w, i, number, sizeof number);
			fputs(number, w->file);
		} else {
			const char *text = column_text(w, i);
			data_text(w->file, *text ? text : i ? "?" : "-");
		}
	}
	fputc('\n', w->file);
	return 0;
}

int store_writer_open(struct store_writer **out, enum store_format format, bool header, sqlite3_stmt *stmt,
		      void *file, struct ikv_err *err)
{
	struct store_writer *w = ikv_alloc(1, sizeof *w, err);
	if (!w)
		return -1;
	*w = (struct store_writer){.format = format, .header = header, .stmt = stmt, .file = file};
	w->columns = sqlite3_column_count(stmt);
	*out = w;
	if (format == STORE_JSON)
		fputs("[", w->file);
	if (format == STORE_TABLE || format == STORE_MARKDOWN) {
		if (room(w, err) != 0) {
			ikv_free(w);
			return -1;
		}
		for (int i = 0; i < w->columns; i++)
			add_cell(w, sqlite3_column_name(stmt, i), false, err);
	}
	for (int i = 0; format == STORE_CSV && header && i < w->columns; i++) {
		if (i)
			fputc(',', w->file);
		csv_text(w->file, sqlite3_column_name(stmt, i));
	}
	if (format == STORE_CSV && header)
		fputs("\r\n", w->file);
	return 0;
}

int store_writer_row(struct store_writer *w, struct ikv_err *err)
{
	int rc = 0;
	switch (w->format) {
	case STORE_CSV:
		csv_row(w);
		break;
	case STORE_JSON:
	case STORE_JSONL:
		json_row(w);
		break;
	case STORE_GNUPLOT:
		rc = data_row(w, err);
		break;
	case STORE_TABLE:
	case STORE_MARKDOWN:
		if (room(w, err) != 0)
			return -1;
		for (int i = 0; i < w->columns; i++) {
			char number[64];
			bool numeric = is_number(sqlite3_column_type(w->stmt, i));
			if (numeric)
				number_text(w, i, number, sizeof number);
			add_cell(w, numeric ? number : column_text(w, i), numeric, err);
		}
		break;
	}
	w->rows++;
	return rc;
}

static void table(struct store_writer *w)
{
	size_t columns = (size_t)w->columns, rows = w->count / columns;
	bool markdown = w->format == STORE_MARKDOWN;
	for (size_t c = 0; c < columns; c++) { /* the header's cell carries the column's width and kind */
		struct cell *head = &w->cells[c];
		int width = w->header || markdown ? head->width : 0;
		for (size_t r = 1; r < rows; r++) {
			const struct cell *x = &w->cells[r * columns + c];
			width = x->width > width ? x->width : width;
			head->number |= x->number;
		}
		head->width = width > 3 ? width - head->width : 3 - head->width; /* padding of the header itself */
	}
	for (size_t r = w->header || markdown ? 0 : 1; r < rows; r++) {
		for (size_t c = 0; c < columns; c++) {
			const struct cell *head = &w->cells[c], *x = &w->cells[r * columns + c];
			const char *text = x->text ? x->text : "";
			int own = 0;
			for (const char *p = head->text ? head->text : ""; *p; p++)
				own += (*p & 0xc0) != 0x80;
			int width = head->width + own, pad = r == 0 ? head->width : width - x->width;
			bool right = head->number, last = c + 1 == columns;
			fputs(markdown ? (c ? " | " : "| ") : c ? "  " : "", w->file);
			fprintf(w->file, "%*s%s", right ? pad : 0, "", text);
			if (!right && (!last || markdown))
				fprintf(w->file, "%*s", pad, "");
		}
		fputs(markdown ? " |\n" : "\n", w->file);
		for (size_t c = 0; r == 0 && markdown && c < columns; c++)
			fputs(w->cells[c].number ? (c ? "---:|" : "|---:|") : c ? ":---|" : "|:---|", w->file);
		if (r == 0 && markdown)
			fputc('\n', w->file);
	}
}

int store_writer_close(struct store_writer *w, bool complete, struct ikv_err *err)
{
	if (complete && w->format == STORE_JSON)
		fputs(w->rows ? "\n]\n" : "]\n", w->file);
	if (complete && w->cells)
		table(w);
	for (size_t i = 0; i < w->count; i++)
		sqlite3_free(w->cells[i].text);
	ikv_free(w->cells);
	sqlite3_free(w->block);
	int rc = 0;
	if (complete && (fflush(w->file) != 0 || ferror(w->file)))
		rc = ikv_err_set(err, IKV_IO, "cannot write the result");
	ikv_free(w);
	return rc;
}
