/* intentkv sweep: many points of a scenario, on all cores or many machines, resumable. */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config.h"
#include "sim/command.h"
#include "sim/figure.h"
#include "sim/sweep_job.h"

enum { DB = 256, KNOWN, TIMEOUT, MAX_ERROR, PART, SHARDS, SKIP_BAD, ALLOW_PATH, QUIET, PLOT };
static const struct command_option options[] = {
    {"jobs", 'j', "N", NULL, NULL, "worker processes, of each rank (default: the cores; 1 under MPI)"},
    {"set", 's', "KEY=VALUE", "<settings>", NULL, "override one key of the scenario; may be repeated"},
    {"axis", 'x', "KEY=LIST", "<settings>", NULL,
     "one more axis: values between commas, or FROM..TO:COUNT, with :log evenly in the logarithm"},
    {"where", 'w', "EXPR", NULL, NULL, "one more condition that points must meet"},
    {"db", DB, "FILE", "*.db", "results/NAME.db", "database to record in; points in it are not run again"},
    {"known", KNOWN, "FILE", "*.db", NULL, "nor are the points of this one"},
    {"dry-run", 'n', NULL, NULL, NULL, "list the points and stop"},
    {"timeout", TIMEOUT, "S", NULL, "none", "a point that takes longer fails"},
    {"max-error", MAX_ERROR, "E", NULL, "0.1", "the best point reads fewest bytes with at most this rel_l2"},
    {"part", PART, "I/N", NULL, NULL, "only every N-th point, from the I-th"},
    {"shards", SHARDS, "FOLDER", "/", NULL, "where ranks keep their files (default: beside the database)"},
    {"plot", PLOT, "FOLDER", "/", NULL, "draw the figures that suit a sweep there when it has ended"},
    {"skip-bad", SKIP_BAD, NULL, NULL, NULL, "count broken records of a trace and go on"},
    {"allow-path", ALLOW_PATH, NULL, NULL, NULL, "the scenario may name files outside its own folder"},
    {"quiet", QUIET, NULL, NULL, NULL, "no progress and no summary; failures are told all the same"},
    {.name = NULL},
};
static const struct command *const parts[] = {&command_emit_slurm, NULL};

const struct command command_sweep = {
    .name = "sweep",
    .summary = "play many points of a scenario, on all cores or many machines",
    .arguments = "SCENARIO.yaml",
    .words = {"*.yaml"},
    .examples = "intentkv sweep scenarios/quickstart.yaml -j 2\tevery point of its sweep section; try -n first\n"
		"intentkv sweep my.yaml -j 4\tagain after any interruption: it goes on\n"
		"intentkv sweep my.yaml --dry-run\twhich points there are, and which are new\n"
		"intentkv sweep my.yaml -x router.policy=quest,semantic -x router.budget=1%..50%:6:log\n"
		"intentkv sweep my.yaml -w 'router.policy != dense or router.budget == 5%'\n"
		"intentkv sweep my.yaml -s sweep.repeat=5\tfive seeds each\n"
		"mpirun -n 8 intentkv sweep my.yaml --db s.db\tin a build with MPI; srun does it as well\n"
		"intentkv sweep emit-slurm my.yaml --db s.db --tasks 50 >array.sh && sh array.sh\n",
    .about = "Each point runs in a process of its own and is recorded once: points that the database has are not run "
	     "again, so the same command goes on after any interruption. docs/sweeps.md has the form of the sweep "
	     "section.\n",
    .options = options,
    .exits = "2 some points failed; 69 started by mpirun or srun, but built without MPI",
    .parts = parts,
    .run = cmd_sweep,
};

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	stopped = sig;
}

struct options {
	const char *db, *known, *shards, *plots;
	bool dry_run, jobs_given;
	int refused; /* an exit code; what was wrong is told */
};

static struct yaml_node *option_node(int type, const char *option)
{
	struct yaml_node *n = calloc(1, sizeof *n);
	if (!n)
		return NULL;
	n->type = type;
	n->origin = YAML_SWEEP;
	n->option = option;
	return n;
}

static struct yaml_node *option_text(const char *text, const char *option)
{
	struct yaml_node *at = option_node(YAML_SCALAR, option), *n = at ? sweep_scalar(text, at) : NULL;
	yaml_release(at);
	return n;
}

static int no_memory(struct ikv_err *err)
{
	return ikv_err_set(err, IKV_FAILED, "out of memory");
}

static int sweep_section(struct scenario_doc *doc, struct yaml_node **section, const char *option,
			 struct ikv_err *err)
{
	*section = yaml_get(doc->root, "sweep");
	if (*section)
		return yaml_expect(*section, YAML_MAP, doc->path, "sweep", err);
	*section = option_node(YAML_MAP, option);
	return *section ? yaml_set(doc->root, "sweep", *section, err) : no_memory(err);
}

/* FROM..TO:COUNT[:log] */
static int range_node(const char *text, const char *dots, struct yaml_node **out, struct ikv_err *err)
{
	char copy[200], *to, *count, *scale;
	snprintf(copy, sizeof copy, "%s", text);
	to = copy + (dots - text);
	*to = 0;
	to += 2;
	count = strchr(to, ':');
	if (!count)
		return ikv_err_set(err, IKV_USAGE, "-x: got \"%.80s\", expected FROM..TO:COUNT or FROM..TO:COUNT:log",
				   text);
	*count++ = 0;
	scale = strchr(count, ':');
	if (scale)
		*scale++ = 0;
	*out = option_node(YAML_MAP, "-x");
	if (!*out || yaml_set(*out, "from", option_text(copy, "-x"), err) ||
	    yaml_set(*out, "to", option_text(to, "-x"), err) ||
	    yaml_set(*out, "count", option_text(count, "-x"), err) ||
	    (scale && yaml_set(*out, "scale", option_text(scale, "-x"), err))) {
		yaml_release(*out);
		return no_memory(err);
	}
	return 0;
}

/* The dots of a range, which follow a number: "../a.json" is a value. NULL: this is none. */
static const char *range_dots(const char *values)
{
	const char *dots = strstr(values, "..");
	char from[64], unit[8];
	double value, plain;
	if (!dots || strchr(values, ',') || strlen(values) >= 200)
		return NULL;
	snprintf(from, sizeof from, "%.*s", (int)(dots - values), values);
	return sweep_number(from, &value, &plain, unit) ? NULL : dots;
}

static int add_axis(struct scenario_doc *doc, const char *text, struct ikv_err *err)
{
	const char *eq = strchr(text, '='), *dots = eq ? range_dots(eq + 1) : NULL;
	char key[160], item[IKV_OPT_STRING_BYTES];
	struct yaml_node *section, *values = NULL;
	if (!eq || eq == text || (size_t)(eq - text) >= sizeof key || !eq[1])
		return ikv_err_set(err, IKV_USAGE,
				   "-x %.100s: expected section.key=VALUE,VALUE or key=FROM..TO:COUNT", text);
	snprintf(key, sizeof key, "%.*s", (int)(eq - text), text);
	if (sweep_section(doc, &section, "-x", err))
		return -1;
	if (dots) {
		if (range_node(eq + 1, dots, &values, err))
			return -1;
		return yaml_set(section, key, values, err);
	}
	values = option_node(YAML_SEQ, "-x");
	if (!values)
		return no_memory(err);
	for (const char *p = eq + 1;;) {
		size_t n = strcspn(p, ",");
		snprintf(item, sizeof item, "%.*s", (int)n, p);
		if (sweep_push(values, option_text(item, "-x"), err)) {
			yaml_release(values);
			return -1;
		}
		if (!p[n])
			return yaml_set(section, key, values, err);
		p += n + 1;
	}
}

static int add_condition(struct scenario_doc *doc, const char *text, struct ikv_err *err)
{
	struct yaml_node *section, *where, *list;
	if (sweep_section(doc, &section, "-w", err))
		return -1;
	where = yaml_get(section, "where");
	if (where && where->type == YAML_SEQ)
		return sweep_push(where, option_text(text, "-w"), err);
	list = option_node(YAML_SEQ, "-w");
	if (!list)
		return no_memory(err);
	if ((where && sweep_push(list, yaml_copy(where, YAML_FILE), err)) ||
	    sweep_push(list, option_text(text, "-w"), err)) {
		yaml_release(list);
		return -1;
	}
	return yaml_set(section, "where", list, err);
}

static int seconds(const char *option, const char *text, double *out, struct ikv_err *err)
{
	char *end;
	*out = strtod(text, &end);
	if (*end || end == text || !(*out >= 0 && *out < 1e9))
		return ikv_err_set(err, IKV_USAGE, "%s: got \"%.40s\", expected a number from 0", option, text);
	return 0;
}

static int read_part(struct sweep_job *j, const char *text, struct ikv_err *err)
{
	unsigned i, n;
	char more;
	if (sscanf(text, "%u/%u%c", &i, &n, &more) != 2 || i < 1 || i > n)
		return ikv_err_set(err, IKV_USAGE, "--part: got \"%.40s\", expected I/N, I from 1 to N", text);
	j->part = i - 1;
	j->parts = n;
	return 0;
}

static int plain_option(struct sweep_job *j, struct options *o, int c, const char *value, struct ikv_err *err)
{
	switch (c) {
	case 'j':
		o->jobs_given = true;
		if (command_count("sweep", "-j", value, 1, 512, &j->jobs) == 0)
			return 0;
		o->refused = IKV_USAGE;
		return -1;
	case 'n':
		o->dry_run = true;
		return 0;
	case DB:
		o->db = value;
		return 0;
	case KNOWN:
		o->known = value;
		return 0;
	case SHARDS:
		o->shards = value;
		return 0;
	case PLOT:
		o->plots = value;
		return 0;
	case TIMEOUT:
		return seconds("--timeout", value, &j->timeout_s, err);
	case MAX_ERROR:
		return seconds("--max-error", value, &j->error_limit, err);
	case PART:
		return read_part(j, value, err);
	case ALLOW_PATH:
		j->doc.allow_path = true;
		return 0;
	case QUIET:
		j->quiet = true;
		return 0;
	}
	return 0;
}

int sweep_change(struct sweep_job *j, int option, const char *value, struct ikv_err *err)
{
	return option == 's'   ? scenario_override(&j->doc, value, err)
	       : option == 'x' ? add_axis(&j->doc, value, err)
			       : add_condition(&j->doc, value, err);
}

int sweep_points(struct sweep_job *j, struct ikv_err *err)
{
	if (j->parts > 1 && yaml_get(yaml_get(j->doc.root, "sweep"), "refine"))
		return ikv_err_set(err, IKV_USAGE, "refinement needs all results, so a sweep with it has no parts");
	return scenario_sweep(&j->doc, &j->sweep, err) || sweep_loop_prepare(j, 0, err) ? -1 : 0;
}

/* The scenario must be read before what changes it, so options are looked at twice. */
static int parse(struct sweep_job *j, struct options *o, int argc, char **argv, struct ikv_err *err)
{
	struct command_line line;
	for (int pass = 0; pass < 2; pass++) {
		int c;
		command_begin(&line, &command_sweep, argc, argv);
		while ((c = command_next(&line)) != -1) {
			int rc = 0;
			if (c == COMMAND_WRONG) {
				o->refused = IKV_USAGE;
				return -1;
			}
			if (pass == 1 && c == SKIP_BAD)
				rc = scenario_override(&j->doc, "sessions.skip_bad=true", err);
			else if (pass == 1)
				rc = c == 's' || c == 'x' || c == 'w' ? sweep_change(j, c, optarg, err)
								      : plain_option(j, o, c, optarg, err);
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

static int choose_files(struct sweep_job *j, const struct options *o, struct ikv_err *err)
{
	struct scenario sc;
	if (scenario_resolve(&j->doc, j->sweep.points[0].root, &sc, err))
		return -1;
	if (o->db)
		snprintf(j->db, sizeof j->db, "%s", o->db);
	else
		snprintf(j->db, sizeof j->db, "results/%s.db", sc.name);
	scenario_free(&sc);
	if (!o->db && !o->dry_run && mkdir("results", 0777) && errno != EEXIST)
		return ikv_err_set(err, IKV_CANT_CREATE, "results: cannot be created: %s", strerror(errno));
	const char *slash = strrchr(j->db, '/');
	int rank = peers_rank(j->peers), n;
	if (!rank)
		n = snprintf(j->file, sizeof j->file, "%s", j->db);
	else if (o->shards)
		n = snprintf(j->file, sizeof j->file, "%s/%s.shard-%d", o->shards, slash ? slash + 1 : j->db, rank);
	else
		n = snprintf(j->file, sizeof j->file, "%s.shard-%d", j->db, rank);
	return n > 0 && (size_t)n < sizeof j->file ? 0 : ikv_err_set(err, IKV_USAGE, "--db: the path is too long");
}

/* `path` for glob(3), which is to find it as it is; returns its end. */
static char *literally(char *to, const char *path)
{
	for (; *path; *to++ = *path++)
		if (strchr("*?[\\", *path))
			*to++ = '\\';
	return to;
}

/* Take in what ranks have left, now or in an earlier life, as far as it can be seen from here. */
static int take_shards(struct sweep_job *j, const struct options *o, struct ikv_err *err)
{
	char pattern[2 * sizeof j->db + 32], path[sizeof j->db];
	const char *slash = strrchr(j->db, '/');
	glob_t found;
	int n, rc = 0;
	if (o->shards)
		n = snprintf(path, sizeof path, "%s/%s", o->shards, slash ? slash + 1 : j->db);
	else
		n = snprintf(path, sizeof path, "%s", j->db);
	if (n < 0 || (size_t)n >= sizeof path)
		return ikv_err_set(err, IKV_USAGE, "--shards: the path is too long");
	strcpy(literally(pattern, path), ".shard-*[0-9]");
	if (glob(pattern, 0, NULL, &found))
		return 0;
	for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++) {
		uint32_t taken, left;
		rc = store_merge(j->store, found.gl_pathv[i], false, &taken, &left, err);
		if (rc == 0)
			store_remove(found.gl_pathv[i]);
	}
	globfree(&found);
	return rc;
}

static int open_store(struct sweep_job *j, const struct options *o, struct ikv_err *err)
{
	if (peers_rank(j->peers) == 0) {
		if (store_open(&j->store, j->db, err) || take_shards(j, o, err) ||
		    sweep_loop_look_up(j, 0, j->db, err) || sweep_loop_adopt(j, 0, err) ||
		    (o->known && sweep_loop_look_up(j, 0, o->known, err)))
			return -1;
	}
	peers_agree(j->peers, &j->base);
	return j->store ? 0 : store_open(&j->store, j->file, err);
}

static int play(struct sweep_job *j, const struct options *o, struct ikv_err *err)
{
	if (open_store(j, o, err))
		return -1;
	int rc = sweep_loop_play(j, err);
	struct ikv_err close_err;
	sweep_pool_close(j);
	sweep_progress_clear(j);
	if (peers_rank(j->peers) == 0 && !rc && !stopped) {
		peers_wait(j->peers);
		rc = take_shards(j, o, err);
	}
	if (store_close(j->store, rc ? &close_err : err))
		rc = -1;
	j->store = NULL;
	if (peers_rank(j->peers) && !rc && !stopped)
		peers_wait(j->peers);
	return rc;
}

static int run(struct sweep_job *j, struct options *o, int argc, char **argv, struct ikv_err *err)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	if (parse(j, o, argc, argv, err))
		return -1;
	if (!o->jobs_given)
		j->jobs = peers_size(j->peers) > 1 ? 1 : cores > 0 ? (uint32_t)cores : 1;
	if (sweep_points(j, err) || choose_files(j, o, err))
		return -1;
	if (!o->dry_run && o->plots && peers_rank(j->peers) == 0) { /* before hours are spent */
		int code = plot_folder(o->plots);
		if (code) {
			o->refused = code;
			return -1;
		}
	}
	if (!o->dry_run)
		return play(j, o, err);
	if (peers_rank(j->peers))
		return 0;
	if (sweep_loop_look_up(j, 0, j->db, err) || (o->known && sweep_loop_look_up(j, 0, o->known, err)))
		return -1;
	sweep_list(j);
	return 0;
}

/* What the database now says of these points, as `intentkv plot` draws it. */
static int draw(const struct sweep_job *j, const struct options *o)
{
	static char plot[] = "plot", to[] = "-o";
	char *words[64] = {plot, (char *)j->db, to, (char *)o->plots};
	int n = 4;
	for (const struct figure *f = figures; f->query && n < 63; f++)
		if (f->sweep)
			words[n++] = (char *)f->plot.name;
	fflush(stdout);
	return cmd_plot(n, words);
}

void sweep_free(struct sweep_job *j)
{
	scenario_sweep_free(&j->sweep);
	scenario_doc_free(&j->doc);
	free(j->points);
	free(j);
}

int cmd_sweep(int argc, char **argv)
{
	struct ikv_err err = {IKV_OK, ""};
	struct options o = {.db = NULL};
	struct sweep_job *j = calloc(1, sizeof *j);
	if (!j)
		return command_fail(&(struct ikv_err){IKV_FAILED, "out of memory"});
	j->parts = 1;
	j->error_limit = 0.1;
	j->stop = &stopped;
	int rc = peers_open(&j->peers, &argc, &argv, &err);
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	j->tty = isatty(2);
	if (!rc)
		rc = run(j, &o, argc, argv, &err);
	if (j->store) { /* an error on the way to the end */
		sweep_pool_close(j);
		store_close(j->store, NULL);
		j->store = NULL;
	}
	sweep_pool_close(j);
	int code = o.refused   ? o.refused
		   : rc        ? err.status == IKV_USAGE ? command_usage("sweep", "%s", err.text) : command_fail(&err)
			  : stopped ? 128 + stopped
		   : j->failed ? 2
			       : 0;
	if (!rc && !stopped && !o.dry_run && !j->quiet && peers_rank(j->peers) == 0)
		sweep_summary(j);
	if (!rc && !stopped && !o.dry_run && o.plots && peers_rank(j->peers) == 0) {
		int drawn = draw(j, &o);
		code = code ? code : drawn;
	}
	if (stopped && !rc)
		fprintf(stderr, "intentkv: stopped; the same command goes on from here\n");
	if (rc || stopped)
		peers_abort(j->peers, code);
	peers_close(j->peers);
	sweep_free(j);
	return code;
}
