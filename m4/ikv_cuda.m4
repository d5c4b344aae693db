# IKV_CUDA: --with-cuda[=DIR]; auto looks for nvcc, no builds the stub.
AC_DEFUN([IKV_CUDA], [
  AC_ARG_WITH([cuda], [AS_HELP_STRING([--with-cuda@<:@=DIR@:>@], [build the CUDA backend with the toolkit in DIR (default: auto)])],
    [], [with_cuda=auto])
  cuda_home=
  AS_CASE([$with_cuda],
    [no], [],
    [yes|auto], [for d in "$CUDA_HOME" /usr/local/cuda /usr; do
        AS_IF([test -n "$d" && test -x "$d/bin/nvcc" && test -z "$cuda_home"], [cuda_home=$d])
      done],
    [cuda_home=$with_cuda])
  AS_IF([test "$with_cuda" != no && test "$with_cuda" != auto && test ! -x "$cuda_home/bin/nvcc"],
    [AC_MSG_ERROR([--with-cuda: no nvcc found in "$cuda_home/bin"; give the toolkit's folder or use --without-cuda])])
  AC_SUBST([CUDA_HOME], [$cuda_home])
])
