/* intentkv sweep emit-slurm: a job array for a cluster without MPI between its jobs. Every task plays its share of
 * the points into a file of its own; a last job merges them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "sim/command.h"
#include "sim/sweep_job.h"

enum { DB = 256, TASKS, TIME, PROGRAM, ALLOW };
static const struct command_option options[] = {
    {"set", 's', "KEY=VALUE", "<settings>", NULL, "as of sweep, for every task; may be repeated"},
    {"axis", 'x', "KEY=LIST", "<settings>", NULL, "as of sweep"},
    {"where", 'w', "EXPR", NULL, NULL, "as of sweep"},
    {"jobs", 'j', "N", NULL, "1", "worker processes of each task"},
    {"db", DB, "FILE", "*.db", NULL, "database that the last job merges into, where the nodes can write; needed"},
    {"tasks", TASKS, "N", NULL, "8", "jobs of the array"},
    {"time", TIME, "T", NULL, "04:00:00", "limit of a job"},
    {"program", PROGRAM, "PATH", "*", "intentkv", "the program on the nodes"},
    {"allow-path", ALLOW, NULL, NULL, NULL, "the scenario may name files outside its own folder"},
    {.name = NULL},
};

const struct command command_emit_slurm = {
    .name = "sweep emit-slurm",
    .summary = "print a job array script for Slurm",
    .arguments = "SCENARIO.yaml",
    .words = {"*.yaml"},
    .examples = "intentkv sweep emit-slurm my.yaml --db s.db --tasks 50 >array.sh && sh array.sh\n",
    .about =
	"Run by `sh`, the script submits itself and the merge that follows; again after a failure, it plays what "
	"is missing.\n",
    .options = options,
    .run = cmd_emit_slurm,
};

/* As one word of a shell, whatever it holds. */
static void quoted(const char *text)
{
	putchar('\'');
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", stdout);
		else
			putchar(*text);
	}
	putchar('\'');
}

static void script(const char *program, const char *scenario, const char *db, uint32_t tasks, uint32_t jobs,
		   const char *time, int set_count, char **sets)
{
	printf(
	    "#!/bin/sh\n"
	    "#SBATCH --job-name=intentkv\n#SBATCH --cpus-per-task=%u\n#SBATCH --time=%s\n"
	    "#SBATCH --array=1-%u\n#SBATCH --output=intentkv-%%A-%%a.log\n"
	    "# Run by `sh`, this submits itself and the merge that follows; again after a failure, it plays what is "
	    "missing.\n"
	    "set -eu\nprogram=",
	    jobs, time, tasks);
	quoted(program);
	fputs("\ndb=", stdout);
	quoted(db);
	puts("\nif [ \"${1-}\" = merge ]; then\n"
	     "\tset -- \"$db\".part-*[0-9]\n"
	     "\texec \"$program\" merge --remove \"$db\" \"$@\"\n"
	     "fi\n"
	     "if [ -z \"${SLURM_ARRAY_TASK_ID-}\" ]; then\n"
	     "\tjob=$(sbatch --parsable \"$0\")\n"
	     "\tjob=${job%%;*}\n"
	     "\techo \"array $job, merged by $(sbatch --parsable --array=1 --dependency=afterany:\"$job\" \"$0\" "
	     "merge)\"\n"
	     "\texit\n"
	     "fi");
	printf("exec \"$program\" sweep -j %u --part \"$SLURM_ARRAY_TASK_ID/%u\" --known \"$db\" \\\n\t--db "
	       "\"$db.part-$SLURM_ARRAY_TASK_ID\"",
	       jobs, tasks);
	for (int i = 0; i < set_count; i++) {
		putchar(' ');
		quoted(sets[i]);
	}
	putchar(' ');
	quoted(scenario);
	putchar('\n');
}

/* Would the tasks have points to play? A queue is a poor place to learn that a key is misspelt. */
static int check(const char *scenario, uint32_t tasks, int set_count, char **sets)
{
	struct ikv_err err;
	struct sweep_job *j = calloc(1, sizeof *j);
	if (!j)
		return command_fail(&(struct ikv_err){IKV_FAILED, "out of memory"});
	j->parts = tasks;
	int rc = scenario_read(scenario, &j->doc, &err);
	for (int i = 0; i < set_count && !rc; i++) {
		if (!strcmp(sets[i], "--allow-path"))
			j->doc.allow_path = true;
		else
			rc = sweep_change(j, sets[i][1], sets[i + 1], &err), i++;
	}
	rc = rc ? rc : sweep_points(j, &err);
	sweep_free(j);
	if (!rc)
		return IKV_OK;
	return err.status == IKV_USAGE ? command_usage("sweep emit-slurm", "%s", err.text) : command_fail(&err);
}

int cmd_emit_slurm(int argc, char **argv)
{
	struct command_line line;
	const char *db = NULL, *time = "04:00:00", *program = "intentkv";
	uint32_t tasks = 8, jobs = 1;
	char **sets = calloc(2 * (size_t)argc + 1, sizeof *sets);
	int set_count = 0, c, rc = 0;
	static char s[] = "-s", x[] = "-x", w[] = "-w", allow[] = "--allow-path";
	command_begin(&line, &command_emit_slurm, argc, argv);
	while (sets && !rc && (c = command_next(&line)) != -1) {
		if (c == 's' || c == 'x' || c == 'w') {
			sets[set_count++] = c == 's' ? s : c == 'x' ? x : w;
			sets[set_count++] = optarg;
		} else if (c == ALLOW)
			sets[set_count++] = allow;
		else if (c == 'j')
			rc = command_count("sweep emit-slurm", "-j", optarg, 1, 512, &jobs);
		else if (c == TASKS)
			rc = command_count("sweep emit-slurm", "--tasks", optarg, 1, 10000, &tasks);
		else if (c == DB)
			db = optarg;
		else if (c == TIME)
			time = optarg;
		else if (c == PROGRAM)
			program = optarg;
		else
			rc = IKV_USAGE;
	}
	if (!rc && optind + 1 != argc)
		rc = command_usage("sweep emit-slurm", "expected one scenario file");
	if (!rc && !db)
		rc = command_usage("sweep emit-slurm", "needs --db FILE, where the nodes can write");
	if (!rc && strspn(time, "0123456789:-") != strlen(time))
		rc = command_usage("sweep emit-slurm", "--time: got \"%.40s\", expected a time such as 04:00:00",
				   time);
	if (!rc)
		rc = check(argv[optind], tasks, set_count, sets);
	if (!rc)
		script(program, argv[optind], db, tasks, jobs, time, set_count, sets);
	free(sets);
	return rc;
}
