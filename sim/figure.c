#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <intentkv.h>
#include "sim/datadir.h"
#include "sim/figure.h"

int figure_fail(int status, const char *path, const char *what)
{
	fprintf(stderr, "intentkv: %s: %s\n", path, what);
	return status;
}

int figure_folder(const char *folder)
{
	if (mkdir(folder, 0777) != 0 && errno != EEXIST)
		return figure_fail(IKV_CANT_CREATE, folder, strerror(errno));
	return 0;
}

int figure_path(const char *folder, const char *name, const char *suffix, char path[FIGURE_PATH_BYTES])
{
	if (snprintf(path, FIGURE_PATH_BYTES, "%s/%s.%s", folder, name, suffix) >= FIGURE_PATH_BYTES)
		return figure_fail(IKV_USAGE, folder, "the path is too long");
	return 0;
}

int figure_data_open(const char *folder, const char *name, FILE **f)
{
	char path[FIGURE_PATH_BYTES];
	int rc = figure_path(folder, name, "tsv", path);
	if (rc)
		return rc;
	*f = fopen(path, "we");
	return *f ? 0 : figure_fail(IKV_CANT_CREATE, path, strerror(errno));
}

static int finish(FILE *f, const char *path)
{
	int bad = fflush(f) != 0 || ferror(f);
	bad |= fclose(f) != 0;
	return bad ? figure_fail(IKV_IO, path, "cannot write") : 0;
}

int figure_data_close(const char *folder, const char *name, FILE *f)
{
	char path[FIGURE_PATH_BYTES];
	int rc = figure_path(folder, name, "tsv", path);
	int rc2 = finish(f, path);
	return rc ? rc : rc2;
}

void figure_remove(const char *folder, const char *name, const char *type)
{
	const char *suffixes[] = {"tsv", "gp", type};
	char path[FIGURE_PATH_BYTES];
	for (size_t i = 0; i < 3; i++)
		if (!figure_path(folder, name, suffixes[i], path))
			unlink(path);
}

static int append(FILE *out, const char *relative)
{
	char path[4096], buf[4096];
	size_t n;
	if (!datadir_find(relative, path, sizeof path))
		return figure_fail(IKV_UNAVAILABLE, relative, "not found; set INTENTKV_DATADIR to the data folder");
	FILE *in = fopen(path, "re");
	if (!in)
		return figure_fail(IKV_IO, path, strerror(errno));
	while ((n = fread(buf, 1, sizeof buf, in)) > 0)
		fwrite(buf, 1, n, out);
	fclose(in);
	return 0;
}

/* Only constants of the program enter the script; everything measured is in the data file. */
static int write_script(const char *path, const char *name, const char *title, const char *script, const char *type)
{
	FILE *f = fopen(path, "we");
	if (!f)
		return figure_fail(IKV_CANT_CREATE, path, strerror(errno));
	fprintf(f, "# %s. Run as it is: gnuplot %s.gp\n", title, name);
	fprintf(f, "data = '%s.tsv'\n", name);
	if (strcmp(type, "png") == 0)
		fprintf(f, "set terminal pngcairo noenhanced size 1000,600 font 'sans,11' background '#ffffff'\n");
	else
		fprintf(f, "set terminal svg noenhanced size 1000,600 font 'sans,12' background '#ffffff'\n");
	fprintf(f, "set output '%s.%s'\nplot_title = '%s'\nset title plot_title noenhanced\n", name, type, title);
	int rc = append(f, "plots/style.gp");
	if (rc == 0)
		rc = append(f, script);
	int rc2 = finish(f, path);
	return rc ? rc : rc2;
}

/* No shell: the program and its one argument. The pipe tells a failed exec from a failed gnuplot. */
static int run_gnuplot(const char *folder, const char *name)
{
	char script[100];
	int fds[2], status, problem = 0;
	snprintf(script, sizeof script, "%s.gp", name);
	if (pipe2(fds, O_CLOEXEC) != 0)
		return figure_fail(IKV_FAILED, "pipe", strerror(errno));
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		if (chdir(folder) == 0)
			execlp("gnuplot", "gnuplot", script, (char *)NULL);
		problem = errno;
		_exit(write(fds[1], &problem, sizeof problem) > 0 ? 127 : 126);
	}
	close(fds[1]);
	bool ran = pid > 0 && read(fds[0], &problem, sizeof problem) == 0;
	close(fds[0]);
	if (pid < 0)
		return figure_fail(IKV_FAILED, "fork", strerror(errno));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!ran) {
		fprintf(stderr, "intentkv: gnuplot: %s; %s/%s.gp and .tsv are there to be drawn elsewhere\n",
			strerror(problem), folder, name);
		return IKV_UNAVAILABLE;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return figure_fail(IKV_FAILED, script, "gnuplot failed");
	return 0;
}

int figure_draw(const char *folder, const char *name, const char *title, const char *script, const char *type)
{
	char path[FIGURE_PATH_BYTES], picture[FIGURE_PATH_BYTES];
	int rc = figure_path(folder, name, "gp", path);
	if (rc == 0)
		rc = figure_path(folder, name, type, picture);
	if (rc == 0)
		rc = write_script(path, name, title, script, type);
	if (rc == 0)
		rc = run_gnuplot(folder, name);
	if (rc == 0)
		printf("%s\n", picture);
	return rc;
}
