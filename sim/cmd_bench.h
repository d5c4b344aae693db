/* The parts of intentkv bench. */
#ifndef SIM_CMD_BENCH_H
#define SIM_CMD_BENCH_H

#include "sim/bench_attention.h"
#include "sim/command.h"

enum bench_output { BENCH_TABLE, BENCH_CSV, BENCH_JSON };

struct bench_report {
	enum bench_output output;
	const char *plot; /* folder of the roofline, or NULL */
	double seconds;
};

int cmd_bench_attention(const struct bench_attention_setup *setup, const struct bench_report *report);
int cmd_bench_formats(const struct bench_report *report);
int cmd_bench_gpu(int argc, char **argv);
extern const struct command command_bench_gpu;
/* False for a word that is no form of the output. */
bool bench_set_output(const char *text, enum bench_output *output);
/* Takes --warm; 0, or what a wrong value exits with, reported. */
int bench_set_warm(const char *command, const char *text, double *ms);

#endif
