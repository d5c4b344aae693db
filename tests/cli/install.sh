#!/bin/sh
# Install into an empty folder, build a program against what is there by pkg-config, uninstall: nothing is
# left behind.
. "${srcdir:=.}/tests/cli/tap.sh"
: "${CC:=cc}" "${MAKE:=make}"
plan 5

unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR
root=$(mktemp -d) || exit 99
trap 'rm -rf "$root"' EXIT
prefix=/opt/intentkv
cat >"$root/program.c" <<'C'
#include <intentkv.h>
#include <string.h>
int main(void)
{
	struct ikv_err err = {0};
	const char *const words[] = {"router", "scorer"};
	const char *near = ikv_nearest("ruoter", words, 2);
	return ikv_err_set(&err, IKV_USAGE, "%d", 7) != -1 || strcmp(err.text, "7") || !near || strcmp(near, "router");
}
C

variables="prefix=$prefix exec_prefix=$prefix bindir=$prefix/bin libdir=$prefix/lib includedir=$prefix/include"
variables="$variables datadir=$prefix/share datarootdir=$prefix/share mandir=$prefix/share/man"
variables="$variables docdir=$prefix/share/doc/intentkv pkgconfigdir=$prefix/lib/pkgconfig"
# The .pc file is made by configure for the configured prefix, so the one to test is made again for this one.
ok "make install" $MAKE -s install DESTDIR="$root/dest" $variables
ok "the program and its manual are there" test -x "$root/dest$prefix/bin/intentkv" -a \
	-f "$root/dest$prefix/share/man/man1/intentkv.1" -a -f "$root/dest$prefix/share/man/man1/intentkv-sweep.1"

pc=$root/dest$prefix/lib/pkgconfig/intentkv.pc
static=
[ -e "$root/dest$prefix/lib/libintentkv.so" ] || static=--static
compile() {
	sed -i -e "s|^prefix=.*|prefix=$root/dest$prefix|" -e 's|^exec_prefix=.*|exec_prefix=${prefix}|' \
		-e 's|^libdir=.*|libdir=${prefix}/lib|' -e 's|^includedir=.*|includedir=${prefix}/include|' "$pc" &&
		flags=$(PKG_CONFIG_PATH=${pc%/*} PKG_CONFIG_LIBDIR=${pc%/*} pkg-config $static --cflags --libs intentkv) &&
		$CC $IKV_CFLAGS "$root/program.c" -o "$root/program" $flags
}
if command -v pkg-config >/dev/null; then
	ok "a program builds with what pkg-config says" compile
	ok "and runs" env LD_LIBRARY_PATH="$root/dest$prefix/lib" "$root/program"
else
	skip "no pkg-config on this machine"
	skip "no pkg-config on this machine"
fi

$MAKE -s uninstall DESTDIR="$root/dest" $variables >/dev/null 2>&1
none "make uninstall leaves nothing behind" "$(find "$root/dest" ! -type d)"
