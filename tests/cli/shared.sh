#!/bin/sh
# Reference material that is not part of the distribution: routing cases of an independent implementation, published
# facts of a trace, recorded attention, real conversations.
. "${srcdir:-.}/tests/cli/tap.sh"
shared=${INTENTKV_SHARED:-${srcdir:-.}/../shared}
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
unset INTENTKV_ISA
p=./intentkv

ask() { $p query "$1" --sql "$2" --format csv --no-header | tr -d '\r"'; }
# need PATH: is it there? If not, the test is skipped.
need() {
	[ -e "$shared/$1" ] || ! skip "no $1 in $shared"
}

plan 4

if need golden/routing.json; then
	if command -v python3 >/dev/null; then
		cat >"$d/compare.py" <<'P'
import json, subprocess, sys
program, golden, folder = sys.argv[1:]
cases = json.load(open(golden))["routing"]
assert len(cases) == 150, len(cases)
bad = 0
for i, case in enumerate(cases):
    path = f"{folder}/case-{i}.json"
    json.dump(case, open(path, "w"))
    run = subprocess.run([program, "route", path, "--format", "json"], capture_output=True, text=True)
    want, problems = case["expect"], []
    if run.returncode:
        problems.append(run.stderr)
    else:
        got = json.loads(run.stdout)
        found = {
            "decision": {b["name"]: b["decision"] for b in got["blocks"]},
            "precision": {b["name"]: b["precision"] for b in got["blocks"]},
            "selected_pages": [p["id"] for p in got["pages"]],
            "selected_tokens": got["summary"]["selected_tokens"],
            "precision_tokens": got["summary"]["precision_tokens"],
        }
        problems += [f"{k}: {v}, expected {want[k]}" for k, v in found.items() if v != want[k]]
    if problems:
        bad += 1
        print(f"case {i}:", *problems, sep="\n  ")
sys.exit(bad > 0)
P
		ok "route agrees with all 150 routing cases" python3 "$d/compare.py" $p "$shared/golden/routing.json" "$d"
	else
		skip "no python3 to compare the routing cases"
	fi
fi

if need traces/mooncake/synthetic_trace.jsonl; then
	$p import "$shared/traces/mooncake/synthetic_trace.jsonl" >"$d/out" 2>&1
	none "import prints the published facts of the Mooncake trace" "$(for line in 'requests +3993' 'block references +121877' \
		'unique blocks +43924' 'prefix hits +77953 \(63\.96 %\)'; do
		grep -Eqx "$line" "$d/out" || echo "no line: $line"; done)"
fi

# Mass in the best 5 % of pages of each KV head, as the recording's makers computed it.
if need captures/tau-bench-session.safetensors; then
	$p run --quiet --no-plots --db "$d/c.db" "${srcdir:-.}/scenarios/captured-session.yaml" \
		-s kv.path="$shared/captures/tau-bench-session.safetensors" \
		-s 'sweep={router.policy: [oracle], router.budget: [5%]}' >"$d/out" 2>&1
	none "the oracle keeps the recorded mass" "$(cat "$d/out"; ask "$d/c.db" \
		"SELECT layer, avg(mass_recall) FROM step_layer GROUP BY layer ORDER BY layer" |
		awk -F, 'BEGIN { split("3 5 7", layer, " "); split(".8663 .8162 .7478", want, " ") }
		{ d = $2 - want[NR]; if ($1 != layer[NR] || d > .001 || d < -.001) print "layer " $1 ": " $2 ", expected " want[NR] }
		END { if (NR != 3) print NR " layers" }')"
fi

if need traces/tau-bench/gpt-4o-airline.dev.json; then
	$p run --quiet --no-plots --db "$d/t.db" "${srcdir:-.}/scenarios/trace-openai-chat.yaml" \
		-s sessions.path="$shared/traces/tau-bench/gpt-4o-airline.dev.json" -s sessions.limit=3 \
		-s sessions.max_decode_tokens=40 -s attention.every=40 >"$d/out" 2>&1
	none "three real conversations run under every router" "$(cat "$d/out"; ask "$d/t.db" \
		"SELECT router || ' ' || count(*) FROM run JOIN step USING (run_id) WHERE status = 'done' GROUP BY run_id" |
		sort | tr '\n' ' ' | grep -vx 'dense 120 oracle 120 quest 120 semantic 120 streaming 120 ')"
fi
