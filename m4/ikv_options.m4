# IKV_DEFAULT_CFLAGS: optimisation where the user gave no CFLAGS. Must come before AC_PROG_CC, which
# would choose -g -O2 for every kind of build.
AC_DEFUN([IKV_DEFAULT_CFLAGS], [
  AS_IF([test "x$enable_coverage" = xyes], [: ${CFLAGS="-g -O0"}],
    [test "x$enable_fuzz" = xyes], [: ${CFLAGS="-g -O1"}],
    [test "x$enable_sanitizers" != x && test "x$enable_sanitizers" != xno], [: ${CFLAGS="-g -O1"}],
    [: ${CFLAGS="-g -O2"}])
])

# IKV_OPTIONS: compiler settings and the --enable-* switches that change them.
AC_DEFUN([IKV_OPTIONS], [
  IKV_CFLAGS="-std=c17 -ffp-contract=off -fno-math-errno -fvisibility=hidden -pthread -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla"
  IKV_LDFLAGS=
  AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [warnings are errors])])
  AS_IF([test "x$enable_werror" = xyes], [IKV_CFLAGS="$IKV_CFLAGS -Werror"])

  AC_ARG_ENABLE([sanitizers], [AS_HELP_STRING([--enable-sanitizers@<:@=LIST@:>@], [build with -fsanitize=LIST (default address,undefined)])])
  AC_ARG_ENABLE([fuzz], [AS_HELP_STRING([--enable-fuzz], [instrument for libFuzzer; needs clang, used by make fuzz])])
  AS_CASE([x$enable_sanitizers],
    [x|xno], [sanitizers=],
    [xyes], [sanitizers=address,undefined],
    [sanitizers=$enable_sanitizers])
  FUZZ_LINK=
  AS_IF([test "x$enable_fuzz" = xyes], [
    AS_IF([test -z "$sanitizers"], [sanitizers=address,undefined])
    FUZZ_LINK="-fsanitize=fuzzer,$sanitizers"
    sanitizers="fuzzer-no-link,$sanitizers"
  ])
  AM_CONDITIONAL([BOTH_FETCHES], [test -z "$sanitizers"])
  AS_IF([test -z "$sanitizers"],
    [AC_DEFINE([BOTH_FETCHES], [1], [Define to 1 if the micro-kernels are there for both levels of cache (quant/fetch.h).])])
  sanitizers_text=no
  AS_IF([test -n "$sanitizers"], [
    sanitizer_flags="-fsanitize=$sanitizers"
    # What the undefined sanitizer finds must end the program, or a test would pass over it.
    AS_CASE([$sanitizers], [*undefined*], [sanitizer_flags="$sanitizer_flags -fno-sanitize-recover=undefined"])
    saved_cflags=$CFLAGS
    CFLAGS="$CFLAGS $sanitizer_flags $FUZZ_LINK"
    AC_MSG_CHECKING([whether $CC links with -fsanitize=$sanitizers])
    AS_IF([test -n "$FUZZ_LINK"],
      [AC_LINK_IFELSE([AC_LANG_SOURCE([[#include <stddef.h>
int LLVMFuzzerTestOneInput(const unsigned char *d, size_t n);
int LLVMFuzzerTestOneInput(const unsigned char *d, size_t n) { return d && n > 9999 ? -1 : 0; }]])],
        [links=yes], [links=no])],
      [AC_LINK_IFELSE([AC_LANG_PROGRAM([], [])], [links=yes], [links=no])])
    AC_MSG_RESULT([$links])
    CFLAGS=$saved_cflags
    AS_IF([test $links = no], [AC_MSG_ERROR([$CC cannot build with -fsanitize=$sanitizers; give another list, or another compiler by CC=])])
    sanitizers_text=$sanitizers
    IKV_CFLAGS="$IKV_CFLAGS $sanitizer_flags -fno-omit-frame-pointer"
    IKV_LDFLAGS="$IKV_LDFLAGS $sanitizer_flags"
  ])
  AM_CONDITIONAL([FUZZ], [test "x$enable_fuzz" = xyes])

  AC_ARG_ENABLE([coverage], [AS_HELP_STRING([--enable-coverage], [instrument for gcov; see make coverage])])
  coverage_text=no
  AS_IF([test "x$enable_coverage" = xyes], [
    coverage_text=yes
    IKV_CFLAGS="$IKV_CFLAGS --coverage"
    IKV_LDFLAGS="$IKV_LDFLAGS --coverage"
    AC_CHECK_PROGS([LCOV], [lcov])
    AC_CHECK_PROGS([GCOVR], [gcovr])
  ])
  AM_CONDITIONAL([COVERAGE], [test "x$enable_coverage" = xyes])
  AC_SUBST([IKV_CFLAGS])
  AC_SUBST([IKV_LDFLAGS])
  AC_SUBST([FUZZ_LINK])
  AC_SUBST([LCOV])
  AC_SUBST([GCOVR])
])
