/* intentkv run: play every point of a scenario and record it. */
#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sim/command.h"
#include "sim/run.h"
#include "sim/sweep_key.h"

enum { DB = 256, NO_PLOTS, SKIP_BAD, ALLOW_PATH, THREADS, QUIET };
static const struct command_option options[] = {
    {"set", 's', "KEY=VALUE", "<settings>", NULL, "override one key of the scenario; may be repeated"},
    {"db", DB, "FILE", "*.db", "results/NAME.db", "database to record in; runs are added to it"},
    {"output", 'o', "FOLDER", "/", "results/NAME", "folder for the plots"},
    {"no-plots", NO_PLOTS, NULL, NULL, NULL, "record only"},
    {"skip-bad", SKIP_BAD, NULL, NULL, NULL, "count broken records of a trace and go on"},
    {"allow-path", ALLOW_PATH, NULL, NULL, NULL, "the scenario may name files outside its own folder"},
    {"threads", THREADS, "N", NULL, NULL, "same as -s attention.threads=N"},
    {"quiet", QUIET, NULL, NULL, NULL, "no progress, tables or plots"},
    {.name = NULL},
};

const struct command command_run = {
    .name = "run",
    .summary = "play a scenario and record every step",
    .arguments = "SCENARIO.yaml",
    .words = {"*.yaml"},
    .examples = "intentkv run scenarios/quickstart.yaml\n"
		"intentkv run scenarios/quickstart.yaml -s router.policy=quest -s router.budget=10%\n"
		"intentkv run scenarios/trace-openai-chat.yaml -s sessions.path=TRACE.json -s sessions.limit=20\n",
    .about =
	"A scenario with a `sweep` section gives one run for each of its points, one after another; "
	"`intentkv sweep` plays them on all cores. Afterwards the query `summary` is printed and the figures are "
	"drawn. A value of --set that begins with [, { or a quote is read as YAML. INTENTKV_ISA overrides "
	"attention.isa.\n",
    .options = options,
    .run = cmd_run,
};

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	stopped = sig;
}

struct job {
	struct scenario_doc doc;
	struct sweep sweep;
	char db[4096], plots[4096];
	const char *output, *db_option;
	bool no_plots, quiet, allow_path, tty, refused; /* refused: an option, and that was said */
	const char *label;                              /* of the point being played */
	uint32_t point;
	uint64_t last_print_ns;
};
static struct job job;

static void progress(const struct run *run)
{
	uint64_t now = wall_now_ns();
	if (!job.tty || job.quiet || now - job.last_print_ns < 200000000u)
		return;
	job.last_print_ns = now;
	double s = (double)run->wall_ns * 1e-9, rate = (double)run->steps_done / s;
	fprintf(stderr, "\r\033[K[%u/%u] ", job.point + 1, job.sweep.count);
	command_print(stderr, job.label);
	fprintf(stderr, "  %llu/%llu steps, %.0f/s, %.0f s left", (unsigned long long)run->steps_done,
		(unsigned long long)run->steps_total, rate, (double)(run->steps_total - run->steps_done) / rate);
}

/* The scenario must be read before its overrides, so options are looked at twice. */
static int parse(struct job *j, int argc, char **argv, struct ikv_err *err)
{
	struct command_line line;
	char text[256];
	for (int pass = 0; pass < 2; pass++) {
		int c;
		command_begin(&line, &command_run, argc, argv);
		while ((c = command_next(&line)) != -1) {
			int rc = 0;
			if (c == COMMAND_WRONG) {
				j->refused = true;
				return -1;
			}
			if (pass == 0 && c == DB)
				j->db_option = optarg;
			else if (pass == 0 && c == 'o')
				j->output = optarg;
			else if (pass == 0 && c == NO_PLOTS)
				j->no_plots = true;
			else if (pass == 0 && c == QUIET)
				j->quiet = true;
			else if (pass == 0 && c == ALLOW_PATH)
				j->allow_path = true;
			else if (pass == 1 && c == 's')
				rc = scenario_override(&j->doc, optarg, err);
			else if (pass == 1 && c == SKIP_BAD)
				rc = scenario_override(&j->doc, "sessions.skip_bad=true", err);
			else if (pass == 1 && c == THREADS) {
				snprintf(text, sizeof text, "attention.threads=%.100s", optarg);
				rc = scenario_override(&j->doc, text, err);
			}
			if (rc)
				return -1;
		}
		if (optind + 1 != argc)
			return ikv_err_set(err, IKV_USAGE, "expected one scenario file");
		if (pass == 0 && scenario_read(argv[optind], &j->doc, err))
			return -1;
	}
	return 0;
}

static int choose_outputs(struct job *j, const char *name, struct ikv_err *err)
{
	if (j->db_option)
		snprintf(j->db, sizeof j->db, "%s", j->db_option);
	else
		snprintf(j->db, sizeof j->db, "results/%s.db", name);
	if (j->output)
		snprintf(j->plots, sizeof j->plots, "%s", j->output);
	else
		snprintf(j->plots, sizeof j->plots, "results/%s", name);
	if (!j->db_option && mkdir("results", 0777) && errno != EEXIST)
		return ikv_err_set(err, IKV_CANT_CREATE, "results: cannot be created: %s", strerror(errno));
	return 0;
}

/* With a core to spare, the database gets a thread of its own; a run works without one too. */
static int open_store(struct job *j, struct store **store, struct ikv_err *err)
{
	struct ikv_err ignored;
	cpu_set_t cores;
	if (*store)
		return 0;
	if (store_open(store, j->db, err))
		return -1;
	if (sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) > 1)
		store_concurrent(store, &ignored);
	return 0;
}

/* Play one point. Sessions are made before the database is touched, so that bad input changes nothing. */
static int play_point(struct job *j, struct store **store, const struct scenario *sc, struct session_list *sessions,
		      struct ikv_err *err)
{
	struct run run;
	struct ikv_err ignored;
	char key[33];
	if (sweep_key(sc, j->sweep.points[j->point].root, key, err) || run_open(&run, sc, sessions, err))
		return -1;
	run.stop = &stopped;
	run.progress = progress;
	int rc = open_store(j, store, err);
	run.store = *store;
	if (!rc)
		rc = run_begin(&run, &j->doc, j->label, key, err);
	if (!rc) {
		rc = run_play(&run, err);
		const char *status = rc ? "failed" : stopped ? "interrupted" : "done";
		if (rc)
			store_run_message(run.store, run.run_id, err->text, &ignored);
		if (store_run_end(run.store, run.run_id, status, run.wall_ns, rc ? &ignored : err))
			rc = -1;
	}
	if (j->tty && !j->quiet)
		fputs("\r\033[K", stderr);
	if (!rc && !j->quiet) {
		fprintf(stderr, "[%u/%u] run %lld: ", j->point + 1, j->sweep.count, (long long)run.run_id);
		command_print(stderr, j->label);
		fprintf(stderr, "%s%llu steps in %.2f s\n", *j->label ? ": " : "", (unsigned long long)run.steps_done,
			(double)run.wall_ns * 1e-9);
	}
	if (!rc && run.outside)
		fprintf(stderr,
			"intentkv: %llu of %llu batch steps read less or more than the machine profile was measured "
			"at, or with other numbers of heads or page sizes: their times are extrapolated\n",
			(unsigned long long)run.outside, (unsigned long long)run.batch_step);
	run_close(&run);
	return rc;
}

static void say_sessions(const struct job *j, const struct session_list *l)
{
	uint64_t appended = 0, decoded = 0, a, d;
	uint32_t longest = 0, n;
	for (uint32_t i = 0; i < l->count; i++) {
		session_totals(&l->items[i], &a, &d, &n);
		appended += a;
		decoded += d;
		longest = n > longest ? n : longest;
	}
	if (!j->quiet) {
		fprintf(stderr, "%u sessions (format ", l->count);
		command_print(stderr, l->facts.format);
		fputs(l->facts.detected ? ", detected; tokens by " : "; tokens by ", stderr);
		command_print(stderr, l->facts.tokens_by);
		fprintf(stderr, "): %llu tokens appended, %llu decoded, contexts up to %u\n",
			(unsigned long long)appended, (unsigned long long)decoded, longest);
		if (l->facts.shortened)
			fprintf(stderr,
				"%llu of %u sessions cut to sessions.max_context_tokens or max_decode_tokens\n",
				(unsigned long long)l->facts.shortened, l->count);
		if (l->facts.requests)
			fprintf(stderr, "the trace: %llu requests, mean input %.0f, output %.0f",
				(unsigned long long)l->facts.requests,
				(double)l->facts.input_tokens / (double)l->facts.requests,
				(double)l->facts.output_tokens / (double)l->facts.requests);
		if (l->facts.block_refs)
			fprintf(stderr, "; %llu block references, %llu unique, prefix hit %.2f %% of blocks",
				(unsigned long long)l->facts.block_refs, (unsigned long long)l->facts.unique_blocks,
				100.0 * (double)l->facts.prefix_hits / (double)l->facts.block_refs);
		if (l->facts.requests)
			fputc('\n', stderr);
	}
	if (l->facts.skipped) /* even when quiet: results that leave data out must not look complete */
		fprintf(stderr, "%llu broken records skipped\n", (unsigned long long)l->facts.skipped);
	if (l->facts.warnings && !j->quiet)
		fprintf(stderr, "%llu suspicious places in the trace; `intentkv lint` shows them\n",
			(unsigned long long)l->facts.warnings);
}

static int resolve(struct job *j, uint32_t point, struct scenario *out, struct ikv_err *err)
{
	const struct yaml_node *root = j->sweep.points[point].root;
	if (scenario_resolve(&j->doc, root, out, err))
		return -1;
	if (!scenario_paths(&j->doc, root, out, err))
		return 0;
	scenario_free(out);
	return -1;
}

/* Every point is resolved before the first one runs: an error in the last must not cost the others. */
static int resolve_all(struct job *j, struct ikv_err *err)
{
	struct scenario sc;
	char name[sizeof sc.name] = "";
	j->doc.allow_path = j->allow_path;
	if (scenario_sweep(&j->doc, &j->sweep, err))
		return -1;
	for (uint32_t i = 0; i < j->sweep.count; i++) {
		if (resolve(j, i, &sc, err))
			return -1;
		if (i == 0)
			memcpy(name, sc.name, sizeof name);
		scenario_free(&sc);
	}
	return choose_outputs(j, name, err);
}

/* Sessions are made anew only where a point changes what they come from: `made_for` is the last that did. */
static int play_all(struct job *j, struct store **store, struct ikv_err *err)
{
	struct session_list sessions = {.count = 0};
	struct scenario made_for = {.file = NULL}, sc;
	int rc = 0;
	for (j->point = 0; !rc && !stopped && j->point < j->sweep.count; j->point++) {
		rc = resolve(j, j->point, &sc, err);
		if (rc)
			break;
		j->label = j->sweep.points[j->point].label;
		bool fresh = !made_for.file || !run_sessions_same(&made_for, &sc);
		if (fresh) {
			session_list_free(&sessions);
			rc = run_sessions(&sc, &sessions, err);
			if (!rc)
				say_sessions(j, &sessions);
		}
		if (!rc)
			rc = play_point(j, store, &sc, &sessions, err);
		if (fresh) {
			scenario_free(&made_for);
			made_for = sc;
		} else {
			scenario_free(&sc);
		}
	}
	scenario_free(&made_for);
	session_list_free(&sessions);
	return rc;
}

static int report(struct job *j)
{
	char *query[] = {"query", j->db, "summary", NULL};
	char *plot[] = {"plot", j->db, "-o", j->plots, NULL};
	if (j->quiet)
		return 0;
	int rc = cmd_query(3, query);
	if (!rc && !j->no_plots) {
		fflush(stdout);
		rc = cmd_plot(4, plot);
	}
	if (rc == IKV_UNAVAILABLE) /* no gnuplot: the runs are recorded all the same */
		rc = 0;
	if (!rc)
		printf("\nrecorded in %s%s%s\n", j->db, j->no_plots ? "" : "; plots in ",
		       j->no_plots ? "" : j->plots);
	return rc;
}

int cmd_run(int argc, char **argv)
{
	struct ikv_err err = {IKV_OK, ""};
	struct store *store = NULL;
	memset(&job, 0, sizeof job);
	job.tty = isatty(2);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	int rc = parse(&job, argc, argv, &err) || resolve_all(&job, &err) || play_all(&job, &store, &err);
	if (store) {
		struct ikv_err close_err;
		if (store_close(store, rc ? &close_err : &err))
			rc = -1;
	}
	if (job.refused)
		rc = IKV_USAGE;
	else if (rc)
		rc = err.status == IKV_USAGE ? command_usage("run", "%s", err.text) : command_fail(&err);
	else if (stopped)
		rc = 128 + stopped;
	else
		rc = report(&job);
	scenario_sweep_free(&job.sweep);
	scenario_doc_free(&job.doc);
	return rc;
}
