# Page formats and their micro-kernels: one library per instruction set, each with its own flags.
libengine_la_SOURCES += \
	engine/quant/codec.h engine/quant/half.h engine/quant/micro.h engine/quant/format.c \
	engine/quant/fp16.c engine/quant/fp8.c engine/quant/int8.c engine/quant/int4.c engine/quant/kernels_scalar.c
if IS_X86
noinst_LTLIBRARIES += libmicro_avx2.la
libmicro_avx2_la_SOURCES = engine/quant/kernels_avx2.c
libmicro_avx2_la_CFLAGS = $(AM_CFLAGS) -mavx2 -mfma -mf16c
libengine_la_LIBADD += libmicro_avx2.la
endif
