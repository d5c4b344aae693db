#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include "sim/trace/input.h"

enum { RAW_BYTES = 128 << 10, BUFFER_BYTES = 256 << 10, HEAD_MAX = 65536, GZIP_WINDOW = 15 + 16 };

enum coding { PLAIN, GZIP, ZSTANDARD };

struct unpacker {
	FILE *file;
	enum coding coding;
	bool inside;   /* a compressed stream has begun and not ended */
	bool file_end; /* all of the file is in `raw` */
	z_stream z;
	bool z_open;
	ZSTD_DStream *zstd;
	bool damaged; /* its data: nothing behind that can be read */
	size_t raw_at, raw_size;
	unsigned char raw[RAW_BYTES], buffer[BUFFER_BYTES];
};

const char *const trace_check_names[CHECK_COUNT + 1] = {"syntax",    "truncated", "limit",       "value",
							"id-count",  "id-range",  "scope",       "delta",
							"duplicate", "time",      "consistency", NULL};
const char *const trace_check_texts[CHECK_COUNT] = {
    "records that are not of the format",
    "files that end inside a record",
    "records larger or deeper than what is read",
    "fields missing, mistyped or out of range",
    "numbers of ids that do not follow from the length",
    "ids that are no unsigned 64-bit numbers",
    "ids declared global or local that are not",
    "increments given as whole inputs, or the reverse",
    "sessions, requests or ids that come twice",
    "times that run backwards",
    "figures that contradict each other",
};

size_t trace_utf8(const char *p)
{
	const unsigned char *c = (const unsigned char *)p;
	size_t n = *c < 0x80                 ? 1
		   : *c >= 0xc2 && *c < 0xe0 ? 2
		   : *c >= 0xe0 && *c < 0xf0 ? 3
		   : *c >= 0xf0 && *c < 0xf5 ? 4
					     : 0;
	for (size_t i = 1; i < n; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	/* Forms that are too long, surrogates, and what lies beyond U+10FFFF. */
	bool bad = n > 2 && ((*c == 0xe0 && c[1] < 0xa0) || (*c == 0xed && c[1] > 0x9f) ||
			     (*c == 0xf0 && c[1] < 0x90) || (*c == 0xf4 && c[1] > 0x8f));
	return bad ? 0 : n;
}

void trace_text(char *to, size_t size, const char *text)
{
	size_t used = 0;
	while (*text) {
		size_t n = trace_utf8(text), step = n ? n : 1;
		if (used + step >= size)
			break;
		if (n)
			memcpy(to + used, text, n);
		else
			to[used] = '?';
		used += step;
		text += step;
	}
	to[used] = '\0';
}

int trace_wrong(struct trace_input *in, enum trace_check check, int line, const char *key, struct ikv_err *err,
		const char *fmt, ...)
{
	char text[700];
	va_list args;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	in->check = check;
	in->wrong_line = line;
	return ikv_err_at(err, IKV_BAD_INPUT, in->path, line, 0, key, "%s", text);
}

static int unreadable(struct trace_input *in, enum trace_check check, struct ikv_err *err, const char *what)
{
	in->unreadable = true;
	return trace_wrong(in, check, in->line, NULL, err, "%s", what);
}

/* The next piece of the file as it is. */
static int read_raw(struct trace_input *in, struct ikv_err *err)
{
	struct unpacker *u = in->unpacker;
	memmove(u->raw, u->raw + u->raw_at, u->raw_size - u->raw_at);
	u->raw_size -= u->raw_at;
	u->raw_at = 0;
	while (!u->file_end && u->raw_size < RAW_BYTES) {
		size_t n = fread(u->raw + u->raw_size, 1, RAW_BYTES - u->raw_size, u->file);
		u->raw_size += n;
		if (n == 0) {
			if (ferror(u->file)) {
				in->unreadable = true;
				return ikv_err_set(err, IKV_IO, "%s: %s", in->path, strerror(errno));
			}
			u->file_end = true;
		}
	}
	return 0;
}

static int begin(struct trace_input *in, struct ikv_err *err)
{
	static const unsigned char gzip[] = {0x1f, 0x8b}, zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
	struct unpacker *u = in->unpacker;
	if (read_raw(in, err))
		return -1;
	if (u->raw_size >= 2 && !memcmp(u->raw, gzip, 2)) {
		u->coding = GZIP;
		u->z_open = inflateInit2(&u->z, GZIP_WINDOW) == Z_OK;
		return u->z_open ? 0 : ikv_err_set(err, IKV_FAILED, "out of memory");
	}
	if (u->raw_size >= 4 && !memcmp(u->raw, zstd, 4)) {
		u->coding = ZSTANDARD;
		u->zstd = ZSTD_createDStream();
		return u->zstd ? 0 : ikv_err_set(err, IKV_FAILED, "out of memory");
	}
	return 0;
}

int trace_input_open(struct trace_input *in, const char *path, struct ikv_err *err)
{
	*in = (struct trace_input){.path = path};
	struct unpacker *u = in->unpacker = ikv_alloc(1, sizeof *u, err);
	if (!u)
		return -1;
	u->file = fopen(path, "rbe");
	int rc = u->file ? 0 : ikv_err_set(err, IKV_BAD_INPUT, "%s: %s", path, strerror(errno));
	in->unreadable = rc != 0;
	if (!rc)
		rc = begin(in, err);
	in->at = in->end = u->buffer;
	return rc;
}

void trace_input_close(struct trace_input *in)
{
	struct unpacker *u = in->unpacker;
	if (!u)
		return;
	if (u->z_open)
		inflateEnd(&u->z);
	ZSTD_freeDStream(u->zstd);
	if (u->file)
		fclose(u->file);
	ikv_free(u);
	in->unpacker = NULL;
}

/* Each unpacks into room [size]: how many bytes came, or -1. They may give 0 without being at the end. */
static long plain(struct trace_input *in, unsigned char *room, size_t size, struct ikv_err *err)
{
	struct unpacker *u = in->unpacker;
	(void)err;
	size_t n = u->raw_size - u->raw_at < size ? u->raw_size - u->raw_at : size;
	memcpy(room, u->raw + u->raw_at, n);
	u->raw_at += n;
	return (long)n;
}

static long gunzip(struct trace_input *in, unsigned char *room, size_t size, struct ikv_err *err)
{
	struct unpacker *u = in->unpacker;
	u->z.next_in = u->raw + u->raw_at;
	u->z.avail_in = (uInt)(u->raw_size - u->raw_at);
	u->z.next_out = room;
	u->z.avail_out = (uInt)size;
	u->inside = true;
	int rc = inflate(&u->z, Z_NO_FLUSH);
	u->raw_at = u->raw_size - u->z.avail_in;
	/* A file may hold several members, one after the other. */
	if (rc == Z_STREAM_END) {
		u->inside = false;
		rc = inflateReset(&u->z);
	}
	if (rc != Z_OK && rc != Z_BUF_ERROR)
		return unreadable(in, CHECK_SYNTAX, err, "damaged gzip data");
	return (long)(size - u->z.avail_out);
}

static long unzstd(struct trace_input *in, unsigned char *room, size_t size, struct ikv_err *err)
{
	struct unpacker *u = in->unpacker;
	ZSTD_inBuffer from = {u->raw, u->raw_size, u->raw_at};
	ZSTD_outBuffer to = {room, size, 0};
	size_t rc = u->damaged ? 0 : ZSTD_decompressStream(u->zstd, &to, &from);
	u->raw_at = from.pos;
	u->inside = rc != 0;
	u->damaged |= ZSTD_isError(rc) != 0;
	if (u->damaged)
		return unreadable(in, CHECK_SYNTAX, err, "damaged Zstandard data");
	return (long)to.pos;
}

/* Bytes into room [size]: how many, 0 at the end of the file, -1. */
static long unpack(struct trace_input *in, unsigned char *room, size_t size, struct ikv_err *err)
{
	static long (*const unpackers[])(struct trace_input *, unsigned char *, size_t,
					 struct ikv_err *) = {plain, gunzip, unzstd};
	struct unpacker *u = in->unpacker;
	for (;;) {
		if (u->raw_at == u->raw_size && !u->file_end && read_raw(in, err))
			return -1;
		bool dry = u->raw_at == u->raw_size;
		long n = dry && !u->inside ? 0 : unpackers[u->coding](in, room, size, err);
		if (n)
			return n;
		if (dry && u->file_end)
			return u->inside ? unreadable(in, CHECK_TRUNCATED, err,
						      "the compressed file ends inside its data: it is truncated")
					 : 0;
	}
}

int trace_input_fill(struct trace_input *in, struct ikv_err *err)
{
	struct unpacker *u = in->unpacker;
	in->total += (uint64_t)(in->end - u->buffer);
	in->at = in->end = u->buffer;
	long n = unpack(in, u->buffer, BUFFER_BYTES, err);
	if (n > 0)
		in->end += n;
	return n < 0 ? -1 : n > 0;
}

long trace_input_head(struct trace_input *in, size_t want, struct ikv_err *err)
{
	struct unpacker *u = in->unpacker;
	if (want > HEAD_MAX)
		want = HEAD_MAX;
	while ((size_t)(in->end - in->at) < want) {
		size_t held = (size_t)(in->end - u->buffer);
		long n = unpack(in, u->buffer + held, BUFFER_BYTES - held, err);
		if (n < 0 && in->end == in->at)
			return -1;
		if (n <= 0) /* damage behind what is there is met again when that is read */
			break;
		in->end += n;
	}
	return (long)(in->end - in->at);
}

int trace_input_bytes(struct trace_input *in, void *to, size_t size, struct ikv_err *err)
{
	unsigned char *room = to;
	size_t got = 0;
	while (got < size) {
		if (in->at == in->end) {
			int more = trace_input_fill(in, err);
			if (more < 0)
				return -1;
			if (!more)
				break;
		}
		size_t n = (size_t)(in->end - in->at);
		if (n > size - got)
			n = size - got;
		memcpy(room + got, in->at, n);
		in->at += n;
		got += n;
	}
	if (got == size)
		return 1;
	if (got == 0)
		return 0;
	in->unreadable = true;
	return trace_wrong(in, CHECK_TRUNCATED, 0, NULL, err, "the file ends inside a record: it is truncated");
}
