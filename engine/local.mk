# libintentkv: the engine. libengine is the same code with every symbol visible, for tests.
nobase_include_HEADERS =
include_HEADERS = engine/intentkv.h
pkgincludedir_parts = $(includedir)/intentkv
ikvparts_HEADERS = \
	engine/intentkv/alloc.h engine/intentkv/attn.h engine/intentkv/cost.h engine/intentkv/error.h \
	engine/intentkv/exact.h engine/intentkv/format.h engine/intentkv/kivi.h engine/intentkv/ladder.h engine/intentkv/layout.h \
	engine/intentkv/memory.h engine/intentkv/mla.h engine/intentkv/option.h engine/intentkv/plan.h engine/intentkv/prefetch.h engine/intentkv/ranges.h \
	engine/intentkv/residency.h engine/intentkv/rng.h engine/intentkv/rope.h engine/intentkv/router.h engine/intentkv/scorer.h \
	engine/intentkv/specattn.h
ikvpartsdir = $(includedir)/intentkv

noinst_LTLIBRARIES += libengine.la
libengine_la_SOURCES = \
	engine/alloc.c engine/error.c engine/rng.c engine/detmath.c engine/option.c
libengine_la_LIBADD = -lm
lib_LTLIBRARIES += libintentkv.la
libintentkv_la_SOURCES =
libintentkv_la_LIBADD = libengine.la
libintentkv_la_LDFLAGS = $(AM_LDFLAGS) -version-info 0:0:0 -no-undefined -pthread

include engine/quant/local.mk
include engine/attn/local.mk
include engine/mla/local.mk
include engine/router/local.mk
include engine/scorer/local.mk
include engine/prefetch/local.mk
include engine/residency/local.mk
