#!/bin/sh
# Builds of the engine against each other, by turns: sh tests/bench/attention_by_turns.sh BUILD[@ISA] BUILD[@ISA] ...
# A BUILD is a folder in which intentkv was built; @ISA takes another instruction set than the best one (avx2:far).
# FORMATS (default "FP16 INT8 INT4"), TIME (10 seconds), TOKENS (32768), PAGE (16) and THREADS (1) in the environment. Run it
# more than once: a process's memory can be slower to read than that of the next one.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] || { sed -n '2,5s/^# //p' "$0" >&2; exit 2; }
first=${1%@*}
[ -f "$first/.libs/libintentkv.so" ] || { echo "attention_by_turns.sh: no .libs/libintentkv.so in $first" >&2; exit 2; }
program=$(mktemp)
trap 'rm -f "$program"' EXIT
${CC:-cc} -O2 -std=gnu17 -I"$here/../../engine" "$here/attention_by_turns.c" -o "$program" \
	-L"$first/.libs" -Wl,-rpath,"$(cd "$first/.libs" && pwd)" -lintentkv -ldl -lm
for format in ${FORMATS:-FP16 INT8 INT4}; do
	"$program" "$format" "${TIME:-10}" "${TOKENS:-32768}" "${PAGE:-16}" "${THREADS:-1}" "$@"
done
