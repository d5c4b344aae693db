/* Figures by gnuplot. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
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
	errno = 0;
	int bad = fflush(f) != 0 || ferror(f);
	bad |= fclose(f) != 0;
	return bad ? plot_fail(IKV_IO, path, errno ? strerror(errno) : "cannot write") : 0;
}

int plot_folder(const char *folder)
{
	char own[4096], part[4096];
	struct stat a, b;
	if (snprintf(part, sizeof part, "%s", folder) >= (int)sizeof part)
		return plot_fail(IKV_USAGE, folder, "the path is too long");
	for (char *p = part + (*part == '/'); (p = strchr(p, '/')); *p++ = '/') {
		*p = 0;
		if (mkdir(part, 0777) != 0 && errno != EEXIST)
			return plot_fail(IKV_CANT_CREATE, part, strerror(errno));
	}
	if (mkdir(folder, 0777) != 0 && errno != EEXIST)
		return plot_fail(IKV_CANT_CREATE, folder, strerror(errno));
	if (datadir_find("plots", own, sizeof own) && stat(own, &a) == 0 && stat(folder, &b) == 0 &&
	    a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return plot_fail(IKV_CANT_CREATE, folder, "holds the program's own scripts; choose another folder");
	return 0;
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

const char *const plot_terminals[] = {"svg", "png", "pdf", "dumb", NULL};

const char *plot_ending(const char *terminal)
{
	return strcmp(terminal, "dumb") == 0 ? "txt" : terminal;
}

/* Characters of the terminal that will show the picture; 100 by 30 where there is none. */
static void terminal_size(unsigned *columns, unsigned *lines)
{
	struct winsize w;
	*columns = 100;
	*lines = 30;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col >= 40 && w.ws_row >= 12) {
		*columns = w.ws_col - 1u;
		*lines = w.ws_row - 2u;
	}
}

static void write_terminal(FILE *f, const struct plot *p, const char *terminal)
{
	unsigned columns, lines, height = 600;
	double tall;
	if (p->rows > 20)
		height = 180 + 21 * (unsigned)(p->rows < 400 ? p->rows : 400);
	tall = height / 600.0;
	if (strcmp(terminal, "dumb") == 0) {
		terminal_size(&columns, &lines);
		lines = p->rows + 14 > (int)lines ? (unsigned)p->rows + 14 : lines;
		tall = lines > 40 ? lines / 40.0 : 1;
		fprintf(f, "set terminal dumb noenhanced size %u,%u\n", columns, lines);
	} else if (strcmp(terminal, "png") == 0) {
		fprintf(f, "set terminal pngcairo noenhanced size 1000,%u font 'sans,11' background '#ffffff'\n",
			height);
	} else if (strcmp(terminal, "pdf") == 0) {
		fprintf(f, "set terminal pdfcairo noenhanced size 10in,%.2fin font 'sans,11' background '#ffffff'\n",
			height / 100.0);
	} else {
		fprintf(f, "set terminal svg noenhanced size 1000,%u font 'sans,12' background '#ffffff'\n", height);
	}
	/* Scripts keep what stands above and below the bars as high as it is where there are few. */
	fprintf(f, "tall = %.4g\n", tall);
}

int plot_script(const struct plot *p, const char *path, const char *terminal)
{
	FILE *f = fopen(path, "we");
	if (!f)
		return plot_fail(IKV_CANT_CREATE, path, strerror(errno));
	fprintf(f, "# %s. Run as it is: gnuplot %s.gp\n", p->title, p->name);
	fprintf(f, "data = '%s.tsv'\n", p->name);
	write_terminal(f, p, terminal);
	fprintf(f, "dumb = %d\nset output '%s.%s'\nplot_title = '%s'\nplot_caption = '%s'\n",
		strcmp(terminal, "dumb") == 0, p->name, plot_ending(terminal), p->title,
		p->caption ? p->caption : "");
	int rc = append(f, "plots/style.gp");
	if (rc == 0)
		rc = append(f, p->script);
	if (rc == 0 && p->shared && p->rows)
		rc = append(f, "plots/rows.gp");
	if (rc == 0 && p->shared)
		rc = append(f, p->shared);
	int rc2 = plot_finish(f, path);
	return rc ? rc : rc2;
}

bool plot_program(void)
{
	const char *path = getenv("PATH");
	char full[4096];
	while (path && *path) {
		size_t n = strcspn(path, ":");
		snprintf(full, sizeof full, "%.*s/gnuplot", (int)n, path);
		if (access(full, X_OK) == 0)
			return true;
		path += n + (path[n] == ':');
	}
	return false;
}

int plot_missing(const char *folder)
{
	fprintf(stderr,
		"intentkv: no pictures: gnuplot is not there (Debian, Ubuntu: gnuplot-nox); their scripts and data "
		"are in "
		"%s, `gnuplot FIGURE.gp` there draws one\n",
		folder);
	return IKV_UNAVAILABLE;
}

/* No shell: the program and its one argument. The pipe tells a failed exec from a failed gnuplot. */
/* What gnuplot said, now that it failed. */
static void repeat(FILE *said)
{
	char buffer[4096];
	size_t n;
	rewind(said);
	while ((n = fread(buffer, 1, sizeof buffer, said)) > 0)
		fwrite(buffer, 1, n, stderr);
}

/* Start it in the folder with its stderr in `said`. 0 or errno. */
static int start(const char *script, const char *folder, FILE *said, pid_t *pid)
{
	int fds[2], problem = 0;
	if (pipe2(fds, O_CLOEXEC) != 0)
		return errno;
	fflush(NULL);
	*pid = fork();
	if (*pid == 0) {
		if (chdir(folder) == 0 && dup2(fileno(said), STDERR_FILENO) >= 0)
			execlp("gnuplot", "gnuplot", script, (char *)NULL);
		problem = errno;
		_exit(write(fds[1], &problem, sizeof problem) > 0 ? 127 : 126);
	}
	if (*pid < 0)
		problem = errno;
	close(fds[1]);
	if (*pid > 0 && read(fds[0], &problem, sizeof problem) != 0)
		waitpid(*pid, NULL, 0);
	close(fds[0]);
	return problem;
}

int plot_draw(const struct plot *p, const char *folder)
{
	char script[100];
	int status;
	pid_t pid = -1;
	if (!plot_program())
		return IKV_UNAVAILABLE;
	snprintf(script, sizeof script, "%s.gp", p->name);
	/* It warns of a range of one value, say; that is of use only where there is no picture. */
	FILE *said = tmpfile();
	if (!said)
		return plot_fail(IKV_FAILED, "a temporary file", strerror(errno));
	int problem = start(script, folder, said, &pid), rc = 0;
	if (problem)
		rc = plot_fail(IKV_FAILED, "gnuplot", strerror(problem));
	while (!problem && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!problem && (!WIFEXITED(status) || WEXITSTATUS(status) != 0)) {
		repeat(said);
		rc = plot_fail(IKV_FAILED, script, "gnuplot failed");
	}
	fclose(said);
	return rc;
}

int plot_make(const struct plot *p, const char *folder, const char *terminal)
{
	char path[4096];
	if (snprintf(path, sizeof path, "%s/%s.gp", folder, p->name) >= (int)sizeof path)
		return plot_fail(IKV_USAGE, folder, "the path is too long");
	int rc = plot_script(p, path, terminal);
	if (rc)
		return rc;
	rc = plot_draw(p, folder);
	return rc == IKV_UNAVAILABLE ? plot_missing(folder) : rc;
}
