#!/bin/sh
# trace-stats and generate: statistics, figures, profiles fitted to traces and what comes out of them.
. "${srcdir:-.}/tests/cli/tap.sh"
shared=${INTENTKV_SHARED:-${srcdir:-.}/../shared}
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
p=./intentkv

# far FILE: lines of the table that --fit prints with a p50, p90 or p99 more than 10 % off, waits left out.
far() {
	awk '/^profile .*regenerates/ { inside = 1; next }
	inside && NF {
		if ($2 ~ /^p[0-9]+$/) { name = $1; level = $2 } else level = $1
		off = $(NF - 1) + 0
		if (name != "think_s" && level ~ /^p/) { n++; if (off > 10 || off < -10) print }
	}
	END { if (n < 9) print "only " n + 0 " figures" }' "$1"
}
# need PATH: is it there? If not, the test is skipped.
need() {
	[ -e "$shared/$1" ] || ! skip "no $1 in $shared"
}
refused() {
	want=$1
	shift
	got=$("$@" 2>&1 >/dev/null)
	case $got in *"$want"*) ;; *) echo "\"$got\" does not say \"$want\"" ;; esac
}

plan 14

for profile in agentic-code coding-agent; do
	$p generate $profile --count 60 --seed 3 -o "$d/$profile.jsonl" >"$d/made" 2>&1
	$p trace-stats "$d/$profile.jsonl" --fit "$d/twin.yaml" >"$d/read" 2>&1
	none "$profile: the file has the statistics that generate prints" "$(sed '/^profile /,$d' "$d/read" | sed '$d' |
		diff "$d/made" - 2>&1)"
	none "$profile: a fitted profile comes within 10 %" "$(far "$d/read")"
done
$p generate agentic-code --count 60 --seed 3 -o "$d/again.jsonl" >/dev/null
ok "the same seed writes the same file" cmp "$d/again.jsonl" "$d/agentic-code.jsonl"

cat >"$d/twin-scenario.yaml" <<Y
intentkv: 1
name: twin
sessions: {source: generate, profile: $d/twin.yaml, count: 2}
Y
ok "a scenario takes a fitted profile" $p check --allow-path "$d/twin-scenario.yaml"

$p trace-stats "$d/agentic-code.jsonl" --format json >"$d/json"
if command -v python3 >/dev/null; then
	ok "the JSON has its keys" python3 -c '
import json, sys
o = json.load(open(sys.argv[1]))
for key in ("input", "output", "turns", "think_s", "session_gap_s", "request_gap_s", "prefix_hit", "growth",
            "references_per_block"):
    assert set(o[key]) == {"count", "mean", "min", "p50", "p90", "p99", "max"}, key
assert o["format"] == "generate" and o["sessions"] == 60 and o["requests"] == o["input"]["count"]
assert abs(sum(r["share"] for r in o["roles"].values()) - 1) < 1e-9
b = o["blocks"]
assert b["block_tokens"] == 512 and b["hits"] == b["references"] - b["unique"] > 0
# The first layer is in every request: a block of it is asked for by each.
assert o["references_per_block"]["max"] == o["requests"], o["references_per_block"]
' "$d/json"
else
	skip "no python3 to read the JSON"
fi

if command -v gnuplot >/dev/null; then
	$p trace-stats "$d/agentic-code.jsonl" -o "$d/figures" >/dev/null 2>"$d/err"
	none "five figures are drawn" "$(grep -v "svg$" "$d/err"; for f in lengths turns think roles reuse; do
		[ -s "$d/figures/trace-$f.svg" ] || echo "no trace-$f.svg"; done)"
else
	skip "no gnuplot"
fi

none "wrong command lines are answered" "$(
	refused 'expected table or json' $p trace-stats x --format xml
	refused 'expected one file or folder' $p trace-stats
	refused 'expected one profile' $p generate
	refused 'presets are' $p generate nobody
	refused 'expected a number from 1' $p generate coding-agent --count 0
	refused 'cannot be read' $p trace-stats "$d/none.jsonl"
	refused 'Is a directory' $p trace-stats "$d/agentic-code.jsonl" --fit "$d"
)"
none "wrong profiles are answered" "$(
	printf 'model: request\n' >"$d/bad.yaml"
	refused 'bad.yaml:1:8: model: found "request", expected one of pieces, requests, agentic-code; did you mean "requests"?' \
		$p generate "$d/bad.yaml"
	sed 's/^version: 1/version: 2/' "$d/twin.yaml" >"$d/bad.yaml"
	refused 'version: ' $p generate "$d/bad.yaml"
	sed 's/^turns: {quantiles: .*/turns: {quantiles: [[0.5, 3], [0.4, 4],/' "$d/twin.yaml" >"$d/bad.yaml"
	refused 'turns: pair 2 is out of order' $p generate "$d/bad.yaml"
	sed 's/^max_prompt_tokens: .*/max_prompt_tokens: 52000/' "${srcdir:-.}/scenarios/profiles/agentic-code.yaml" >"$d/bad.yaml"
	refused 'max_prompt_tokens: found 52000, expected more than' $p generate "$d/bad.yaml"
	sed 's/^p_compaction: .*/p_compaction: 1.5/' "${srcdir:-.}/scenarios/profiles/agentic-code.yaml" >"$d/bad.yaml"
	refused 'p_compaction' $p generate "$d/bad.yaml"
)"
sed 's/^user_tokens: .*/user_tokens: {choice: [[7, 1], [9, 3]]}/; s/^turns: .*/turns: {quantiles: [[0, 2], [1, 2]]}/' \
	"${srcdir:-.}/scenarios/profiles/customer-service.yaml" >"$d/own.yaml"
$p generate "$d/own.yaml" --count 4 -o "$d/own.jsonl" >"$d/out" 2>&1
none "pieces take choice and quantiles" "$(
	grep -Eq '^requests +8$' "$d/out" || cat "$d/out"
	grep -o '"append":"user","tokens":[0-9]*' "$d/own.jsonl" | grep -Ev ':(7|9)$')"

for trace in mooncake/synthetic_trace.jsonl weka tau-bench/gpt-4o-airline.dev.json; do
	need traces/$trace || continue
	$p trace-stats "$shared/traces/$trace" --fit "$d/twin.yaml" >"$d/out" 2>&1
	none "a profile fitted to $trace comes within 10 %" "$(far "$d/out"
		[ $trace != mooncake/synthetic_trace.jsonl ] || for line in 'input +3993 +15325\.5 .* 11587 +38615 +66458 .*' \
			'output +3993 +149\.119 .*' 'block references +121877 of 512 tokens' 'unique blocks +43924' \
			'prefix hits +77953 \(63\.96 %\)'; do
			grep -Eqx "$line" "$d/out" || echo "no line: $line"
		done)"
done
