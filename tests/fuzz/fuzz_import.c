/* Traces come from strangers: every importer must take a file or refuse it with a message, and what it took must hold
 * the invariants of sessions, be written, and read again as the same sessions.
 *
 * The first byte chooses the importer (i intentkv, m mooncake, w weka, o openai-chat, anything else: auto); as a
 * capital letter it also skips bad records. The rest is the file. */
#include <ctype.h>
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
	require(again.count == list->count && again.facts.requests == list->facts.requests);
	for (uint32_t i = 0; i < list->count; i++)
		same_session(&list->items[i], &again.items[i]);
	session_list_free(&again);
	unlink(path);
}

/* One of the endings decides between JSON lines and JSON. */
static void import(const uint8_t *data, size_t size, const char *format, bool skip_bad, const char *ending)
{
	char path[64];
	struct session_list list;
	struct session_options options = {.skip_bad = skip_bad};
	struct ikv_err err = {0};
	snprintf(path, sizeof path, "/tmp/fuzz-import-XXXXXX%s", ending);
	int fd = mkstemps(path, (int)strlen(ending));
	require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
	int rc = session_import(path, format, &options, &list, &err);
	unlink(path);
	if (rc) {
		require(err.status == IKV_BAD_INPUT && err.text[0] != '\0');
		return;
	}
	for (uint32_t i = 0; i < list.count; i++)
		require(session_check(&list.items[i], &err) == 0);
	round_trip(&list);
	session_list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char letters[] = "imwo";
	if (size == 0 || size > 1 << 16)
		return 0;
	const char *letter = strchr(letters, tolower(data[0]));
	const char *format = letter && *letter ? importers[letter - letters]->name : "auto";
	import(data + 1, size - 1, format, isupper(data[0]), ".json");
	if (!strcmp(format, "openai-chat") || !strcmp(format, "auto"))
		import(data + 1, size - 1, format, isupper(data[0]), ".jsonl");
	return 0;
}
