# IKV_OPTIONS: compiler settings and the --enable-* switches that change them.
AC_DEFUN([IKV_OPTIONS], [
  IKV_CFLAGS="-std=c17 -ffp-contract=off -fno-math-errno -fvisibility=hidden -pthread -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla"
  AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [warnings are errors])])
  AS_IF([test "x$enable_werror" = xyes], [IKV_CFLAGS="$IKV_CFLAGS -Werror"])
  AC_ARG_ENABLE([sanitizers], [AS_HELP_STRING([--enable-sanitizers@<:@=LIST@:>@], [build with -fsanitize=LIST (default address,undefined)])])
  AS_CASE([x$enable_sanitizers],
    [x|xno], [],
    [xyes], [IKV_CFLAGS="$IKV_CFLAGS -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"],
    [IKV_CFLAGS="$IKV_CFLAGS -fsanitize=$enable_sanitizers -fno-omit-frame-pointer"])
  AC_ARG_ENABLE([coverage], [AS_HELP_STRING([--enable-coverage], [instrument for gcov; see make coverage])])
  AS_IF([test "x$enable_coverage" = xyes], [IKV_CFLAGS="$IKV_CFLAGS --coverage -O0"])
  AM_CONDITIONAL([COVERAGE], [test "x$enable_coverage" = xyes])
  AC_SUBST([IKV_CFLAGS])
])
