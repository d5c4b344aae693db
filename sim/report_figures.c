/* Figures of a report: drawn in a folder of their own, then put into the page. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sim/figure.h"
#include "sim/report.h"

/* The whole file, to be freed. */
static char *read_all(const char *path)
{
	FILE *f = fopen(path, "re");
	long size = f && fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
	char *text = size >= 0 ? malloc((size_t)size + 1) : NULL;
	if (text) {
		rewind(f);
		text[fread(text, 1, (size_t)size, f)] = 0;
	}
	if (f)
		fclose(f);
	return text;
}

/* All figures share the page: ids, and what refers to them, get the figure's name in front. */
static void write_svg(FILE *f, const char *svg, const char *name)
{
	static const char *const marks[] = {" id=\"", "xlink:href=\"#", "url(#", " id='", "xlink:href='#"};
	while (*svg) {
		size_t length = 0;
		for (size_t i = 0; i < sizeof marks / sizeof *marks && !length; i++)
			if (strncmp(svg, marks[i], strlen(marks[i])) == 0)
				length = strlen(marks[i]);
		if (length) {
			fwrite(svg, 1, length, f);
			fprintf(f, "%s-", name);
			svg += length;
		} else {
			fputc(*svg++, f);
		}
	}
}

static int put(const struct report *r, const struct figure *fig, const char *folder)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s.svg", folder, fig->plot.name);
	char *text = read_all(path), *svg = text ? strstr(text, "<svg") : NULL;
	if (!svg) {
		free(text);
		return plot_fail(IKV_IO, path, "cannot be read");
	}
	fprintf(r->f, "<div class=\"figure\" id=\"figure-%s\"><h3>%s</h3>\n<p class=\"soft\">%s</p>\n",
		fig->plot.name, fig->plot.title, fig->plot.caption ? fig->plot.caption : "");
	fprintf(r->f, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\">", fig->plot.title);
	write_svg(r->f, svg, fig->plot.name);
	fputs("</div></div>\n", r->f);
	free(text);
	return 0;
}

static void clean(const char *folder)
{
	static const char *const endings[] = {"gp", "tsv", "svg"};
	char path[4096];
	for (const struct figure *fig = figures; fig->query; fig++) {
		for (int i = 0; i < 3; i++) {
			snprintf(path, sizeof path, "%s/%s.%s", folder, fig->plot.name, endings[i]);
			unlink(path);
		}
	}
	rmdir(folder);
}

int report_figures(const struct report *r)
{
	const char *temporary = getenv("TMPDIR");
	char folder[3000];
	bool any = false;
	int rc = 0;
	if (!plot_program()) {
		fputs("intentkv: report: the page has no figures, since gnuplot is not there (Debian, Ubuntu: "
		      "gnuplot-nox)\n",
		      stderr);
		fputs("<p class=\"soft\">No figures: gnuplot was not there.</p>\n", r->f);
		return 0;
	}
	if (snprintf(folder, sizeof folder, "%s/intentkv-report-XXXXXX",
		     temporary && *temporary ? temporary : "/tmp") >= (int)sizeof folder ||
	    !mkdtemp(folder))
		return plot_fail(IKV_CANT_CREATE, folder, strerror(errno));
	for (const struct figure *fig = figures; fig->query && rc == 0; fig++) {
		bool drawn;
		rc = figure_make(fig, r->db, folder, "svg", r->run, &drawn);
		if (rc == 0 && drawn)
			rc = put(r, fig, folder);
		any |= rc == 0 && drawn;
	}
	if (rc == 0 && !any)
		fputs("<p class=\"soft\">These runs have no data for any figure.</p>\n", r->f);
	clean(folder);
	return rc;
}
