#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "sim/output.h"

static int fail(struct output *o, enum ikv_status status, struct ikv_err *err)
{
	return ikv_err_set(err, status, "%s: %s", o->path, strerror(errno));
}

/* A file beside the one that is to be, with its mode if it is there. */
static int open_beside(struct output *o, const struct stat *there, struct ikv_err *err)
{
	const char *slash = strrchr(o->path, '/'), *name = slash ? slash + 1 : o->path;
	/* Hidden, so that nobody who reads the folder takes it for a file of it. */
	if (asprintf(&o->part, "%.*s.%s.%ld.part", (int)(name - o->path), o->path, name, (long)getpid()) < 0) {
		o->part = NULL;
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	}
	int fd = open(o->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return fail(o, IKV_CANT_CREATE, err);
	if (there)
		fchmod(fd, there->st_mode & 07777);
	o->f = fdopen(fd, "w");
	if (o->f)
		return 0;
	close(fd);
	return fail(o, IKV_CANT_CREATE, err);
}

static void drop(struct output *o)
{
	if (o->f)
		fclose(o->f);
	if (o->part)
		unlink(o->part);
	free(o->part);
	free(o->path);
	*o = (struct output){0};
}

int output_open(struct output *o, const char *path, struct ikv_err *err)
{
	struct stat st;
	bool there = stat(path, &st) == 0;
	bool regular = there && S_ISREG(st.st_mode) && strncmp(path, "/dev/", 5) != 0; /* /dev/stdout may lead to one */
	char *real = regular ? realpath(path, NULL) : NULL;
	*o = (struct output){.path = real ? real : strdup(path)};
	if (!o->path)
		return ikv_err_set(err, IKV_FAILED, "out of memory");
	int rc = 0;
	if (there && S_ISDIR(st.st_mode)) {
		errno = EISDIR;
		rc = fail(o, IKV_CANT_CREATE, err);
	} else if (there && !regular) {
		o->f = tmpfile();
		rc = o->f ? 0 : fail(o, IKV_CANT_CREATE, err);
	} else {
		rc = open_beside(o, there ? &st : NULL, err);
	}
	if (rc)
		drop(o);
	return rc;
}

int output_apart(const char *path, const char *input, struct ikv_err *err)
{
	struct stat a, b;
	if (stat(path, &a) || stat(input, &b) || !S_ISREG(a.st_mode) || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return 0;
	return ikv_err_set(err, IKV_USAGE, "%s: is the file that is read; choose another name for what is written", path);
}

static int copy(struct output *o, struct ikv_err *err)
{
	char buffer[65536];
	size_t n;
	rewind(o->f);
	FILE *to = fopen(o->path, "we");
	if (!to)
		return fail(o, IKV_CANT_CREATE, err);
	bool bad = false;
	while (!bad && (n = fread(buffer, 1, sizeof buffer, o->f)) > 0)
		bad = fwrite(buffer, 1, n, to) != n;
	bad |= ferror(o->f) != 0;
	bad |= fclose(to) != 0;
	return bad ? fail(o, IKV_IO, err) : 0;
}

int output_close(struct output *o, bool keep, struct ikv_err *err)
{
	int rc = 0;
	if (keep && (fflush(o->f) || ferror(o->f)))
		rc = fail(o, IKV_IO, err);
	else if (keep && !o->part)
		rc = copy(o, err);
	else if (keep && rename(o->part, o->path))
		rc = fail(o, IKV_CANT_CREATE, err);
	if (keep && !rc) { /* it is no longer there */
		free(o->part);
		o->part = NULL;
	}
	drop(o);
	return rc;
}
