#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include "attn/isa.h"
#include "quant/encode.h"
#include "quant/micro.h"
#ifdef HAVE_X86
#include <cpuid.h>
#endif

#define ROWS_MAX 8

#ifndef BOTH_FETCHES /* a build with sanitizers */
#define micro_avx2_far       micro_avx2
#define micro_avx512_far     micro_avx512
#define micro_avx512vbmi_far micro_avx512vbmi
#define micro_avx512bf16_far micro_avx512bf16
#endif

static bool always(void)
{
	return true;
}

#ifdef HAVE_X86
/* Register states the OS saves: bits 1 and 2 for AVX, 5 to 7 for AVX-512. */
static uint32_t saved_states(void)
{
	uint32_t a, b, c, d;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 0;
	uint32_t low, high;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low;
}

static bool has_avx2(void)
{
	uint32_t a, b, c, d, want = bit_AVX | bit_FMA | bit_F16C;
	if ((saved_states() & 0x06) != 0x06 || !__get_cpuid(1, &a, &b, &c, &d) || (c & want) != want)
		return false;
	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}

/* Bits of CPUID leaf 7, subleaf 0 (b, c) and 1 (a1), that AVX-512 code needs beside AVX2's. */
static bool has_avx512_with(uint32_t want_b, uint32_t want_c, uint32_t want_a1)
{
	uint32_t a, b, c, d;
	if (!has_avx2() || (saved_states() & 0xe6) != 0xe6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d) ||
	    (b & want_b) != want_b || (c & want_c) != want_c)
		return false;
	if (!want_a1)
		return true;
	return a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & want_a1) == want_a1;
}

static bool has_avx512(void)
{
	return has_avx512_with(bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ, bit_AVX512VNNI, 0);
}

static bool has_avx512vbmi(void)
{
	return has_avx512_with(bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ,
			       bit_AVX512VNNI | bit_AVX512VBMI | bit_AVX512VBMI2, 0);
}

static bool has_avx512bf16(void)
{
	return has_avx512_with(bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ,
			       bit_AVX512VNNI | bit_AVX512VBMI | bit_AVX512VBMI2, bit_AVX512BF16);
}

/* Zen 5 fetches into the first level of cache (quant/fetch.h). */
static bool fetches_near(void)
{
	uint32_t a, b, c, d;
	if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_AMD_ebx)
		return false;
	return __get_cpuid(1, &a, &b, &c, &d) && (a >> 8 & 15) + (a >> 20 & 255) == 0x1a;
}

/* Intel's `vdpbf16ps` does half the products of FMA in a cycle (Sapphire and Emerald Rapids), AMD's twice as many. */
static bool slow_bf16(void)
{
	uint32_t a, b, c, d;
	return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx;
}
#else
static bool fetches_near(void)
{
	return true;
}

static bool slow_bf16(void)
{
	return false;
}
#endif

static const struct {
	const char *name, *needs;
	bool (*usable)(void);
	const struct lanes_kernels *lanes;
	const struct micro_kernels *micro, *far; /* fetching into the first and the second level of cache */
	const struct encode_kernels *encode;
} table[] = {
#ifdef HAVE_X86
    {"avx512bf16", "avx512_bf16 avx512_vbmi avx512_vbmi2 and those of avx512", has_avx512bf16, &lanes_avx512, &micro_avx512bf16,
     &micro_avx512bf16_far, &encode_avx512},
    {"avx512vbmi", "avx512_vbmi avx512_vbmi2 and those of avx512", has_avx512vbmi, &lanes_avx512, &micro_avx512vbmi,
     &micro_avx512vbmi_far, &encode_avx512},
    {"avx512", "avx512f avx512bw avx512vl avx512dq avx512_vnni avx2 fma f16c", has_avx512, &lanes_avx512,
     &micro_avx512, &micro_avx512_far, &encode_avx512},
    {"avx2", "avx2 fma f16c", has_avx2, &lanes_avx2, &micro_avx2, &micro_avx2_far,
     &encode_avx2},
#endif
    {"scalar", "", always, &lanes_scalar, &micro_scalar, &micro_scalar, &encode_scalar},
};
#define ROWS (sizeof table / sizeof *table)

/* What CPUID says, asked once: in a virtual machine each question costs microseconds. Bit i: row i runs here. */
#define KNOWN 0x80000000u
#define NEAR  0x40000000u
#define SLOW  0x20000000u /* slow_bf16() */

static uint32_t cpu(void)
{
	static _Atomic uint32_t answers;
	uint32_t a = atomic_load_explicit(&answers, memory_order_relaxed);
	if (a)
		return a;
	a = KNOWN | (fetches_near() ? NEAR : 0) | (slow_bf16() ? SLOW : 0);
	for (size_t i = 0; i < ROWS; i++)
		a |= (uint32_t)table[i].usable() << i;
	atomic_store_explicit(&answers, a, memory_order_relaxed);
	return a;
}

static bool runs_here(size_t row)
{
	return cpu() >> row & 1;
}

/* Is a row after it better? */
static bool passed_over(size_t row)
{
	return (cpu() & SLOW) && table[row].micro == &micro_avx512bf16;
}

static _Atomic(const struct lanes_kernels *) selected;

const struct lanes_kernels *lanes_table(void)
{
	const struct lanes_kernels *t = atomic_load_explicit(&selected, memory_order_relaxed);
	if (t)
		return t;
	for (size_t i = 0; i < ROWS && !t; i++)
		if (runs_here(i))
			t = table[i].lanes;
	atomic_store_explicit(&selected, t, memory_order_relaxed);
	return t;
}

const struct encode_kernels *encode_table(void)
{
	const struct lanes_kernels *lanes = lanes_table();
	size_t i = 0;
	while (table[i].lanes != lanes)
		i++;
	return table[i].encode;
}

const struct ikv_isa_info *ikv_isa_list(uint32_t *count)
{
	static _Thread_local struct ikv_isa_info list[ROWS_MAX];
	*count = 0;
	for (size_t i = 0; i < ROWS; i++)
		if (table[i].micro)
			list[(*count)++] = (struct ikv_isa_info){table[i].name, table[i].needs, runs_here(i)};
	return list;
}

/* Row called `name`, the best one for "auto" or NULL; -1 with a message if there is none that runs here. */
static int find(const char *name, bool need_micro, struct ikv_err *err)
{
	char usable[200] = "";
	bool best = !name || !strcmp(name, "auto");
	for (size_t i = 0; i < ROWS; i++) {
		if (need_micro && !table[i].micro)
			continue;
		bool runs = runs_here(i);
		if (runs && (best ? !passed_over(i) : !strcmp(name, table[i].name)))
			return (int)i;
		if (!best && !runs && !strcmp(name, table[i].name))
			return ikv_err_set(err, IKV_UNAVAILABLE,
					   "ISA \"%s\" needs CPU flags that are missing here: %s", name,
					   table[i].needs);
		size_t n = strlen(usable);
		if (runs)
			snprintf(usable + n, sizeof usable - n, ", %s", table[i].name);
	}
	return ikv_err_set(err, IKV_UNAVAILABLE, "%s: no ISA of that name%s; available: auto%s", name ? name : "auto",
			   need_micro ? " in the CPU backend" : "", usable);
}

int ikv_isa_select(const char *name, struct ikv_err *err)
{
	int i = find(name, false, err);
	if (i < 0)
		return -1;
	atomic_store_explicit(&selected, table[i].lanes, memory_order_relaxed);
	return 0;
}

const char *ikv_isa_selected(void)
{
	return lanes_table()->isa;
}

static const struct micro_kernels *micro_of(size_t row)
{
	return cpu() & NEAR ? table[row].micro : table[row].far;
}

/* "NAME:near" and "NAME:far" say where tiles are fetched to, for measurements and tests. */
const struct micro_kernels *isa_micro(const char *name, struct ikv_err *err)
{
	char alone[32];
	const char *colon = name ? strchr(name, ':') : NULL;
	bool near = colon && !strcmp(colon, ":near"), far = colon && !strcmp(colon, ":far");
	if ((near || far) && (size_t)(colon - name) < sizeof alone) {
		memcpy(alone, name, (size_t)(colon - name));
		alone[colon - name] = 0;
		name = alone;
	}
	int i = find(name, true, err);
	if (i < 0)
		return NULL;
	return near ? table[i].micro : far ? table[i].far : micro_of((size_t)i);
}

const struct micro_kernels *isa_micro_selected(void)
{
	const struct lanes_kernels *lanes = lanes_table();
	for (size_t i = 0; i < ROWS; i++)
		if (table[i].lanes == lanes && table[i].micro && runs_here(i) && !passed_over(i))
			return micro_of(i);
	return isa_micro("auto", NULL);
}
