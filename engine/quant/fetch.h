/* Fetching of tiles that are read a step later; the micro-kernels are compiled once for each level of cache.
 *
 * Near: into the first level. Zen 5, with 48 KiB there, often drops fetches into the second. Far (FETCH_FAR): into the
 * second level, by so many times more buffers. On Zen 4, whose first level of 32 KiB does not hold two steps of FP16,
 * that is twice as fast (docs/kernels.md, "Fetching"). attn/isa.c chooses. */
#ifndef QUANT_FETCH_H
#define QUANT_FETCH_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

static inline __attribute__((always_inline)) void fetch(const uint8_t *p, ptrdiff_t ahead)
{
#ifdef FETCH_FAR
	_mm_prefetch((const char *)p + ahead, _MM_HINT_T1);
#else
	_mm_prefetch((const char *)p + ahead, _MM_HINT_T0);
#endif
}

/* Once more, half a step after fetch(): some of the fetches into the second level are lost where many come at a time. It
 * pays for FP16, whose tiles are the largest (docs/results/cpu.md, "Fetching"). */
static inline __attribute__((always_inline)) void fetch_again(const uint8_t *p, ptrdiff_t ahead)
{
#ifdef FETCH_FAR
	fetch(p, ahead);
#else
	(void)p;
	(void)ahead;
#endif
}

#ifdef FETCH_FAR /* the same sources, other names */
#define micro_avx2          micro_avx2_far
#define micro_avx512        micro_avx512_far
#define micro_avx512vbmi    micro_avx512vbmi_far
#define micro_avx512bf16    micro_avx512bf16_far
#define avx2_qk_fp16        avx2_qk_fp16_far
#define avx2_qk_half        avx2_qk_half_far
#define avx2_qk_bf16        avx2_qk_bf16_far
#define avx2_qk_float       avx2_qk_float_far
#define avx2_qk_sparse      avx2_qk_sparse_far
#define avx2_qk_fp8         avx2_qk_fp8_far
#define avx2_qk_kivi8       avx2_qk_kivi8_far
#define avx2_qk_kivi4       avx2_qk_kivi4_far
#define avx2_qk_kivi2       avx2_qk_kivi2_far
#define avx2_pv_fp16        avx2_pv_fp16_far
#define avx2_pv_bf16        avx2_pv_bf16_far
#define avx2_pv_float       avx2_pv_float_far
#define avx2_pv_sparse      avx2_pv_sparse_far
#define avx2_pv_fp8         avx2_pv_fp8_far
#define avx2_pv_kivi8       avx2_pv_kivi8_far
#define avx2_pv_kivi4       avx2_pv_kivi4_far
#define avx2_pv_kivi2       avx2_pv_kivi2_far
#define avx2_qk_bytes       avx2_qk_bytes_far
#define avx2_pv_bytes       avx2_pv_bytes_far
#define avx2_qk_joined      avx2_qk_joined_far
#define avx2_pv_joined      avx2_pv_joined_far
#define avx2_qk_pairs       avx2_qk_pairs_far
#define avx2_qk_narrow4     avx2_qk_narrow4_far
#define avx2_qk_narrow2     avx2_qk_narrow2_far
#define avx2_pv_pairs       avx2_pv_pairs_far
#define avx2_pv_narrow4     avx2_pv_narrow4_far
#define avx2_pv_narrow2     avx2_pv_narrow2_far
#define avx2_forms_bytes    avx2_forms_bytes_far
#define avx2_prepare        avx2_prepare_far
#define avx2_pv_decoded     avx2_pv_decoded_far
#define avx512vbmi_qk_sparse avx512vbmi_qk_sparse_far
#define avx512vbmi_pv_sparse avx512vbmi_pv_sparse_far
#define avx512bf16_qk_sparse avx512bf16_qk_sparse_far
#define avx512bf16_pv_sparse avx512bf16_pv_sparse_far
#define avx512_qk_fp8       avx512_qk_fp8_far
#define avx512_pv_fp8       avx512_pv_fp8_far
#define avx512_qk_fp16      avx512_qk_fp16_far
#define avx512_qk_half      avx512_qk_half_far
#define avx512_qk_bf16      avx512_qk_bf16_far
#define avx512_qk_sparse    avx512_qk_sparse_far
#define avx512_qk_float     avx512_qk_float_far
#define avx512_qk_int8      avx512_qk_int8_far
#define avx512_qk_int4      avx512_qk_int4_far
#define avx512_qk_int4r     avx512_qk_int4r_far
#define avx512_qk_kivi8     avx512_qk_kivi8_far
#define avx512_qk_kivi4     avx512_qk_kivi4_far
#define avx512_qk_kivi2     avx512_qk_kivi2_far
#define avx512_pv_fp16      avx512_pv_fp16_far
#define avx512_pv_bf16      avx512_pv_bf16_far
#define avx512_pv_sparse    avx512_pv_sparse_far
#define avx512_pv_float     avx512_pv_float_far
#define avx512_pv_int8      avx512_pv_int8_far
#define avx512_pv_int8_fine avx512_pv_int8_fine_far
#define avx512_pv_int4      avx512_pv_int4_far
#define avx512_pv_int4r     avx512_pv_int4r_far
#define avx512_pv_kivi8     avx512_pv_kivi8_far
#define avx512_pv_kivi2     avx512_pv_kivi2_far
#define avx512_pv_narrow    avx512_pv_narrow_far
#define avx512_pv_decoded   avx512_pv_decoded_far
#define avx512_forms_bytes  avx512_forms_bytes_far
#define avx512_prepare      avx512_prepare_far
#define avx512_prepare_nine avx512_prepare_nine_far
#define avx512_prepare_paired avx512_prepare_paired_far
#define avx512_peak         avx512_peak_far
#define avx512_scale        avx512_scale_far
#define avx512_exp_sum      avx512_exp_sum_far
#endif

#endif
