/* A fuzzer's corpus without the fuzzer: every file of tests/fuzz/corpus/CORPUS goes through once. A file that breaks
 * something ends the program, which the test driver reports. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

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

int main(void)
{
	char folder[4096];
	const char *srcdir = getenv("srcdir");
	struct dirent **files;
	snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/" CORPUS, srcdir ? srcdir : ".");
	int n = scandir(folder, &files, visible, alphasort);
	if (n <= 0) {
		printf("Bail out! no corpus in %s\n", folder);
		return 1;
	}
	printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		fflush(stdout);
		printf("%s %d - %s\n", replay(folder, files[i]->d_name) ? "not ok" : "ok", i + 1, files[i]->d_name);
		free(files[i]);
	}
	free(files);
	return 0;
}
