# IKV_CUDA: --with-cuda[=DIR]. "auto", the default, takes a toolkit that is there and works; "yes" or a
# folder makes its absence an error; "no" builds the stub. Sets the conditional HAVE_CUDA, NVCC,
# CUDA_CPPFLAGS, CUDA_LIBS, and cuda_text for the summary. Nothing here needs a GPU.
AC_DEFUN([IKV_CUDA], [
  AC_ARG_WITH([cuda], [AS_HELP_STRING([--with-cuda@<:@=DIR@:>@], [build the CUDA part with the toolkit in DIR (default: auto)])],
    [], [with_cuda=auto])
  AC_ARG_VAR([NVCCFLAGS], [flags for nvcc: device architectures and optimisation])
  AC_ARG_VAR([CUDA_HOME], [folder of the CUDA toolkit])
  # sm_80 and sm_90 as machine code; anything newer compiles the PTX of 9.0 when it is loaded.
  : ${NVCCFLAGS="-O2 -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=@<:@sm_90,compute_90@:>@"}
  NVCC=
  cuda_why=
  AS_CASE([$with_cuda],
    [no], [cuda_why="configured --without-cuda"],
    [yes|auto], [
      path_nvcc=`command -v nvcc 2>/dev/null`
      AS_IF([test -n "$path_nvcc"], [path_nvcc=`readlink -f "$path_nvcc"`; path_home=`dirname "$path_nvcc"`/..], [path_home=])
      for dir in "$CUDA_HOME" "$path_home" /usr/local/cuda /opt/cuda /usr; do
        AS_IF([test -n "$dir" && test -x "$dir/bin/nvcc" && test -z "$NVCC"], [CUDA_HOME=$dir; NVCC=$dir/bin/nvcc])
      done
      AS_IF([test -z "$NVCC"], [cuda_why="configure found no nvcc"])],
    [CUDA_HOME=$with_cuda
      AS_IF([test -x "$with_cuda/bin/nvcc"], [NVCC=$with_cuda/bin/nvcc], [cuda_why="no nvcc in $with_cuda/bin"])])

  AS_IF([test -n "$NVCC"], [
    cuda_libdir=$CUDA_HOME/lib64
    AS_IF([test -e "$cuda_libdir/libcudart_static.a"], [], [cuda_libdir=$CUDA_HOME/lib])
    CUDA_CPPFLAGS="-isystem $CUDA_HOME/include"
    CUDA_LIBS="-L$cuda_libdir -lcudart_static -lstdc++ -ldl -lrt -lpthread"
    # One real compile and link: a toolkit may be there without its runtime, or refuse the host compiler
    # or an architecture.
    AC_MSG_CHECKING([whether $NVCC works])
    cat >conftest.cu <<_ACEOF
#include <cuda_runtime_api.h>
__global__ void kernel(int *p) { *p = 1; }
extern "C" int conftest(void) { kernel<<<1, 1>>>((int *)0); return (int)cudaGetLastError(); }
_ACEOF
    echo 'int conftest(void); int main(void) { return conftest(); }' >conftest.c
    AS_IF([$NVCC $NVCCFLAGS -c conftest.cu -o conftest_cu.o >&AS_MESSAGE_LOG_FD 2>&1 &&
           $CC $CFLAGS conftest.c conftest_cu.o $CUDA_LIBS -o conftest >&AS_MESSAGE_LOG_FD 2>&1],
      [AC_MSG_RESULT([yes])],
      [AC_MSG_RESULT([no])
       cuda_why="$NVCC cannot build a program (see config.log)"
       NVCC=])
    rm -f conftest conftest.c conftest.cu conftest_cu.o
  ])
  AS_IF([test -z "$NVCC" && test "$with_cuda" != no && test "$with_cuda" != auto],
    [AC_MSG_ERROR([--with-cuda: $cuda_why; give the toolkit's folder, or use --without-cuda])])
  AS_IF([test -n "$NVCC"], [
      cuda_release=`$NVCC --version | sed -n 's/.*release \(@<:@0-9.@:>@*\).*/\1/p'`
      cuda_text="$cuda_release, $NVCC"
      AC_DEFINE([HAVE_CUDA], [1], [the CUDA part is built])
    ], [
      cuda_text="no: $cuda_why"
      CUDA_CPPFLAGS= CUDA_LIBS=
      AC_DEFINE_UNQUOTED([CUDA_WHY_NOT], ["$cuda_why"], [why the CUDA part is not built])
    ])
  AM_CONDITIONAL([HAVE_CUDA], [test -n "$NVCC"])
  AC_SUBST([NVCC])
  AC_SUBST([CUDA_CPPFLAGS])
  AC_SUBST([CUDA_LIBS])
])
