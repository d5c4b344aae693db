# The CUDA part. Whatever links it takes $(GPU_LIBS). A build without CUDA has the stub, which says why.
noinst_LTLIBRARIES += libgpu.la
libgpu_la_SOURCES = gpu/gpu.h gpu/backend.h gpu/bench_gpu.h gpu/attend.h gpu/split.c gpu/split.h gpu/gpu_tile.c gpu/gpu_tile.h \
	gpu/tile_place.h gpu/moves.c gpu/moves.h gpu/mla.h gpu/mla_tile.c gpu/mla_tile.h gpu/select.h gpu/summary.c gpu/summary.h
libgpu_la_CPPFLAGS = $(AM_CPPFLAGS) $(CUDA_CPPFLAGS)
ATTEND_PARTS = \
	gpu/attend.h gpu/attend_code.cuh gpu/attend_feed.cuh gpu/attend_kernel.cuh gpu/attend_more.cuh gpu/attend_ptx.cuh gpu/attend_query.cuh \
	gpu/attend_stream.cuh gpu/attend_tile.cuh gpu/attend_width.h gpu/gpu_tile.h
MLA_PARTS = gpu/attend.h gpu/attend_ptx.cuh gpu/gpu_tile.h gpu/mla.h gpu/mla_copy.cuh gpu/mla_part.cuh gpu/mla_ptx.cuh gpu/mla_ring.cuh gpu/mla_score.cuh gpu/mla_tile.h
EXTRA_DIST += $(MLA_PARTS) gpu/mla.cu gpu/mla_hopper.cu gpu/mla_portable.cu gpu/mla_bench.cu gpu/bench_products.cu
EXTRA_DIST += $(ATTEND_PARTS) gpu/attend.cu gpu/attend_width.cu gpu/bench.cu gpu/move.cu gpu/move.h gpu/encode.cu gpu/encode.h gpu/probe.cu gpu/probe.h gpu/select.cu gpu/cosine.cu
if HAVE_CUDA
libgpu_la_SOURCES += \
	gpu/backend_cuda.c gpu/call.c gpu/call.h gpu/decode.c gpu/decode.h gpu/device.c gpu/device.h gpu/pages.c gpu/pages.h gpu/pages_check.c \
	gpu/pages_recode.c gpu/tier.c gpu/tier.h gpu/probe.c gpu/bench_gpu.c gpu/bench_move.c gpu/bench_move.h gpu/bench_replay.c gpu/bench_replay.h gpu/bench.h gpu/mla_bench.c gpu/mla_bench.h gpu/mla_decode.c gpu/mla_decode.h \
	gpu/selection.c gpu/selection.h gpu/select_bench.c gpu/select_bench.h
CUDA_OBJECTS = \
	gpu/probe_device.o gpu/move_device.o gpu/encode_device.o gpu/attend_device.o gpu/attend_4.o gpu/attend_5.o gpu/attend_6.o \
	gpu/attend_8.o gpu/attend_16.o gpu/bench_device.o gpu/select_device.o gpu/cosine_device.o \
	gpu/mla_device.o gpu/mla_plain.o gpu/mla_codes.o gpu/mla_portable.o gpu/mla_bench_device.o gpu/bench_products.o
GPU_LIBS = libgpu.la $(CUDA_OBJECTS) $(CUDA_LIBS)
CLEANFILES += $(CUDA_OBJECTS)

# Device code goes into the program alone, never into libintentkv, so a position-independent object is
# enough and libtool is not asked to drive nvcc.
AM_V_NVCC = $(am__v_NVCC_@AM_V@)
am__v_NVCC_ = $(am__v_NVCC_@AM_DEFAULT_V@)
am__v_NVCC_0 = @echo "  NVCC    " $@;
am__v_NVCC_1 =
CUDA_COMPILE = $(MKDIR_P) gpu && $(NVCC) $(NVCCFLAGS) -std=c++17 -Xcompiler -fPIC,-fno-exceptions,-fno-rtti \
	-I$(srcdir) -I$(srcdir)/engine
gpu/probe_device.o: gpu/probe.cu gpu/probe.h
	$(AM_V_NVCC)$(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/probe.cu
gpu/move_device.o: gpu/move.cu gpu/move.h
	$(AM_V_NVCC)$(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/move.cu
gpu/select_device.o: gpu/select.cu gpu/select.h gpu/attend.h gpu/attend_ptx.cuh
	$(AM_V_NVCC)$(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/select.cu
gpu/cosine_device.o: gpu/cosine.cu gpu/select.h gpu/attend.h gpu/attend_ptx.cuh
	$(AM_V_NVCC)$(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/cosine.cu
gpu/encode_device.o: gpu/encode.cu gpu/encode.h gpu/tile_place.h gpu/gpu_tile.h gpu/mla_tile.h gpu/attend.h
	$(AM_V_NVCC)$(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/encode.cu
gpu/attend_device.o: gpu/attend.cu $(ATTEND_PARTS)
	$(AM_V_NVCC)$(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/attend.cu
ATTEND_COMPILE = $(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/attend_width.cu -DATTEND_STEPS
gpu/attend_4.o: gpu/attend_width.cu $(ATTEND_PARTS)
	$(AM_V_NVCC)$(ATTEND_COMPILE)=4
gpu/attend_5.o: gpu/attend_width.cu $(ATTEND_PARTS)
	$(AM_V_NVCC)$(ATTEND_COMPILE)=5
gpu/attend_6.o: gpu/attend_width.cu $(ATTEND_PARTS)
	$(AM_V_NVCC)$(ATTEND_COMPILE)=6
gpu/attend_8.o: gpu/attend_width.cu $(ATTEND_PARTS)
	$(AM_V_NVCC)$(ATTEND_COMPILE)=8
gpu/attend_16.o: gpu/attend_width.cu $(ATTEND_PARTS)
	$(AM_V_NVCC)$(ATTEND_COMPILE)=16

gpu/mla_device.o: gpu/mla.cu $(MLA_PARTS)
	$(AM_V_NVCC)$(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/mla.cu
gpu/mla_portable.o: gpu/mla_portable.cu $(MLA_PARTS)
	$(AM_V_NVCC)$(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/mla_portable.cu
# Warpgroup instructions are in code for 9.0a alone, which no other device runs.
HOPPER_COMPILE = $(MKDIR_P) gpu && $(NVCC) -O2 -gencode arch=compute_90a,code=sm_90a -std=c++17 \
	-Xcompiler -fPIC,-fno-exceptions,-fno-rtti -I$(srcdir) -I$(srcdir)/engine -c -o $@
gpu/mla_plain.o: gpu/mla_hopper.cu $(MLA_PARTS)
	$(AM_V_NVCC)$(HOPPER_COMPILE) $(srcdir)/gpu/mla_hopper.cu -DMLA_CODES=0
gpu/mla_codes.o: gpu/mla_hopper.cu $(MLA_PARTS)
	$(AM_V_NVCC)$(HOPPER_COMPILE) $(srcdir)/gpu/mla_hopper.cu -DMLA_CODES=1
gpu/bench_products.o: gpu/bench_products.cu gpu/bench.h gpu/mla_ptx.cuh gpu/attend_ptx.cuh
	$(AM_V_NVCC)$(HOPPER_COMPILE) $(srcdir)/gpu/bench_products.cu
gpu/mla_bench_device.o: gpu/mla_bench.cu gpu/mla_bench.h gpu/mla_tile.h gpu/gpu_tile.h
	$(AM_V_NVCC)$(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/mla_bench.cu

# Against the reference backend; needs a device, so it is no part of `make check`.
noinst_PROGRAMS += gpu_check
gpu_check_SOURCES = gpu/gpu_check.c gpu/select_check.c gpu/select_check.h gpu/store_check.c gpu/store_check.h
gpu_check_LDADD = libgpu.la $(CUDA_OBJECTS) libengine.la $(CUDA_LIBS) -lm
gpu/bench_device.o: gpu/bench.cu gpu/bench.h gpu/gpu_tile.h gpu/attend_ptx.cuh
	$(AM_V_NVCC)$(CUDA_COMPILE) -c -o $@ $(srcdir)/gpu/bench.cu
gpu-check: gpu_check
	./gpu_check
else
libgpu_la_SOURCES += gpu/backend.c gpu/stub.c
EXTRA_DIST += gpu/gpu_check.c gpu/select_check.c gpu/select_check.h gpu/store_check.c gpu/store_check.h gpu/bench_gpu.c gpu/bench_move.c gpu/bench_move.h gpu/bench_replay.c gpu/bench_replay.h gpu/bench.h gpu/mla_bench.c gpu/mla_bench.h gpu/mla_decode.c gpu/mla_decode.h \
	gpu/backend_cuda.c gpu/call.c gpu/call.h gpu/decode.c gpu/decode.h gpu/device.c gpu/device.h gpu/pages.c gpu/pages.h gpu/pages_check.c \
	gpu/pages_recode.c gpu/tier.c gpu/tier.h gpu/probe.c \
	gpu/selection.c gpu/selection.h gpu/select_bench.c gpu/select_bench.h
GPU_LIBS = libgpu.la
gpu-check:
	@echo "gpu-check: skipped: a build without CUDA"; exit 77
endif
.PHONY: gpu-check
