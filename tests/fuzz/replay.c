/* A fuzzer's corpus without the fuzzer: every file of tests/fuzz/corpus/CORPUS goes through once, those of a folder
 * in it with the folder's name as FUZZ_FORMAT. A file that breaks something ends the program, which the test driver
 * reports. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_MAX = 1 << 20 };

static int replay(const char *folder, const char *name)
{
	char path[4096 + 300];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *f = fopen(path, "rb");
	uint8_t *room = malloc(FILE_MAX);
	size_t size = f && room ? fread(room, 1, FILE_MAX, f) : 0;
	int bad = !f || !room || ferror(f);
	if (f)
		fclose(f);
	/* A copy of just this size, so that a sanitizer sees a read beyond it. */
	uint8_t *data = bad ? NULL : malloc(size ? size : 1);
	for (size_t i = 0; data && i < size; i++)
		data[i] = room[i];
	free(room);
	if (data)
		LLVMFuzzerTestOneInput(data, size);
	bad = bad || !data;
	free(data);
	return bad ? -1 : 0;
}

static int visible(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

/* The files of a folder and of those in it; how many, or -1. */
static int replay_all(const char *folder, int number)
{
	char path[4096];
	struct dirent **entries;
	int n = scandir(folder, &entries, visible, alphasort);
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		struct stat st;
		snprintf(path, sizeof path, "%s/%s", folder, name);
		if (!stat(path, &st) && S_ISDIR(st.st_mode)) {
			setenv("FUZZ_FORMAT", name, 1);
			number = replay_all(path, number);
			unsetenv("FUZZ_FORMAT");
		} else {
			fflush(stdout);
			number++;
			printf("%s %d - %s\n", replay(folder, name) ? "not ok" : "ok", number, name);
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	return number;
}

int main(void)
{
	char folder[4000];
	const char *srcdir = getenv("srcdir");
	snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/" CORPUS, srcdir ? srcdir : ".");
	int n = replay_all(folder, 0);
	if (n == 0) {
		printf("Bail out! no corpus in %s\n", folder);
		return 1;
	}
	printf("1..%d\n", n);
	return 0;
}
