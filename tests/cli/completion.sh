#!/bin/sh
# Completion: the scripts are well formed, know every command, and offer no option that the program refuses.
. "${srcdir:-.}/tests/cli/tap.sh"
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
p=./intentkv
plan 6
$p completion bash >"$d/bash" && $p completion zsh >"$d/zsh"
if command -v bash >/dev/null; then
	ok "the script for bash is well formed" bash -n "$d/bash"
	cat >"$d/try" <<'END'
. "$1"
shift
COMP_WORDS=(intentkv "$@") COMP_CWORD=$#
_intentkv
printf '%s\n' "${COMPREPLY[@]}"
END
	none "it completes commands, options and values" "$(
		try() { want=$1; shift; bash "$d/try" "$d/bash" "$@" | grep -qx -e "$want" || echo "$*: no $want"; }
		try compare com; try explain ex; try --format query --fo; try jsonl query --format js; try pareto query x.db pa
		try hit-rate plot x.db hit; try pdf plot --term p; try backup db ba; try zsh completion z; try --session explain --s)"
	none "it offers files of the kind that a command reads" "$(cd "$d" && touch a.db a.yaml && bash try ./bash query a |
		grep -vx a.db; bash try ./bash run a | grep -vx a.yaml)"
else
	skip "no bash"
	skip "no bash"
	skip "no bash"
fi
if command -v zsh >/dev/null; then
	ok "the script for zsh is well formed" zsh -n "$d/zsh"
else
	skip "no zsh"
fi
commands=$($p --help | sed -n '/^commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
none "both know every command" "$(for c in $commands; do grep -q "^	$c) options=" "$d/bash" || echo "bash: $c"
	grep -q "^	$c)\$" "$d/zsh" || echo "zsh: $c"; done)"
refused() {
	for c in $commands; do
		sed -n "s/^	$c) options='\([^']*\)'.*/\1/p" "$d/bash" | tr ' ' '\n' | grep -vx -e -h -e --help -e '' | while read -r o; do
			case $c in bench) part=gpu ;; sweep) part=emit-slurm ;; *) part= ;; esac # options of one part alone
			$p $c $o </dev/null 2>&1 | grep -q 'unknown option' || continue
			[ "$part" ] && ! $p $c $part $o </dev/null 2>&1 | grep -q 'unknown option' || echo "$c $o: unknown"
		done
	done
}
none "the program takes every option that is offered" "$(refused)"
