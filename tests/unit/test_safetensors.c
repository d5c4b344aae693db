/* The safetensors reader: what it accepts, converts and refuses. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include <intentkv.h>
#include "sim/safetensors.h"
#include "tap.h"

static uint8_t file[1 << 16];

/* A file of this header and `data` bytes of data. */
static size_t build(const char *header, const void *data, size_t bytes)
{
	uint64_t n = strlen(header);
	for (int i = 0; i < 8; i++)
		file[i] = (uint8_t)(n >> (8 * i));
	memcpy(file + 8, header, n);
	if (bytes)
		memcpy(file + 8 + n, data, bytes);
	return 8 + n + bytes;
}

static int try_open(const char *header, size_t data, struct ikv_err *err)
{
	static const uint8_t zeros[4096];
	struct safetensors *f;
	size_t n = build(header, zeros, data);
	int rc = safetensors_open_bytes(&f, file, n, "test", err);
	if (!rc)
		safetensors_close(f);
	return rc;
}

START_TEST(values_are_converted)
{
	/* half 1.5, bfloat -2, float 0.1, int -3 */
	static const uint8_t data[] = {0x00, 0x3e, 0x00, 0xc0, 0xcd, 0xcc, 0xcc, 0x3d, 0xfd, 0xff, 0xff, 0xff};
	struct ikv_err err;
	struct safetensors *f;
	size_t n = build("{\"__metadata__\":{\"a\\u00e9\\n\":\"x\\ud83d\\ude00\"},"
			 "\"i\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[8,12]},"
			 "\"h\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[0,2]},"
			 "\"none\":{\"shape\":[0,7],\"dtype\":\"F32\",\"data_offsets\":[4,4]},"
			 "\"b\":{\"dtype\":\"BF16\",\"shape\":[1,1],\"data_offsets\":[2,4]},"
			 "\"f\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}  ",
			 data, sizeof data);
	ck_assert_msg(!safetensors_open_bytes(&f, file, n, "test", &err), "%s", err.text);
	ck_assert_uint_eq(safetensors_count(f), 5);
	ck_assert_str_eq(safetensors_metadata(f, "a\xc3\xa9\n"), "x\xf0\x9f\x98\x80");
	ck_assert_ptr_null(safetensors_metadata(f, "b"));
	ck_assert_str_eq(safetensors_at(f, 0)->name, "h");
	ck_assert_str_eq(safetensors_at(f, 4)->name, "i");
	float x;
	uint16_t h;
	int64_t i;
	ck_assert_int_eq(safetensors_read_float(f, safetensors_find(f, "h"), 0, 1, &x, &err), 0);
	ck_assert_float_eq(x, 1.5f);
	ck_assert_int_eq(safetensors_read_float(f, safetensors_find(f, "b"), 0, 1, &x, &err), 0);
	ck_assert_float_eq(x, -2);
	ck_assert_int_eq(safetensors_read_float(f, safetensors_find(f, "f"), 0, 1, &x, &err), 0);
	ck_assert_float_eq(x, 0.1f);
	ck_assert_int_eq(safetensors_read_fp16(f, safetensors_find(f, "f"), 0, 1, &h, &err), 0);
	ck_assert_uint_eq(h, 0x2e66);
	ck_assert_int_eq(safetensors_read_fp16(f, safetensors_find(f, "h"), 0, 1, &h, &err), 0);
	ck_assert_uint_eq(h, 0x3e00);
	ck_assert_int_eq(safetensors_read_int(f, safetensors_find(f, "i"), 0, 1, &i, &err), 0);
	ck_assert_int_eq(i, -3);
	ck_assert_int_eq(safetensors_read_int(f, safetensors_find(f, "h"), 0, 1, &i, &err), -1);
	ck_assert_int_eq(safetensors_read_float(f, safetensors_find(f, "i"), 0, 1, &x, &err), -1);
	ck_assert_int_eq(safetensors_read_float(f, safetensors_find(f, "f"), 0, 2, &x, &err), -1);
	safetensors_close(f);
}
END_TEST

static const struct {
	const char *header;
	size_t data;
	const char *message; /* part of it; NULL: accepted */
} cases[] = {
    {"{}", 0, NULL},
    {"{ }", 0, NULL},
    {"{}", 1, "end at byte 0"},
    {"", 0, "does not begin"},
    {" {}", 0, "does not begin"},
    {"{}x", 0, "after the end"},
    {"{", 0, "expected"},
    {"{\"a", 0, "without an end"},
    {"{\"a\\", 0, "without an end"},
    {"{\"a\\q\":1}", 0, "unknown escape"},
    {"{\"a\\u12\":1}", 0, "\\u escape"},
    {"{\"\\ud800\":1}", 0, "surrogate"},
    {"{\"\\u0000\":1}", 0, "NUL"},
    {"{\"a\":[[[[", 0, "expected"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, NULL},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 5, "the file at 5"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 3, "the file at 3"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[1,5]}}", 5, "begins at byte 1"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,0]}}", 4, "backwards"},
    {"{\"a\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,4]}}", 4, "do not match"},
    {"{\"a\":{\"dtype\":\"Q4\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]}}", 4, "whole number"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4.0],\"data_offsets\":[0,4]}}", 4, "expected"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[04],\"data_offsets\":[0,4]}}", 4, "whole number"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[18446744073709551616],\"data_offsets\":[0,4]}}", 4, "64 bits"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4194305,4194305,211106198978564],\"data_offsets\":[0,4]}}", 4, "overflows"},
    {"{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0, "do not match"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,4],\"data_offsets\":[0,4]}}", 4, NULL},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,4]}}", 4, "8 dimensions"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, "without"},
    {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, "twice"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1}}", 4, "expected dtype"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
     "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
     4, "occurs twice"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
     "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
     4, "begins at byte 2"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "expected"},
};

START_TEST(header_is_checked)
{
	struct ikv_err err = {0};
	int rc = try_open(cases[_i].header, cases[_i].data, &err);
	if (!cases[_i].message) {
		ck_assert_msg(rc == 0, "%s", err.text);
		return;
	}
	ck_assert_msg(rc == -1, "accepted: %s", cases[_i].header);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
	ck_assert_msg(strstr(err.text, cases[_i].message) != NULL, "%s: %s", cases[_i].header, err.text);
}
END_TEST

START_TEST(lengths_are_checked)
{
	struct ikv_err err;
	struct safetensors *f;
	size_t n = build("{}", NULL, 0);
	for (size_t cut = 0; cut < n; cut++)
		ck_assert_int_eq(safetensors_open_bytes(&f, file, cut, "test", &err), -1);
	memset(file, 0xff, 8);
	ck_assert_int_eq(safetensors_open_bytes(&f, file, n, "test", &err), -1);
	ck_assert_ptr_nonnull(strstr(err.text, "at most 16 MB"));
	ck_assert_int_eq(safetensors_open(&f, "/nonexistent", &err), -1);
	ck_assert_int_eq(safetensors_open(&f, "/", &err), -1);
	ck_assert_int_eq(err.status, IKV_BAD_INPUT);
}
END_TEST

/* Every byte of a good file changed in turn: accepted or refused, never read out of bounds. */
START_TEST(damage_is_survived)
{
	static const char good[] = "{\"__metadata__\":{\"k\":\"\\u00e9\"},"
				   "\"a\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]},"
				   "\"b\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[8,16]}}";
	static const uint8_t bytes[] = {0, 1, '"', '\\', '{', '}', '[', ']', '9', ',', 0xff};
	struct ikv_err err;
	struct safetensors *f;
	int refused = 0;
	size_t n = build(good, file + 40000, 16);
	for (size_t i = 0; i < n; i++) {
		uint8_t old = file[i];
		for (size_t b = 0; b < sizeof bytes; b++) {
			file[i] = bytes[b];
			if (safetensors_open_bytes(&f, file, n, "test", &err)) {
				refused++;
				continue;
			}
			float x[4];
			for (uint32_t t = 0; t < safetensors_count(f); t++)
				if (safetensors_at(f, t)->values <= 4)
					(void)safetensors_read_float(f, safetensors_at(f, t), 0,
								     safetensors_at(f, t)->values, x, &err);
			safetensors_close(f);
		}
		file[i] = old;
	}
	ck_assert_int_gt(refused, 500);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("safetensors");
	TCase *t = tcase_create("safetensors");
	tcase_add_test(t, values_are_converted);
	tcase_add_loop_test(t, header_is_checked, 0, sizeof cases / sizeof *cases);
	tcase_add_test(t, lengths_are_checked);
	tcase_add_test(t, damage_is_survived);
	suite_add_tcase(s, t);
	return tap_run(s);
}
