#include <errno.h>
#include <string.h>
#include "sim/command.h"
#include "sim/plot.h"
#include "sim/roofline.h"

static const struct plot roofline = {.name = "roofline", .title = "Attention against memory and arithmetic",
				     .script = "plots/roofline.gp"};

int roofline_open(struct roofline *r, const char *folder, const char *what, double gbps, double gflops)
{
	char path[4096];
	int rc = plot_folder(folder);
	if (rc)
		return rc;
	if (snprintf(path, sizeof path, "%s/roofline.tsv", folder) >= (int)sizeof path)
		return command_usage("bench", "--plot: the path is too long");
	*r = (struct roofline){fopen(path, "we"), folder};
	if (!r->f)
		return plot_fail(IKV_CANT_CREATE, path, strerror(errno));
	fprintf(r->f, "ceilings\t10^9 bytes a second\t10^9 operations a second\n%s\t%.4f\t%.4f\n", what, gbps, gflops);
	return 0;
}

void roofline_add(const struct roofline *r, const char *label, double gbps, double gflops)
{
	if (r->f)
		fprintf(r->f, "\n\nkernel\toperations a byte\t10^9 operations a second\n%s\t%.5f\t%.4f\n", label,
			gflops / gbps, gflops);
}

int roofline_close(struct roofline *r, int rc)
{
	if (!r->f)
		return rc;
	bool bad = ferror(r->f) != 0;
	bad |= fclose(r->f) != 0;
	r->f = NULL;
	return rc ? rc : bad ? IKV_IO : plot_make(&roofline, r->folder, "svg");
}
