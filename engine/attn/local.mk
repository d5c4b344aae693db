# Attention: reference, CPU backend, exact store. The fixed-lane kernels are one source compiled for each ISA.
libengine_la_SOURCES += \
	engine/attn/geometry.h engine/attn/geometry.c engine/attn/slab.h engine/attn/slab.c \
	engine/attn/crew.h engine/attn/crew.c engine/attn/flash.h engine/attn/flash.c \
	engine/attn/flash_walk.h engine/attn/flash_walk.c \
	engine/attn/join.h engine/attn/join.c engine/attn/wide.h engine/attn/wide.c engine/attn/wide_item.c \
	engine/attn/lanes.h engine/attn/lanes_vec.h engine/attn/isa.h engine/attn/isa.c \
	engine/attn/kivi_store.h engine/attn/kivi.c engine/attn/kivi_attend.c \
	engine/attn/exact_store.h engine/attn/exact.c engine/attn/exact_attend.c \
	engine/attn/store.h engine/attn/store.c engine/attn/store_check.c engine/attn/ref.c engine/attn/cpu.c engine/attn/ranges.c

noinst_LTLIBRARIES += liblanes_scalar.la
liblanes_scalar_la_SOURCES = engine/attn/lanes_kernels.c engine/attn/lanes_products.c
liblanes_scalar_la_CPPFLAGS = $(AM_CPPFLAGS) -DLANES_TABLE=lanes_scalar -DLANES_ISA=scalar
liblanes_scalar_la_CFLAGS = $(AM_CFLAGS)
libengine_la_LIBADD += liblanes_scalar.la
if IS_X86
noinst_LTLIBRARIES += liblanes_avx2.la liblanes_avx512.la
liblanes_avx2_la_SOURCES = engine/attn/lanes_kernels.c engine/attn/lanes_products.c
liblanes_avx2_la_CPPFLAGS = $(AM_CPPFLAGS) -DLANES_TABLE=lanes_avx2 -DLANES_ISA=avx2
liblanes_avx2_la_CFLAGS = $(AM_CFLAGS) -mavx2 -mfma -mf16c
liblanes_avx512_la_SOURCES = engine/attn/lanes_kernels.c engine/attn/lanes_products.c
liblanes_avx512_la_CPPFLAGS = $(AM_CPPFLAGS) -DLANES_TABLE=lanes_avx512 -DLANES_ISA=avx512
liblanes_avx512_la_CFLAGS = $(AM_CFLAGS) -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512vl
libengine_la_LIBADD += liblanes_avx2.la liblanes_avx512.la
endif
