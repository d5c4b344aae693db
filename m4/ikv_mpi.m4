# IKV_MPI: --with-mpi[=MPICC], off by default. The flags are those that MPI's compiler wrapper shows. Sets the
# conditional HAVE_MPI, MPI_CFLAGS, MPI_LIBS, and mpi_text for the summary.
AC_DEFUN([IKV_MPI], [
  AC_ARG_WITH([mpi], [AS_HELP_STRING([--with-mpi@<:@=MPICC@:>@], [let intentkv sweep run under mpirun and srun (default: no)])],
    [], [with_mpi=no])
  mpi_text=no
  MPI_CFLAGS= MPI_LIBS=
  AS_IF([test "$with_mpi" != no], [
    mpicc=$with_mpi
    AS_IF([test "$mpicc" = yes], [mpicc=mpicc])
    # Open MPI knows --showme, MPICH -compile_info and -link_info, which begin with the compiler's name.
    AS_IF([MPI_CFLAGS=`$mpicc --showme:compile 2>/dev/null`],
      [MPI_LIBS=`$mpicc --showme:link 2>/dev/null`],
      [MPI_CFLAGS=`$mpicc -compile_info 2>/dev/null | sed 's/^@<:@^ @:>@* //'`
       MPI_LIBS=`$mpicc -link_info 2>/dev/null | sed 's/^@<:@^ @:>@* //'`])
    saved_cflags=$CFLAGS saved_libs=$LIBS
    CFLAGS="$CFLAGS $MPI_CFLAGS" LIBS="$LIBS $MPI_LIBS"
    AC_MSG_CHECKING([whether a program builds with the flags of $mpicc])
    AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <mpi.h>]], [[return MPI_Init(0, 0);]])],
      [AC_MSG_RESULT([yes]); mpi_text=$mpicc],
      [AC_MSG_RESULT([no]); AC_MSG_ERROR([--with-mpi: $mpicc does not work; install Open MPI (Debian, Ubuntu: libopenmpi-dev openmpi-bin) or give its compiler wrapper])])
    CFLAGS=$saved_cflags LIBS=$saved_libs
    AC_DEFINE([HAVE_MPI], [1], [sweeps can be spread over MPI ranks])
  ])
  AM_CONDITIONAL([HAVE_MPI], [test "$mpi_text" != no])
  AC_SUBST([MPI_CFLAGS])
  AC_SUBST([MPI_LIBS])
])
