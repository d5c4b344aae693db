#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "safetensors_header.h"

struct safetensors {
	struct safetensors_header header;
	char *path;
	int fd;               /* -1 when the bytes are in memory */
	const uint8_t *bytes; /* the caller's, or NULL */
	uint64_t data;        /* where the data begins in the file */
};

static int read_at(struct safetensors *f, uint64_t at, void *to, size_t size, struct ikv_err *err)
{
	if (f->bytes) {
		memcpy(to, f->bytes + at, size);
		return 0;
	}
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(f->fd, (char *)to + done, size - done, (off_t)(at + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return ikv_err_set(err, IKV_IO, "%s: %s", f->path, strerror(errno));
		if (n == 0)
			return ikv_err_set(err, IKV_BAD_INPUT, "%s: the file became shorter while it was read",
					   f->path);
		done += (size_t)n;
	}
	return 0;
}

static int load_header(struct safetensors *f, uint64_t size, struct ikv_err *err)
{
	uint8_t head[8];
	uint64_t n = 0;
	if (size < 8)
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: not a safetensors file: shorter than 8 bytes", f->path);
	if (read_at(f, 0, head, 8, err))
		return -1;
	for (int i = 7; i >= 0; i--)
		n = n << 8 | head[i];
	if (n > SAFETENSORS_HEADER_MAX || n > size - 8)
		return ikv_err_set(
		    err, IKV_BAD_INPUT,
		    "%s: not a safetensors file: a header of %llu bytes in a file of %llu (at most 16 MB)", f->path,
		    (unsigned long long)n, (unsigned long long)size);
	char *text = ikv_alloc((size_t)n + 1, 1, err);
	if (!text)
		return -1;
	f->data = 8 + n;
	int rc = read_at(f, 8, text, (size_t)n, err);
	if (!rc)
		rc = safetensors_header_parse(&f->header, text, (size_t)n, size - 8 - n, f->path, err);
	ikv_free(text);
	return rc;
}

static struct safetensors *new_file(const char *path, struct ikv_err *err)
{
	struct safetensors *f = ikv_alloc(1, sizeof *f, err);
	if (!f)
		return NULL;
	f->fd = -1;
	size_t n = strlen(path) + 1;
	f->path = ikv_alloc(n, 1, err);
	if (!f->path) {
		ikv_free(f);
		return NULL;
	}
	memcpy(f->path, path, n);
	return f;
}

int safetensors_open(struct safetensors **out, const char *path, struct ikv_err *err)
{
	struct stat st;
	struct safetensors *f = new_file(path, err);
	if (!f)
		return -1;
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0 || fstat(f->fd, &st)) {
		ikv_err_set(err, IKV_BAD_INPUT, "%s: %s", path, strerror(errno));
		safetensors_close(f);
		return -1;
	}
	if (!S_ISREG(st.st_mode) || load_header(f, (uint64_t)st.st_size, err)) {
		if (!S_ISREG(st.st_mode))
			ikv_err_set(err, IKV_BAD_INPUT, "%s: not a regular file", path);
		safetensors_close(f);
		return -1;
	}
	*out = f;
	return 0;
}

int safetensors_open_bytes(struct safetensors **out, const void *bytes, size_t size, const char *name,
			   struct ikv_err *err)
{
	struct safetensors *f = new_file(name, err);
	if (!f)
		return -1;
	f->bytes = bytes;
	if (load_header(f, size, err)) {
		safetensors_close(f);
		return -1;
	}
	*out = f;
	return 0;
}

void safetensors_close(struct safetensors *f)
{
	if (!f)
		return;
	if (f->fd >= 0)
		close(f->fd);
	safetensors_header_free(&f->header);
	ikv_free(f->path);
	ikv_free(f);
}

uint32_t safetensors_count(const struct safetensors *f)
{
	return f->header.count;
}

const struct safetensors_tensor *safetensors_at(const struct safetensors *f, uint32_t index)
{
	return &f->header.tensors[index];
}

const struct safetensors_tensor *safetensors_find(const struct safetensors *f, const char *name)
{
	for (uint32_t i = 0; i < f->header.count; i++)
		if (!strcmp(f->header.tensors[i].name, name))
			return &f->header.tensors[i];
	return NULL;
}

const char *safetensors_metadata(const struct safetensors *f, const char *key)
{
	for (uint32_t i = 0; i < f->header.metadata_count; i++)
		if (!strcmp(f->header.strings + f->header.metadata[2 * i], key))
			return f->header.strings + f->header.metadata[2 * i + 1];
	return NULL;
}

static uint64_t little(const uint8_t *p, uint32_t bytes)
{
	uint64_t v = 0;
	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static float float_of(enum safetensors_type type, uint64_t v)
{
	uint32_t w = (uint32_t)v;
	float f;
	double d;
	switch (type) {
	case SAFETENSORS_F16: { /* exact: every half is a float */
		uint32_t e = w >> 10 & 31, m = w & 1023;
		float x = e == 31 ? (m ? __builtin_nanf("") : __builtin_inff())
			  : e     ? (float)(m | 1024) * 0x1p-25f * (float)(1u << e)
				  : (float)m * 0x1p-24f;
		return w & 0x8000 ? -x : x;
	}
	case SAFETENSORS_BF16:
		w <<= 16;
		memcpy(&f, &w, sizeof f);
		return f;
	case SAFETENSORS_F32:
		memcpy(&f, &w, sizeof f);
		return f;
	default:
		memcpy(&d, &v, sizeof d);
		return (float)d;
	}
}

/* Nearest even; beyond 65504 infinite; NaN stays NaN. */
static uint16_t half_of(float x)
{
	uint32_t u;
	memcpy(&u, &x, sizeof u);
	uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
	u &= 0x7fffffff;
	if (u > 0x7f800000)
		return sign | 0x7e00;
	if (u >= 0x477ff000)
		return sign | 0x7c00;
	if (u < 0x38800000) { /* subnormal: adding .5 leaves the value in units of 2^-24 in the low bits */
		float y;
		memcpy(&y, &u, sizeof y);
		y += 0.5f;
		memcpy(&u, &y, sizeof u);
		return (uint16_t)(sign | (u - 0x3f000000));
	}
	return (uint16_t)(sign | (u - 0x38000000 + 0xfff + (u >> 13 & 1)) >> 13);
}

static int convert(const struct safetensors_tensor *t, const uint8_t *from, uint64_t index, char want, void *to,
		   const char *path, struct ikv_err *err)
{
	uint32_t bytes = safetensors_type_bytes(t->type);
	uint64_t v = little(from, bytes);
	if (want == 'f') {
		((float *)to)[index] = float_of(t->type, v);
	} else if (want == 'h') {
		((uint16_t *)to)[index] = t->type == SAFETENSORS_F16 ? (uint16_t)v : half_of(float_of(t->type, v));
	} else {
		int64_t x = (int64_t)v;
		if (t->type == SAFETENSORS_I8 || t->type == SAFETENSORS_I16 || t->type == SAFETENSORS_I32)
			x = (int64_t)(v << (64 - 8 * bytes)) >> (64 - 8 * bytes);
		else if (t->type == SAFETENSORS_U64 && x < 0)
			return ikv_err_set(err, IKV_BAD_INPUT, "%s: %s: a value beyond 63 bits", path, t->name);
		((int64_t *)to)[index] = x;
	}
	return 0;
}

static int read_values(struct safetensors *f, const struct safetensors_tensor *t, uint64_t first, uint64_t count,
		       char want, void *out, struct ikv_err *err)
{
	bool real = t->type == SAFETENSORS_F16 || t->type == SAFETENSORS_BF16 || t->type == SAFETENSORS_F32 ||
		    t->type == SAFETENSORS_F64;
	uint32_t bytes = safetensors_type_bytes(t->type);
	uint8_t chunk[8192];
	if (real != (want != 'i'))
		return ikv_err_set(err, IKV_BAD_INPUT, "%s: %.100s: got %s, expected %s", f->path, t->name,
				   safetensors_type_name(t->type),
				   want == 'i' ? "an integer type" : "F16, BF16, F32 or F64");
	if (first > t->values || count > t->values - first)
		return ikv_err_set(err, IKV_FAILED, "%s: %.100s: values %llu + %llu of %llu", f->path, t->name,
				   (unsigned long long)first, (unsigned long long)count,
				   (unsigned long long)t->values);
	uint64_t at = f->data + t->begin + first * bytes, per = sizeof chunk / bytes;
	for (uint64_t done = 0; done < count;) {
		uint64_t n = count - done < per ? count - done : per;
		if (read_at(f, at + done * bytes, chunk, (size_t)n * bytes, err))
			return -1;
		for (uint64_t i = 0; i < n; i++)
			if (convert(t, chunk + i * bytes, done + i, want, out, f->path, err))
				return -1;
		done += n;
	}
	return 0;
}

int safetensors_read_float(struct safetensors *f, const struct safetensors_tensor *t, uint64_t first, uint64_t count,
			   float *out, struct ikv_err *err)
{
	return read_values(f, t, first, count, 'f', out, err);
}

int safetensors_read_fp16(struct safetensors *f, const struct safetensors_tensor *t, uint64_t first, uint64_t count,
			  uint16_t *out, struct ikv_err *err)
{
	return read_values(f, t, first, count, 'h', out, err);
}

int safetensors_read_int(struct safetensors *f, const struct safetensors_tensor *t, uint64_t first, uint64_t count,
			 int64_t *out, struct ikv_err *err)
{
	return read_values(f, t, first, count, 'i', out, err);
}
