/* Traces come from strangers: every importer must take a file or refuse it with a message, and what it took must hold
 * the invariants of sessions, be written, and read again as the same sessions.
 *
 * FUZZ_FORMAT in the environment names the importer (auto without it). The first byte is a digit: 1 skips bad
 * records, 2 lints, 4 converts the content ids to other blocks. The rest is the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "sim/trace/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		__builtin_trap();
}

static void same_session(const struct session *a, const struct session *b)
{
	require(!strcmp(a->id, b->id) && a->arrival_ms == b->arrival_ms && a->event_count == b->event_count);
	for (uint32_t i = 0; i < a->event_count; i++) {
		const struct session_event *x = &a->events[i], *y = &b->events[i];
		require(x->op == y->op && x->tokens == y->tokens && x->kind == y->kind && x->turn == y->turn &&
			x->wait_ms == y->wait_ms && x->hash_count == y->hash_count);
	}
}

static void round_trip(const struct session_list *list)
{
	static char path[] = "/tmp/fuzz-import-again-XXXXXX";
	static bool named;
	struct session_list again;
	struct ikv_err err;
	if (!named) {
		int fd = mkstemp(path);
		require(fd >= 0);
		close(fd);
		named = true;
	}
	require(session_write(list, path, &err) == 0);
	require(session_import(path, "intentkv", NULL, &again, &err) == 0);
	/* A request that neither adds nor generates anything leaves no event. */
	require(again.count == list->count && again.facts.requests <= list->facts.requests);
	for (uint32_t i = 0; i < list->count; i++)
		same_session(&list->items[i], &again.items[i]);
	session_list_free(&again);
	unlink(path);
}

static void ignore(void *ctx, const struct trace_finding *f)
{
	require(f->text && *f->text && f->check < CHECK_COUNT);
	++*(uint64_t *)ctx;
}

static void import(const uint8_t *data, size_t size, const char *format, int flags)
{
	static char path[64];
	struct session_list list;
	uint64_t findings = 0;
	struct session_options options = {.skip_bad = flags & 1, .block_tokens = flags & 4 ? 48 : 0};
	struct ikv_err err = {0};
	if (flags & 2) {
		options.finding = ignore;
		options.finding_ctx = &findings;
	}
	snprintf(path, sizeof path, "%s/fuzz-import-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	int fd = mkstemp(path);
	require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
	int rc = session_import(path, format, &options, &list, &err);
	unlink(path);
	if (rc) {
		require(err.status == IKV_BAD_INPUT && err.text[0] != '\0');
		return;
	}
	require(list.facts.skipped <= findings || !(flags & 2));
	for (uint32_t i = 0; i < list.count; i++)
		require(session_check(&list.items[i], &err) == 0);
	if (list.count)
		round_trip(&list);
	session_list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *format = getenv("FUZZ_FORMAT");
	if (size == 0 || size > 1 << 16)
		return 0;
	import(data + 1, size - 1, format ? format : "auto", data[0] - '0');
	return 0;
}
