#!/bin/sh
# The program as a user meets it: a sweep over routers and formats, and every command on its results.
. "${srcdir:-.}/tests/cli/tap.sh"
src=${srcdir:-.}
tiny=$src/tests/cli/tiny.yaml
errors=$src/tests/errors
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
unset INTENTKV_ISA
p=./intentkv
db=$d/r.db

ask() { $p query "$db" --sql "$1" --format csv --no-header | tr -d '\r"'; }
# is DESCRIPTION EXPECTED SQL
is() { none "$1" "$(got=$(ask "$3" 2>&1); [ "$got" = "$2" ] || echo "got $got, expected $2: $3")"; }

# A sweep over the routers; pages stay as they are.
$p run --quiet --no-plots --db "$db" "$tiny" -s router.share=layer -s router.dense_layers=0 -s memory.demote=false \
	-s 'sweep={router.policy: [dense, recency, streaming, random, quest, semantic, oracle]}' >"$d/out" 2>"$d/err"
none "a sweep over all routers runs, and --quiet says nothing" "$([ $? -eq 0 ] || echo failed; cat "$d/out" "$d/err")"
is "there are seven runs, all done" 7,7 "SELECT count(*), sum(status = 'done') FROM run"
is "every run has every decoded token as a step" 0 "SELECT count(*) FROM run r WHERE
	(SELECT count(*) FROM step WHERE run_id = r.run_id) <> (SELECT sum(decoded_tokens) FROM session WHERE run_id = r.run_id)"
is "steps are numbered without holes" 0 "SELECT count(*) FROM (SELECT count(*) AS n, max(step) - min(step) + 1 AS m
	FROM step GROUP BY run_id, session HAVING n <> m)"
is "every step was measured" 0 "SELECT count(*) FROM step WHERE mass_by <> 'measured' OR rel_l2 IS NULL"
is "sessions are the same for all routers" 3 "SELECT count(*) FROM (SELECT DISTINCT session, id, appended_tokens FROM session)"
r="FROM step JOIN run USING (run_id) WHERE"
is "dense selects everything" 0 "SELECT count(*) $r router = 'dense' AND selected_tokens <> context_tokens"
is "dense has all mass" 0 "SELECT count(*) $r router = 'dense' AND abs(mass_recall - 1) > 1e-6"
is "dense in FP16 has no error" 0 "SELECT count(*) $r router = 'dense' AND rel_l2 > 1e-6"
is "no router selects more than there is" 0 "SELECT count(*) $r selected_tokens > context_tokens OR selected_pages > pages
	OR selected_blocks > blocks"
is "recall lies between 0 and 1" 0 "SELECT count(*) $r NOT mass_recall BETWEEN 0 AND 1 + 1e-6"
is "routers other than dense leave pages out" 6 "SELECT count(*) FROM (SELECT router, sum(selected_pages) AS s, sum(pages) AS p
	$r router <> 'dense' GROUP BY router HAVING s < p)"
is "a read is whole pages: at least what was asked for in FP16, at most a page more" 0 "SELECT count(*) $r
	router <> 'semantic' AND NOT read_bytes BETWEEN request_bytes AND request_bytes + 2 * 16 * dense_bytes / context_tokens"
is "selections read less than dense" 6 "SELECT count(*) FROM (SELECT sum(read_bytes) AS s, sum(dense_bytes) AS p
	$r router <> 'dense' GROUP BY router HAVING s < p)"
is "without a slower tier every page is a hit" 0 "SELECT count(*) FROM step WHERE miss_pages > 0 OR fetch_bytes > 0"
is "pages of both layers are counted" 0 "SELECT count(*) FROM step WHERE hit_pages <> 2 * selected_pages"
is "in every step the oracle keeps more mass than any router that reads no more" 0 "SELECT count(*)
	FROM step a JOIN run o ON o.run_id = a.run_id AND o.router = 'oracle' JOIN step b USING (session, step)
	WHERE b.selected_pages <= a.selected_pages AND b.mass_recall > a.mass_recall + 1e-6"
is "roles add up to the selection" 0 "SELECT count(*) FROM (SELECT abs(sum(r.tokens) - s.context_tokens) AS a, abs(sum(r.mass) - 1) AS b
	FROM step s JOIN step_role r USING (run_id, session, step) GROUP BY run_id, session, step) WHERE a > 0 OR b > 1e-6"

# Formats: everything selected, so that only the precision differs.
db=$d/f.db
$p run --quiet --no-plots --db "$db" "$tiny" -s memory.demote=false \
	-s 'sweep={router.policy: [dense], router.format: [FP16, FP8, INT8, INT4, INT4_RESIDUAL,
		BF16, KIVI8, KIVI4, KIVI2, SPARSE]}' >"$d/out" 2>&1
none "a sweep over the formats runs" "$([ $? -eq 0 ] || cat "$d/out")"
f="(SELECT substr(point, instr(point, 'format=') + 7) AS name, avg(rel_l2) AS e, sum(read_bytes) AS b
	FROM step JOIN run USING (run_id) GROUP BY run_id)"
is "fewer bits, fewer bytes" INT4,INT8,INT4_RESIDUAL,FP16 "SELECT group_concat(name) FROM
	(SELECT name FROM $f WHERE name IN ('INT4', 'INT8', 'INT4_RESIDUAL', 'FP16') ORDER BY b)"
is "and more error" FP16,INT4_RESIDUAL,INT8,FP8,INT4 "SELECT group_concat(name) FROM (SELECT name FROM $f
	WHERE name NOT LIKE 'KIVI%' AND name NOT IN ('BF16', 'SPARSE') ORDER BY e)"
is "BF16 takes as many bytes as FP16 and errs little" 1 "SELECT a.b = c.b AND c.e BETWEEN 1e-5 AND 0.01
	FROM $f a JOIN $f c ON a.name = 'FP16' AND c.name = 'BF16'"
is "KIVI takes more bytes and errs less with more bits" KIVI2,KIVI4,KIVI8/KIVI8,KIVI4,KIVI2 "SELECT
	(SELECT group_concat(name) FROM (SELECT name FROM $f WHERE name LIKE 'KIVI%' ORDER BY b)) || '/' ||
	(SELECT group_concat(name) FROM (SELECT name FROM $f WHERE name LIKE 'KIVI%' ORDER BY e))"
is "SPARSE errs most" SPARSE "SELECT name FROM $f ORDER BY e DESC LIMIT 1"
is "FP16 has none" 1 "SELECT e < 1e-6 FROM $f WHERE name = 'FP16'"
is "INT8 has little" 1 "SELECT e BETWEEN 1e-4 AND 0.03 FROM $f WHERE name = 'INT8'"

# KIVI by the ladder, and demotions that stay within KIVI.
db=$d/k.db
$p run --quiet --no-plots --db "$db" "$tiny" -s formats.ladder=kivi8 -s memory.floor=KIVI2 -s memory.demote_cold_after_steps=2 \
	-s memory.page_tokens=32 -s router.top_k_blocks=1 >"$d/out" 2>&1
none "a ladder of KIVI8 runs" "$([ $? -eq 0 ] || cat "$d/out")"
is "its pages are KIVI8, and KIVI4 or KIVI2 when they are cold" 1 "SELECT sum(pages_kivi8) > 0 AND sum(pages_kivi4) > 0 AND
	sum(pages_kivi2) > 0 AND sum(pages_int8 + pages_fp8 + pages_int4 + pages_int4_residual + pages_sparse + pages_bf16) = 0
	FROM step"

# The attention of prompts.
db=$d/p.db
for on in true false; do
	$p sweep --db "$db" "$tiny" -s attention.prefill=$on -s attention.every=4 -s cost.prefill_flops_per_s=1e12 \
		-x attention.execute=sampled,full >"$d/out" 2>&1 || cp "$d/out" "$d/failed"
done
none "runs with and without prefill end" "$(cat "$d/failed" 2>/dev/null)"
is "every appended token was a prompt's, in the runs that ask for it" 2,2 "SELECT count(*), sum(tokens = appended) FROM
	(SELECT run_id, sum(tokens) AS tokens FROM prefill GROUP BY 1) JOIN
	(SELECT run_id, sum(appended_tokens) AS appended FROM session GROUP BY 1) USING (run_id)"
is "prompts are timed, beside the model's time for the same and for the whole" 0 "SELECT count(*) FROM prefill
	WHERE NOT (wall_ns > 0 AND sim_executed_ns BETWEEN 1 AND sim_ns AND flops > 0 AND context_tokens >= tokens AND rel_l2 BETWEEN 0 AND 1)"
is "the first prompt, all of it FP16, has no error" 0 "SELECT count(*) FROM prefill WHERE prompt = 0 AND rel_l2 > 1e-5"
ok "query prefill shows them" sh -c "$p query '$db' prefill --param run=all --format csv | tail -n +2 | grep -c . | grep -qx 2"
none "hashes are the same with and without" "$($p runs "$db" --hash | cut -f 2 | sort | uniq -c | awk '$1 % 2')"

# Pressure: a fast tier that holds a part of the sessions.
db=$d/m.db
$p run --quiet --no-plots --db "$db" "$tiny" -s router.memory_pressure=auto -s memory.demote_cold_after_steps=2 \
	-s record.page_events=true -s record.block_events=true \
	-s 'memory.tiers=[{name: hbm, capacity: 96KiB}, {name: host, capacity: unbounded}]' \
	-s 'sweep={prefetch.policy: [none, frequency], attention.execute: ["off", full]}' >"$d/out" 2>&1
none "runs under pressure end" "$([ $? -eq 0 ] || cat "$d/out")"
is "pages move" 4 "SELECT count(*) FROM (SELECT 1 FROM step GROUP BY run_id HAVING sum(evictions) > 0 AND sum(miss_pages) > 0
	AND sum(fetch_bytes + streamed_bytes) > 0)"
is "and are re-encoded" 4 "SELECT count(*) FROM (SELECT 1 FROM step GROUP BY run_id HAVING sum(demotions) > 0)"
is "the fast tier is never over its capacity" 0 "SELECT count(*) FROM step WHERE fast_bytes > 98304"
is "the log of moves has every fetched byte" 0 "SELECT count(*) FROM (SELECT run_id, sum(fetch_bytes) AS b FROM step GROUP BY 1)
	JOIN (SELECT run_id, sum(bytes) AS e FROM page_event WHERE move = 'fetch' GROUP BY 1) USING (run_id) WHERE b <> e"
is "decisions are logged for every step" 0 "SELECT count(*) FROM step s WHERE NOT EXISTS (SELECT 1 FROM block_event b
	WHERE b.run_id = s.run_id AND b.session = s.session AND b.step = s.step)"
is "without execution the mass is modelled" 2 "SELECT count(*) FROM (SELECT run_id FROM step WHERE mass_by = 'model' GROUP BY run_id)"

# query
json() {
	if command -v python3 >/dev/null; then python3 -c 'import json, sys; json.load(sys.stdin)'; else grep -q '^\['; fi
}
bad=
for name in $($p query --list | awk '{ print $1 }'); do
	$p query "$db" $name --format json | json || bad="$bad $name:json"
	$p query "$db" $name --format csv >"$d/out" && head -1 "$d/out" | grep -q , || bad="$bad $name:csv"
	$p query "$db" $name --format markdown | sed -n 2p | grep -q '^|[-:|]*|' || bad="$bad $name:markdown"
	$p query "$db" $name >"$d/out" && [ -s "$d/out" ] || bad="$bad $name:table"
done
none "every named query answers in every format" "$bad"
$p query "$db" >"$d/out"
none "query alone shows three tables" "$(for t in Runs 'By policy' 'By role'; do grep -qx "$t" "$d/out" || echo "no $t"; done)"
ok "runs lists the runs" sh -c "$p runs '$db' --format csv | grep -c frequency | grep -qx 2"
$p runs "$db" --hash >"$d/out"
none "runs --hash has a hash for each" "$(grep -Ecv '^[0-9]+	[0-9a-f]{32}$' "$d/out" | grep -v '^0$'; [ "$(wc -l <"$d/out")" -eq 4 ] || cat "$d/out")"

# plot, and run with plots
if command -v gnuplot >/dev/null; then
	$p plot "$db" -o "$d/plots" >"$d/out" 2>"$d/err"
	none "plot draws every figure" "$([ $? -eq 0 ] || cat "$d/err"; for f in $($p plot --list | awk '{ print $1 }'); do
		grep -Eq "^intentkv: the runs have no data for: (.*, )?$f(,|\$)" "$d/err" && continue
		for e in gp tsv svg; do [ -s "$d/plots/$f.$e" ] || echo "no $f.$e"; done; done)"
	$p run --db "$d/g.db" -o "$d/figures" "$tiny" >"$d/out" 2>"$d/err"
	none "run leaves figures and says where" "$([ $? -eq 0 ] || cat "$d/err"; ls "$d/figures"/*.svg >/dev/null
		grep -q "recorded in $d/g.db; plots in $d/figures" "$d/out" || cat "$d/out")"
else
	skip "gnuplot is not installed"
	skip "gnuplot is not installed"
fi

# list, check, doctor
for t in sections sources scorers routers prefetchers residencies ladders formats importers models backends machines kinds; do
	none "list $t" "$([ "$($p list $t | wc -l)" -gt 1 ] || echo empty)"
done
none "list has them all" "$($p list >"$d/out"; [ "$(grep -c '^[a-z]* (' "$d/out")" -eq 13 ] || cat "$d/out")"
ok "list routers semantic shows its options" sh -c "$p list routers semantic | grep -q score_threshold"
ok "check passes the scenarios that need nothing" $p check "$src/scenarios/quickstart.yaml" \
	"$src/scenarios/customer-service.yaml" "$src/scenarios/long-research-128k.yaml" "$src/scenarios/memory-pressure.yaml" "$src/scenarios/host-tier.yaml"
ok "and those that need a trace" $p check -s sessions.path=t "$src/scenarios/trace-mooncake.yaml" \
	"$src/scenarios/trace-openai-chat.yaml" "$src/scenarios/trace-weka.yaml"
ok "and the one that needs a recording" $p check -s kv.path=t "$src/scenarios/captured-session.yaml"
ok "check --params says where a setting is from" sh -c "$p check --params '$tiny' -s seed=9 | grep -Eq '^seed +9 +command-line$'"
ok "doctor is content" sh -c "INTENTKV_DATADIR='$src' $p doctor | grep -q '^ok *backend cpu'"

# route
$p route "$errors/route/good.yaml" --format json >"$d/out"
if command -v python3 >/dev/null; then
	ok "route prints blocks, pages, prefetch_pages and summary" python3 -c 'import json, sys
r = json.load(open(sys.argv[1]))
assert list(r) == ["blocks", "pages", "prefetch_pages", "summary"], list(r)
assert [b["decision"] for b in r["blocks"]] == ["PIN_HIGH_PRECISION", "QUANTIZE", "SKIP"]
assert r["summary"]["selected_tokens"] == 200 == sum(p["hi"] - p["lo"] for p in r["pages"])' "$d/out"
else
	ok "route prints blocks, pages, prefetch_pages and summary" sh -c "grep -q '\"blocks\"' '$d/out' && grep -q '\"pages\"' '$d/out' &&
		grep -q '\"prefetch_pages\"' '$d/out' && grep -q '\"selected_tokens\": 200' '$d/out'"
fi
ok "and a table" sh -c "$p route '$errors/route/good.yaml' | grep -q 'selected: 200 of 256 tokens, 13 of 16 pages'"

# import: a trace and its sessions give the same run.
for f in good-mooncake.jsonl:mooncake good-weka.json:weka good-chat.jsonl:openai-chat good-intentkv.jsonl:intentkv \
	good-swe.traj:swe-agent good-lmcache.jsonl:lmcache-agentic good-otel.jsonl:otel-genai; do
	format=${f#*:} f=$errors/trace/${f%:*}
	$p import "$f" -o "$d/$format.jsonl" >"$d/out" 2>"$d/err"
	none "import $format" "$([ $? -eq 0 ] && grep -Eq '^sessions +[1-9]' "$d/out" || cat "$d/out" "$d/err")"
	db=$d/$format.db
	$p run --quiet --no-plots --db "$db" "$tiny" -s sessions.source=trace -s sessions.format=$format -s sessions.path="$f"
	$p run --quiet --no-plots --db "$db" "$tiny" -s sessions.source=trace -s sessions.path="$d/$format.jsonl"
	$p runs "$db" --hash | cut -f 2 >"$d/hashes"
	none "$format: the sessions that were written give the same run" \
		"$([ "$(wc -l <"$d/hashes")" -eq 2 ] && [ "$(uniq "$d/hashes" | wc -l)" -eq 1 ] || cat "$d/hashes")"
done
echo "1..$number"
