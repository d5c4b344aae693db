#!/bin/sh
# Rules of the source tree: which folder may depend on what, sizes, names, exported symbols. Works in a
# checkout and in a release tarball alike.
. "${srcdir:=.}/tests/cli/tap.sh"
: "${CC:=cc}" "${NM:=nm}"
build=$PWD
cd "$srcdir" || exit 99
: "${HEADER_CPPFLAGS:=-Iengine -I. -I$build}"
plan 15

folders=
for folder in engine gpu db sim plots scenarios machines docs tests bindings; do
	[ -d $folder ] && folders="$folders $folder"
done
sources() { find "$@" \( -name '*.c' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) | sort; }

# Lines "file:name" of the #include <name> (first argument a) or "name" (q) in files below the other arguments.
includes() {
	case $1 in
	a) pattern='s/^\([^:]*\):[ \t]*#[ \t]*include[ \t]*<\([^>]*\)>.*/\1:\2/p' ;;
	q) pattern='s/^\([^:]*\):[ \t]*#[ \t]*include[ \t]*"\([^"]*\)".*/\1:\2/p' ;;
	esac
	shift
	sources "$@" | xargs grep -H '^[[:space:]]*#[[:space:]]*include' | sed -n "$pattern"
}

# Project headers that files of folder $1 include from outside the folders in the other arguments. A name is
# looked up as the compiler does: beside the file, then in engine/, then in the root.
outside() {
	from=$1
	shift
	{ includes q $from; includes a $from; } | while IFS=: read -r file name; do
		[ "$name" != config.h ] || continue # configure's, in the root of a build made in the source folder
		for candidate in "${file%/*}/$name" "engine/$name" "$name"; do
			[ -f "$candidate" ] || continue
			top=$(printf '%s\n' "$candidate" | awk -F/ '{
				n = 0
				for (i = 1; i <= NF; i++) {
					if ($i == "..") n--
					else if ($i != ".") part[++n] = $i
				}
				print part[1]
			}')
			case " $* " in *" $top "*) ;; *) echo "$file includes $name" ;; esac
			break
		done
	done
}

none "engine depends on nothing else of the project" "$(outside engine engine)"
none "gpu depends on engine only" "$(outside gpu gpu engine)"
none "db depends on engine only" "$(outside db db engine)"
none "sim depends on db, gpu and engine" "$(outside sim sim db gpu engine)"

# What engine/ may take from the system: the C library, threads, and what the micro-kernels need.
allowed=" assert.h ctype.h errno.h float.h inttypes.h limits.h math.h pthread.h sched.h stdalign.h stdarg.h
stdatomic.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h strings.h sys/mman.h unistd.h
immintrin.h cpuid.h arm_neon.h config.h intentkv.h "
allowed=$(echo $allowed)
none "engine includes system headers of libc, libm and pthreads only" "$(includes a engine |
	while IFS=: read -r file name; do
		case $name in intentkv/*) continue ;; esac
		case " $allowed " in *" $name "*) ;; *) echo "$file includes <$name>" ;; esac
	done)"

elsewhere() { { includes a engine gpu db sim; includes q engine gpu db sim; } | grep -E "$1" | grep -Ev "$2"; }
none "yaml.h only in the scenario reader" "$(elsewhere ':yaml\.h$' '^sim/(yaml|scenario|scenario_yaml)\.c:')"
none "sqlite3.h only in db" "$(elsewhere ':sqlite3(ext)?\.h$' '^db/')"
none "CUDA headers only in gpu" "$(elsewhere ':(cuda|cublas|nvml|nvrtc|cooperative_groups)[a-z_0-9]*\.h$' '^gpu/')"

none "every header compiles alone" "$(sources engine gpu db sim tests | grep '\.h$' | while read -r header; do
	$CC -std=c17 -D_GNU_SOURCE -fsyntax-only -x c $HEADER_CPPFLAGS -include "./$header" /dev/null 2>&1 ||
		echo "$header does not compile alone"
done)"

none "no file longer than 600 lines" "$({
	find $folders ! -name '*_sql.c' \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' -o -name '*.mk' -o -name '*.py' \)
	ls configure.ac Makefile.am bootstrap m4/ikv_*.m4
} | while read -r file; do
	lines=$(wc -l <"$file")
	[ "$lines" -le 600 ] || echo "$file: $lines lines"
done)"

# Spelled so that this file does not find itself.
markers='TO''DO|FIX''ME|XX''X'
none "no notes of unfinished work" "$(find $folders m4/ikv_*.m4 configure.ac Makefile.am bootstrap README.md \
	-type f \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' -o -name '*.sh' -o -name '*.mk' -o -name '*.py' \
	-o -name '*.m4' -o -name '*.md' -o -name '*.ac' -o -name '*.am' -o -name '*.sql' -o -name '*.yaml' \
	-o -name bootstrap \) -exec grep -nEw "$markers" {} +)"

none "no catch-all files" "$(find $folders -type f | grep -E '/(utils?|common|misc|helpers?)\.[a-z0-9]+$')"

library=$build/.libs/libintentkv.so
if [ -e "$library" ] && $NM "$library" 2>/dev/null | grep -q ' __gcov_'; then
	# gcov's own runtime is linked in, and it writes files.
	skip "libintentkv exports ikv_ symbols only: instrumented for coverage"
	skip "libintentkv prints nothing: instrumented for coverage"
	skip "the program uses what libintentkv exports: instrumented for coverage"
elif [ -e "$library" ]; then
	none "libintentkv exports ikv_ symbols only" "$($NM -D --defined-only "$library" | awk '{print $NF}' |
		sed 's/@.*//' | grep -Ev '^(ikv_|_init$|_fini$|_edata$|_end$|__bss_start$|__(odr_asan|asan|ubsan|tsan|gcov)|___asan)')"
	# What the objects really call, so that neither a macro nor a comment can hide or fake a use.
	none "libintentkv prints nothing, and uses no file, clock, environment or exit" "$(
		$NM -D --undefined-only "$library" | awk '{print $NF}' | sed 's/@.*//; s/^__\(.*\)_chk$/\1/' |
			grep -Ex 'v?f?printf|v?dprintf|puts|putchar|putc|fput[cs]|fputc|fwrite|fread|perror|std(in|out|err)|write|read|fopen(64)?|fdopen|freopen(64)?|open(64)?|openat(64)?|popen|mmap(64)?|system|fork|exec.*|_?exit|_Exit|quick_exit|atexit|abort|(secure_)?getenv|setenv|putenv|time|clock|clock_gettime|gettimeofday|timespec_get|s?rand(om)?|signal|sigaction')"
	none "the program uses what libintentkv exports, nothing else of the engine" "$({
		$NM -D --defined-only "$library" | awk '{ print "exported", $NF }'
		$NM --defined-only "$build/.libs/libengine.a" | awk 'NF == 3 { print "engine", $NF }'
		$NM --undefined-only "$build"/.libs/libsim.a "$build"/.libs/libdb.a "$build"/sim/intentkv-*.o |
			awk 'NF == 2 { print "used", $NF }'
	} | awk '{ is[$1, $2] = 1 } $1 == "used" { used[$2] = 1 }
		END { for (name in used) if (is["engine", name] && !is["exported", name]) print name }')"
else
	skip "libintentkv exports ikv_ symbols only: no shared library in this build"
	skip "libintentkv prints nothing: no shared library in this build"
	skip "the program uses what libintentkv exports: no shared library in this build"
fi
