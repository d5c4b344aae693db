#!/bin/sh
# Decode attention beside ggml's: sh tests/bench/ggml_attention.sh [THREADS [SECONDS [TOKENS ...]]], in a build tree.
# GGML_DIR names ggml's sources. Without it they are taken from the source package of llama-cpp-python, which carries
# them (50 MB, by pip). GGML_BUILD (default ggml-build) keeps what is built. Needs cmake, a C and a C++ compiler.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
engine=$here/../../engine
build=${GGML_BUILD:-ggml-build}
[ -f .libs/libengine.a ] || { echo "ggml_attention.sh: no .libs/libengine.a: run it where intentkv was built" >&2; exit 2; }
mkdir -p "$build"
build=$(cd "$build" && pwd)
if [ -z "${GGML_DIR:-}" ]; then
	GGML_DIR=$(find "$build" -maxdepth 5 -path '*/vendor/llama.cpp/ggml' -type d | head -n 1)
	if [ -z "$GGML_DIR" ]; then
		pip download -q --no-deps --no-binary :all: llama-cpp-python -d "$build" || {
			echo "ggml_attention.sh: no sources of ggml: set GGML_DIR" >&2; exit 2; }
		tar -C "$build" -xzf "$build"/llama_cpp_python-*.tar.gz
		GGML_DIR=$(find "$build" -maxdepth 5 -path '*/vendor/llama.cpp/ggml' -type d | head -n 1)
	fi
fi
if [ ! -f "$build/lib/ggml/src/libggml-cpu.a" ]; then
	printf 'cmake_minimum_required(VERSION 3.14)\nproject(ggml_alone C CXX)\nadd_subdirectory(%s ggml)\n' \
		"$GGML_DIR" > "$build/CMakeLists.txt"
	cmake -S "$build" -B "$build/lib" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_OPENMP=OFF \
		-DGGML_NATIVE=ON > "$build/cmake.log"
	make -C "$build/lib" ggml-cpu ggml-base > "$build/make.log" 2>&1 || { tail "$build/make.log" >&2; exit 1; }
fi
${CC:-cc} -O2 -std=gnu17 -I"$engine" -I"$GGML_DIR/include" "$here/ggml_attention.c" -o "$build/ggml_attention" \
	.libs/libengine.a "$build/lib/ggml/src/libggml-cpu.a" "$build/lib/ggml/src/libggml-base.a" -lstdc++ -lm -lpthread
sed -n 's/^set(GGML_VERSION_\([MP][A-Z]*\) *\([0-9]*\)).*/\1 \2/p' "$GGML_DIR/CMakeLists.txt" |
	awk '{v = v (NR > 1 ? "." : "") $2} END {print "ggml " v}'
echo "load: $(cut -d ' ' -f 1-3 /proc/loadavg 2>/dev/null || uptime)"
exec "$build/ggml_attention" "$@"
