/* intentkv doctor: what this machine and this build can do, and why not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "config.h"
#include "gpu/gpu.h"
#include "sim/command.h"
#include "sim/datadir.h"
#include "sim/plot.h"

const struct command command_doctor = {
    .name = "doctor",
    .summary = "say what this machine and build can do",
    .examples = "intentkv doctor\n",
    .about =
	"Instruction sets, backends, CUDA toolkit and devices, data files, gnuplot; and why not, where one is not "
	"there.\n",
    .exits = "0 a scenario can run here; 69 none can",
    .run = cmd_doctor,
};

static void line(bool good, const char *what, const char *text)
{
	printf("%-4s %-16s %s\n", good ? "ok" : "no", what, text);
}

int cmd_doctor(int argc, char **argv)
{
	struct command_line words;
	command_begin(&words, &command_doctor, argc, argv);
	if (command_next(&words) != -1)
		return IKV_USAGE;
	if (optind < argc)
		return command_usage("doctor", "it takes no arguments");
	char text[600];
	uint32_t n;
	printf("%s\n", PACKAGE_STRING);
	snprintf(text, sizeof text, "%ld online", sysconf(_SC_NPROCESSORS_ONLN));
	line(true, "cores", text);
	const struct ikv_isa_info *isa = ikv_isa_list(&n);
	for (uint32_t i = 0; i < n; i++) {
		snprintf(text, sizeof text, "%s%s%s", isa[i].usable ? "usable" : "not on this machine",
			 *isa[i].needs ? "; needs " : "", isa[i].needs);
		char name[32];
		snprintf(name, sizeof name, "isa %s", isa[i].name);
		line(isa[i].usable, name, text);
	}
	const char *forced = getenv("INTENTKV_ISA");
	if (forced && *forced)
		line(true, "INTENTKV_ISA", forced);
	const struct ikv_backend_ops *all[] = {&ikv_backend_cpu, &ikv_backend_ref, gpu_backend()};
	bool cpu = false;
	for (int i = 0; i < 3; i++) {
		char name[32];
		bool good = all[i]->usable(text, sizeof text);
		cpu = cpu || (i == 0 && good);
		snprintf(name, sizeof name, "backend %s", all[i]->name);
		line(good, name, good ? all[i]->summary : text);
	}
	gpu_describe(text, sizeof text);
	printf("     %-16s %s\n", "GPU", text);
	bool plot = plot_program(), data = datadir_find("machines", text, sizeof text);
	line(data, "data",
	     data ? text : "not found; set INTENTKV_DATADIR to the folder that holds machines/ and plots/");
	line(plot, "gnuplot", plot ? "found" : "not found: `plot` leaves .gp and .tsv only; apt install gnuplot-nox");
	return cpu && data ? IKV_OK : IKV_UNAVAILABLE;
}
