# The CUDA part. Whatever links it takes $(GPU_LIBS). A build without CUDA has the stub, which says why.
noinst_LTLIBRARIES += libgpu.la
libgpu_la_SOURCES = gpu/gpu.h gpu/backend.c gpu/backend.h
libgpu_la_CPPFLAGS = $(AM_CPPFLAGS) $(CUDA_CPPFLAGS)
EXTRA_DIST += gpu/probe.cu
if HAVE_CUDA
libgpu_la_SOURCES += gpu/probe.c gpu/probe.h
CUDA_OBJECTS = gpu/probe_device.o
GPU_LIBS = libgpu.la $(CUDA_OBJECTS) $(CUDA_LIBS)
CLEANFILES += $(CUDA_OBJECTS)

# Device code goes into the program alone, never into libintentkv, so a position-independent object is
# enough and libtool is not asked to drive nvcc.
AM_V_NVCC = $(am__v_NVCC_@AM_V@)
am__v_NVCC_ = $(am__v_NVCC_@AM_DEFAULT_V@)
am__v_NVCC_0 = @echo "  NVCC    " $@;
am__v_NVCC_1 =
gpu/probe_device.o: gpu/probe.cu gpu/probe.h
	@$(MKDIR_P) gpu
	$(AM_V_NVCC)$(NVCC) $(NVCCFLAGS) -std=c++17 -Xcompiler -fPIC,-fno-exceptions,-fno-rtti -I$(srcdir) -c -o $@ $(srcdir)/gpu/probe.cu
else
libgpu_la_SOURCES += gpu/stub.c
GPU_LIBS = libgpu.la
endif
