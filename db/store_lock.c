/* Who may write: the lock on the side file, and the first look at a database's header. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "store_internal.h"

static int busy(struct store *s, int fd, struct ikv_err *err)
{
	char pid[32] = "";
	ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
	pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
	return ikv_err_set(err, IKV_BUSY,
			   "%s: another process%s%s is writing to it (lock %s); wait for it or use another file",
			   s->path, *pid ? ", " : "", pid, s->lock_path);
}

/* The file is removed when its holder is done, so a lock counts only on the file that the name still means. */
int store_lock(struct store *s, struct ikv_err *err)
{
	for (int attempt = 0; attempt < 100; attempt++) {
		int fd = open(s->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
		if (fd < 0)
			return ikv_err_set(err, IKV_CANT_CREATE, "%s: cannot create its lock %s: %s", s->path,
					   s->lock_path, strerror(errno));
		int locked;
		while ((locked = flock(fd, LOCK_EX | LOCK_NB)) != 0 && errno == EINTR)
			;
		if (locked) {
			int rc = errno == EWOULDBLOCK
				     ? busy(s, fd, err)
				     : ikv_err_set(err, IKV_IO, "%s: flock: %s", s->lock_path, strerror(errno));
			close(fd);
			return rc;
		}
		struct stat held, named;
		if (fstat(fd, &held) == 0 && stat(s->lock_path, &named) == 0 && held.st_ino == named.st_ino &&
		    held.st_dev == named.st_dev) {
			char pid[32];
			int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
			/* The number only serves the message of a second writer. */
			if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)n, 0) != n) {
				close(fd);
				return ikv_err_set(err, IKV_CANT_CREATE, "%s: cannot write: %s", s->lock_path,
						   strerror(errno));
			}
			s->lock_fd = fd;
			return 0;
		}
		close(fd);
	}
	return ikv_err_set(err, IKV_BUSY, "%s: its lock changes hands too often", s->path);
}

void store_unlock(struct store *s)
{
	if (s->lock_fd < 0)
		return;
	unlink(s->lock_path);
	close(s->lock_fd);
	s->lock_fd = -1;
}

/* Does a living process hold the lock? By the number in it, since to try the lock could turn a writer away. */
bool store_is_written(const char *path)
{
	char pid[32] = "", *lock = sqlite3_mprintf("%s.lock", path);
	int fd = lock ? open(lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK) : -1;
	sqlite3_free(lock);
	if (fd < 0)
		return false;
	ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
	close(fd);
	long holder = n > 0 ? strtol(pid, NULL, 10) : 0;
	return holder <= 0 || kill((pid_t)holder, 0) == 0 || errno != ESRCH;
}

static uint32_t big_endian(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Offsets of https://www.sqlite.org/fileformat.html section 1.3. The store writes its identity before it
 * turns to WAL, so that the main file's header always has it. */
/* A folder of figures has the name of its database without the ending. */
static int not_a_file(const char *path, struct ikv_err *err)
{
	char database[4096];
	struct stat st;
	bool there = snprintf(database, sizeof database, "%s.db", path) < (int)sizeof database &&
		     stat(database, &st) == 0 && S_ISREG(st.st_mode);
	return ikv_err_set(err, IKV_BAD_INPUT, "%s: is not a regular file%s%s%s", path,
			   there ? "; did you mean " : "", there ? database : "", there ? "?" : "");
}

int store_check_header(const char *path, bool *fresh, struct ikv_err *err)
{
	unsigned char head[100];
	struct stat st;
	*fresh = false;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 && errno == ENOENT) {
		*fresh = true;
		return 0;
	}
	if (fd < 0 || fstat(fd, &st) != 0) {
		int e = errno;
		if (fd >= 0)
			close(fd);
		return ikv_err_set(err, e == ENOTDIR ? IKV_CANT_CREATE : IKV_IO, "%s: cannot open: %s", path,
				   strerror(e));
	}
	ssize_t n = S_ISREG(st.st_mode) ? pread(fd, head, sizeof head, 0) : -2;
	int e = errno;
	close(fd);
	if (n == -2)
		return not_a_file(path, err);
	if (n < 0)
		return ikv_err_set(err, IKV_IO, "%s: cannot read: %s", path, strerror(e));
	if (n == 0) {
		*fresh = true;
		return 0;
	}
	if (n < (ssize_t)sizeof head || memcmp(head, "SQLite format 3", 16) != 0)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: is not a result database", path);
	if (big_endian(head + 68) != STORE_APPLICATION_ID)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: is a database of another program (application id 0x%08x)",
				   path, big_endian(head + 68));
	uint32_t version = big_endian(head + 60);
	if (version > STORE_VERSION)
		return ikv_err_set(err, IKV_BAD_INPUT,
				   "%s: was written by a newer version (database version %u, this program knows %d)",
				   path, version, STORE_VERSION);
	/* Without a log or journal, the main file holds all its pages; 1 stands for 65536. */
	uint64_t page = (uint64_t)head[16] << 8 | head[17], pages = big_endian(head + 28);
	page = page == 1 ? 65536 : page;
	if ((uint64_t)st.st_size < page * pages && store_log_is_empty(path))
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: is damaged: it has %lld bytes of %llu", path,
				   (long long)st.st_size, (unsigned long long)(page * pages));
	if (version == 0)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: has no version number", path);
	return 0;
}
