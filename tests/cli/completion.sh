#!/bin/sh
# Completion: what the program offers at the cursor, and that the scripts for bash and zsh offer the same.
. "${srcdir:-.}/tests/cli/tap.sh"
here=$PWD
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
plan 11
words() { ./intentkv completion words -- "$@" | cut -f1; }
# offers WANTED WORD...: WANTED is among what may stand in place of the last word.
offers() { want=$1; shift; words "$@" | grep -qxF -e "$want" || echo "$*: no $want"; }
lacks() { want=$1; shift; ! words "$@" | grep -qxF -e "$want" || echo "$*: $want"; }

none "every command is offered" "$(./intentkv --help | sed -n '/^commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p' |
	while read -r c; do offers "$c" ''; done; offers compare com; lacks plot com)"
none "options, long and short, and subcommands" "$(offers --format query x.db --fo; offers -f query x.db -; lacks --term query x.db --
	offers backup db ba; offers --plot bench attention --p; lacks --plot bench formats --; offers emit-slurm sweep e)"
none "values that a table lists" "$(offers jsonl query -f js; offers pdf plot --term p; offers --term=pdf plot --term=p
	offers time mrc --order ''; offers cpu calibrate --backend c; lacks csv lint --format '')"
none "policies, formats, models, importers and profiles" "$(offers lru mrc --policy l; offers fifo,lru mrc --policy fifo,l
	offers FP16,INT8 bench attention --format FP16,I; offers llama-3-8b size ll; offers mooncake import --from m
	offers coding-agent generate co; offers routers list r; offers semantic list routers s)"
none "keys of a scenario and their values" "$(offers router. run -s r; offers router.policy= run -s router.
	offers router.policy=quest run -s router.policy=; offers router.policy=quest,semantic sweep -x router.policy=quest,se
	offers formats.ladder=seed check --set formats.ladder=; offers --set=kv.source=synthetic run --set=kv.source=
	offers attention.execute=sampled run x.yaml -s attention.execute=s; offers seed= run -s se)"
none "queries and figures" "$(offers pareto query x.db pa; offers hit-rate plot x.db hit; offers roles plot x.db pareto ro
	lacks plot-time query x.db '')"
none "files of the kind that a command reads" "$(offers '*.yaml' run ''; offers '*.db' query ''; offers / plot x.db -o ''
	offers '*.db' run --db ''; offers '*' lint ''; lacks '*.yaml' query '')"
./intentkv run "${srcdir:-.}/tests/cli/tiny.yaml" --db "$d/tiny.db" --quiet 2>"$d/err"
none "the runs of the database" "$(offers 1 plot "$d/tiny.db" --run ''; offers "$d/tiny.db:1" compare "$d/tiny.db:")"

./intentkv completion bash >"$d/bash"
mkdir "$d/a folder.db"
touch "$d/a.db" "$d/a.yaml" "$d/b.db"
if command -v bash >/dev/null; then
	cat >"$d/try" <<'END'
script=$1 program=$2 COMP_LINE=$3 COMP_POINT=${#3}
. "$script"
intentkv() { "$program" "$@"; }
_intentkv
printf '%s\n' "${COMPREPLY[@]}"
END
	try() { (cd "$d" && bash try ./bash "$here/intentkv" "intentkv $1") | sort | tr '\n' ';'; }
	same() { [ "$(try "$1")" = "$2" ] || echo "$1: $(try "$1"), not $2"; }
	none "bash" "$(same com 'compare;completion;'; same 'plot x.db --term ' 'dumb;pdf;png;svg;'; same 'plot x.db --term=p' 'pdf;png;'
		same 'run -s router.policy=que' 'quest;'; same 'query ' 'a folder.db;a.db;b.db;tiny.db;'; same 'run a' 'a folder.db;a.yaml;'
		same 'run --db=b' 'b.db;'; same 'plot -o ' 'a folder.db;'; same 'compare tiny.db:' '1;'; same 'db ba' 'backup;')"
else
	skip "bash"
fi
./intentkv completion zsh >"$d/zsh"
if command -v zsh >/dev/null; then
	ok "the script for zsh is well formed" zsh -n "$d/zsh"
	# The builtins that show candidates, replaced by ones that print them.
	cat >"$d/tryz" <<'END'
script=$1 program=$2
shift 2
compadd() { local name=${@[-1]}; print -l -- ${(P)name} }
compset() { : }
_files() { print -- files $@ }
intentkv() { $program "$@" }
words=(intentkv "$@") CURRENT=$#words
. $script
END
	none "zsh" "$(got() { (cd "$d" && zsh -f tryz ./zsh "$here/intentkv" "$@") | sort | tr '\n' ';'; }
		same() { want=$1; shift; [ "$(got "$@")" = "$want" ] || echo "$*: $(got "$@"), not $want"; }
		same 'compare;completion;' com; same 'dumb;pdf;png;svg;' plot x.db --term ''; same 'router.policy=quest;' run -s router.policy=que
		same 'files -g *.db;' query ''; same 'files -/;' plot -o '')"
else
	skip "no zsh"
	skip "no zsh"
fi
