/* Figures by gnuplot. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "sim/datadir.h"
#include "sim/plot.h"

int plot_fail(int status, const char *path, const char *what)
{
	fprintf(stderr, "intentkv: %s: %s\n", path, what);
	return status;
}

int plot_finish(FILE *f, const char *path)
{
	int bad = fflush(f) != 0 || ferror(f);
	bad |= fclose(f) != 0;
	return bad ? plot_fail(IKV_IO, path, "cannot write") : 0;
}

static int append(FILE *out, const char *relative)
{
	char path[4096], buf[4096];
	size_t n;
	if (!datadir_find(relative, path, sizeof path))
		return plot_fail(IKV_UNAVAILABLE, relative, "not found; set INTENTKV_DATADIR to the data folder");
	FILE *in = fopen(path, "re");
	if (!in)
		return plot_fail(IKV_IO, path, strerror(errno));
	while ((n = fread(buf, 1, sizeof buf, in)) > 0)
		fwrite(buf, 1, n, out);
	fclose(in);
	return 0;
}

int plot_script(const struct plot *p, const char *path, const char *type)
{
	FILE *f = fopen(path, "we");
	if (!f)
		return plot_fail(IKV_CANT_CREATE, path, strerror(errno));
	fprintf(f, "# %s. Run as it is: gnuplot %s.gp\n", p->title, p->name);
	fprintf(f, "data = '%s.tsv'\n", p->name);
	if (strcmp(type, "png") == 0)
		fprintf(f, "set terminal pngcairo noenhanced size 1000,600 font 'sans,11' background '#ffffff'\n");
	else
		fprintf(f, "set terminal svg noenhanced size 1000,600 font 'sans,12' background '#ffffff'\n");
	fprintf(f, "set output '%s.%s'\nplot_title = '%s'\nset title plot_title noenhanced\n", p->name, type,
		p->title);
	int rc = append(f, "plots/style.gp");
	if (rc == 0)
		rc = append(f, p->script);
	int rc2 = plot_finish(f, path);
	return rc ? rc : rc2;
}

/* No shell: the program and its one argument. The pipe tells a failed exec from a failed gnuplot. */
int plot_draw(const struct plot *p, const char *folder)
{
	char script[100];
	int fds[2], status, problem = 0;
	snprintf(script, sizeof script, "%s.gp", p->name);
	if (pipe2(fds, O_CLOEXEC) != 0)
		return plot_fail(IKV_FAILED, "pipe", strerror(errno));
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
		return plot_fail(IKV_FAILED, "fork", strerror(errno));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!ran) {
		fprintf(stderr, "intentkv: gnuplot: %s; %s/%s.gp and .tsv are there to be drawn elsewhere\n",
			strerror(problem), folder, p->name);
		return IKV_UNAVAILABLE;
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return plot_fail(IKV_FAILED, script, "gnuplot failed");
	return 0;
}

int plot_make(const struct plot *p, const char *folder, const char *type)
{
	char path[4096];
	if (snprintf(path, sizeof path, "%s/%s.gp", folder, p->name) >= (int)sizeof path)
		return plot_fail(IKV_USAGE, folder, "the path is too long");
	int rc = plot_script(p, path, type);
	return rc ? rc : plot_draw(p, folder);
}
