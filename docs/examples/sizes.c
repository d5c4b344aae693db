/* Bytes of a page of 16 tokens of one KV head of 128 channels, K and V, in every format.
 * cc sizes.c $(pkg-config --cflags --libs intentkv) */
#include <intentkv.h>
#include <stdio.h>

int main(void)
{
	for (int f = IKV_FMT_FP16; f < IKV_FMT_COUNT; f++)
		printf("%-14s %5llu bytes\n", ikv_format_info((enum ikv_format)f)->name,
		       (unsigned long long)(ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, 16, 128) +
					    ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, 16, 128)));
	return 0;
}
