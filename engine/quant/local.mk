# Page formats and their micro-kernels: one library per instruction set, each with its own flags.
libengine_la_SOURCES += \
	engine/quant/codec.h engine/quant/half.h engine/quant/micro.h engine/quant/tile.h engine/quant/encode.h engine/quant/encode_forms.h engine/quant/encode_kivi.h engine/quant/encode_sparse.h engine/quant/format.c \
	engine/quant/fp16.c engine/quant/fp8.c engine/quant/int8.c engine/quant/int4.c engine/quant/bf16.c \
	engine/quant/kivi.c engine/quant/sparse.c engine/quant/tile.c engine/quant/tile_forms.h engine/quant/tile_kivi.c \
	engine/quant/tile_sparse.c engine/quant/tile_channels.c \
	engine/quant/wide.h engine/quant/kernels_scalar.c
noinst_LTLIBRARIES += libwide_scalar.la
libwide_scalar_la_SOURCES = engine/quant/wide_kernels.c
libwide_scalar_la_CPPFLAGS = $(AM_CPPFLAGS) -DWIDE_TABLE=wide_scalar
libwide_scalar_la_CFLAGS = $(AM_CFLAGS) -Wno-psabi
libengine_la_LIBADD += libwide_scalar.la
if IS_X86
noinst_LTLIBRARIES += libwide_avx2.la libwide_avx512.la
libwide_avx2_la_SOURCES = engine/quant/wide_kernels.c engine/quant/wide_decode.c
libwide_avx2_la_CPPFLAGS = $(AM_CPPFLAGS) -DWIDE_TABLE=wide_avx2 -DWIDE_DECODE=wide_decode_avx2 -DDECODE_TABLE=wide_decode_avx2
libwide_avx2_la_CFLAGS = $(AM_CFLAGS) -Wno-psabi -mavx2 -mfma -mf16c
libwide_avx512_la_SOURCES = engine/quant/wide_kernels.c engine/quant/wide_decode.c
libwide_avx512_la_CPPFLAGS = $(AM_CPPFLAGS) -DWIDE_TABLE=wide_avx512 -DWIDE_DECODE=wide_decode_avx512 -DDECODE_TABLE=wide_decode_avx512
libwide_avx512_la_CFLAGS = $(AM_CFLAGS) -Wno-psabi -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq
libengine_la_LIBADD += libwide_avx2.la libwide_avx512.la
noinst_LTLIBRARIES += libmicro_avx2.la libmicro_avx512.la libmicro_avx512vbmi.la libmicro_avx512bf16.la
MICRO_AVX2_SOURCES = \
	engine/quant/fetch.h engine/quant/kernels_avx2.h engine/quant/kernels_avx2.c engine/quant/kernels_avx2_kivi.c \
	engine/quant/kernels_avx2_rows.c engine/quant/kernels_avx2_sparse.c engine/quant/kernels_avx2_words.h \
	engine/quant/kernels_avx2_bytes.c engine/quant/kernels_avx2_narrow.c engine/quant/kernels_avx2_pairs.c \
	engine/quant/kernels_avx2_joined.c engine/quant/kernels_avx2_fp8.c
libmicro_avx2_la_SOURCES = $(MICRO_AVX2_SOURCES) engine/quant/encode_avx2.c engine/quant/encode_avx2_forms.c \
	engine/quant/encode_avx2_sparse.c
libmicro_avx2_la_CFLAGS = $(AM_CFLAGS) -mavx2 -mfma -mf16c
MICRO_AVX512_CFLAGS = $(AM_CFLAGS) -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni
MICRO_AVX512_SOURCES = \
	engine/quant/fetch.h engine/quant/kernels_avx512.h engine/quant/kernels_avx512_dots.h engine/quant/kernels_avx512.c \
	engine/quant/kernels_avx512_int.c engine/quant/kernels_avx512_int8.c engine/quant/kernels_avx512_kivi.c \
	engine/quant/kernels_avx512_rows.c engine/quant/kernels_avx512_fp8.c engine/quant/kernels_avx512_sums.c engine/quant/kernels_avx512_narrow.c
libmicro_avx512_la_SOURCES = $(MICRO_AVX512_SOURCES) engine/quant/encode_avx512.c engine/quant/encode_avx512_forms.c \
	engine/quant/encode_avx512_sparse.c
libmicro_avx512_la_CFLAGS = $(MICRO_AVX512_CFLAGS)
libmicro_avx512vbmi_la_SOURCES = engine/quant/kernels_avx512_words.h engine/quant/kernels_avx512_sparse.h \
	engine/quant/kernels_avx512_vbmi.c engine/quant/kernels_avx512_sparse_words.c
libmicro_avx512vbmi_la_CFLAGS = $(MICRO_AVX512_CFLAGS) -mavx512vbmi -mavx512vbmi2
libmicro_avx512bf16_la_SOURCES = engine/quant/kernels_avx512_bf16.c engine/quant/kernels_avx512_sparse.h \
	engine/quant/kernels_avx512_sparse.c
libmicro_avx512bf16_la_CFLAGS = $(MICRO_AVX512_CFLAGS) -mavx512vbmi -mavx512vbmi2 -mavx512bf16
libengine_la_LIBADD += libmicro_avx2.la libmicro_avx512.la libmicro_avx512vbmi.la libmicro_avx512bf16.la
# Once more, fetching into the second-level cache: quant/fetch.h. Not with sanitizers, which take minutes to compile these.
if BOTH_FETCHES
noinst_LTLIBRARIES += libmicro_avx2_far.la libmicro_avx512_far.la libmicro_avx512vbmi_far.la libmicro_avx512bf16_far.la
libmicro_avx2_far_la_SOURCES = $(MICRO_AVX2_SOURCES)
libmicro_avx2_far_la_CPPFLAGS = $(AM_CPPFLAGS) -DFETCH_FAR
libmicro_avx2_far_la_CFLAGS = $(libmicro_avx2_la_CFLAGS)
libmicro_avx512_far_la_SOURCES = $(MICRO_AVX512_SOURCES)
libmicro_avx512_far_la_CPPFLAGS = $(AM_CPPFLAGS) -DFETCH_FAR
libmicro_avx512_far_la_CFLAGS = $(MICRO_AVX512_CFLAGS)
libmicro_avx512vbmi_far_la_SOURCES = $(libmicro_avx512vbmi_la_SOURCES)
libmicro_avx512vbmi_far_la_CPPFLAGS = $(AM_CPPFLAGS) -DFETCH_FAR
libmicro_avx512vbmi_far_la_CFLAGS = $(libmicro_avx512vbmi_la_CFLAGS)
libmicro_avx512bf16_far_la_SOURCES = $(libmicro_avx512bf16_la_SOURCES)
libmicro_avx512bf16_far_la_CPPFLAGS = $(AM_CPPFLAGS) -DFETCH_FAR
libmicro_avx512bf16_far_la_CFLAGS = $(libmicro_avx512bf16_la_CFLAGS)
libengine_la_LIBADD += libmicro_avx2_far.la libmicro_avx512_far.la libmicro_avx512vbmi_far.la libmicro_avx512bf16_far.la
endif
endif
