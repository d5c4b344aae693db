/* Option values are text from scenarios and the command line: "key value" must be taken or refused with a
 * message, and what is taken must read back as the same value (a share of a budget, which is written in
 * per cent, to the last bits). */
#include <math.h>
#include <string.h>
#include <intentkv.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct config {
	int64_t count, size;
	double share;
	bool flag;
	int choice;
	struct ikv_budget budget;
};
static const char *const choices[] = {"alpha", "beta", "gamma", NULL};
static const struct ikv_option table[] = {
    {"top_k", IKV_OPT_INT, offsetof(struct config, count), "8", -100, 100, NULL, ""},
    {"capacity", IKV_OPT_BYTES, offsetof(struct config, size), "512MiB", 0, 0, NULL, ""},
    {"pressure", IKV_OPT_REAL, offsetof(struct config, share), "0.5", 0, 1, NULL, ""},
    {"flag", IKV_OPT_BOOL, offsetof(struct config, flag), "true", 0, 0, NULL, ""},
    {"choice", IKV_OPT_ENUM, offsetof(struct config, choice), "beta", 0, 0, choices, ""},
    {"budget", IKV_OPT_BUDGET, offsetof(struct config, budget), "25%", 0, 0, NULL, ""},
    IKV_OPTION_END};

static void require(bool holds)
{
	if (!holds)
		__builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[200], again[200];
	struct ikv_err err = {0};
	struct config c, d;
	if (size == 0 || size >= sizeof text)
		return 0;
	const struct ikv_option *o = &table[data[0] % 6];
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	memset(&c, 0, sizeof c);
	memset(&d, 0, sizeof d);
	if (ikv_option_set(table, &c, o->name, text, &err) != 0) {
		require(err.status == IKV_BAD_INPUT && err.text[0] != '\0');
		return 0;
	}
	ikv_option_get(o, &c, again, sizeof again);
	require(ikv_option_set(table, &d, o->name, again, &err) == 0);
	require(fabs(c.budget.value - d.budget.value) <= 1e-15 * c.budget.value);
	require(c.budget.kind == d.budget.kind && c.count == d.count && c.size == d.size && c.share == d.share);
	require(c.flag == d.flag && c.choice == d.choice);
	return 0;
}
