#!/bin/sh
# Figures of a tiny scenario against values worked out by hand; tests/cli/semantics.yaml says what it is.
. "${srcdir:-.}/tests/cli/tap.sh"
scenario=${srcdir:-.}/tests/cli/semantics.yaml
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
unset INTENTKV_ISA
p=./intentkv
db=
plays=0

# play DESCRIPTION OPTIONS...: a run of its own; $db is its database.
play() {
	text=$1
	plays=$((plays + 1))
	db=$d/$plays.db
	shift
	$p run --quiet --no-plots --db "$db" "$scenario" "$@" >"$d/out" 2>&1
	none "$text" "$([ $? -eq 0 ] || { echo "failed: $*"; cat "$d/out"; })"
}
ask() { $p query "$db" --sql "$1" --format csv --no-header | tr -d '\r"'; }
# is DESCRIPTION EXPECTED SQL
is() { none "$1" "$(got=$(ask "$3" 2>&1); [ "$got" = "$2" ] || echo "got $got, expected $2: $3")"; }
tight='memory.tiers=[{name: hbm, capacity: 256KiB}, {name: host, capacity: unbounded}]'
routers='sweep={router.policy: [dense, recency, streaming, random, quest, semantic, oracle]}'
closed='context_tokens / 16' open='context_tokens % 16 * 4096'

# Dense.
play "dense runs"
is "contexts are those of the events" 111,122,106,121,129,357 "SELECT
	max(CASE WHEN session = 0 AND step = 0 THEN context_tokens END), max(CASE WHEN session = 0 AND step = 11 THEN context_tokens END),
	max(CASE WHEN session = 0 AND step = 12 THEN context_tokens END), max(CASE WHEN session = 0 AND step = 27 THEN context_tokens END),
	max(CASE WHEN session = 1 AND step = 0 THEN context_tokens END), max(CASE WHEN session = 1 AND step = 28 THEN context_tokens END) FROM step"
is "dense reads every token once, 4096 bytes each" 0 "SELECT count(*) FROM step WHERE NOT (dense_bytes = 4096 * context_tokens
	AND read_bytes = dense_bytes AND request_bytes = dense_bytes AND selected_tokens = context_tokens)"
is "two groups of pages, all in the fast tier" 0 "SELECT count(*) FROM step WHERE NOT (hit_pages = 2 * ((context_tokens + 15) / 16)
	AND miss_pages = 0 AND fast_bytes >= 65536 * ((context_tokens + 15) / 16))"
is "dense is exact but for the order of its sums, after the compaction too" 0 "SELECT count(*) FROM step WHERE rel_l2 > 2e-6 OR abs(mass_recall - 1) > 1e-6"
is "time: 1000 + 8 (100 + 10) of overhead, 1 ns per 1000 bytes read" 0 "SELECT count(*) FROM step WHERE
	abs(sim_overhead_ns - 1880) > 1e-6 OR abs(sim_attention_ns - read_bytes / 1000.0) > 1e-6 OR abs(sim_weights_ns - 1000) > 1e-6
	OR abs(sim_total_ns - 2880 - read_bytes / 1000.0) > 1e-6 OR abs(sim_dense_ns - sim_total_ns) > 1e-6"
is "roles of a session without gaps have all mass and all bytes" 0 "SELECT count(*) FROM (SELECT abs(sum(mass) - 1) AS m,
	abs(sum(mass_selected) - mass_recall) AS r, sum(q.read_bytes) - s.read_bytes AS b, sum(q.hit_pages) - s.hit_pages AS h
	FROM step s JOIN step_role q USING (run_id, session, step) WHERE session = 1 GROUP BY step)
	WHERE m > 1e-6 OR r > 1e-6 OR b <> 0 OR h <> 0"
is "tokens of a gap belong to no role" 7 "SELECT min(context_tokens - t) FROM step JOIN (SELECT session, step, sum(tokens) AS t
	FROM step_role GROUP BY session, step) USING (session, step) WHERE session = 0 AND step < 12"
play "arithmetic limits attention" -s cost.flops_per_s=1e9
is "4 · 8 heads · 64 · 8 layers = 16384 FLOPs a token" 0 "SELECT count(*) FROM step WHERE
	abs(sim_attention_ns - 16384.0 * context_tokens) > 1e-3"
play "pages of one token" -s memory.page_tokens=1
is "dense is exact where a gap has pages of its own" 0 "SELECT count(*) FROM step WHERE rel_l2 > 2e-6 OR read_bytes <> dense_bytes"

# Formats: rows of 64 values take 128 B, 66 B, 66 B, 40 B and 72 B; the unfilled page is FP16. K of KIVI in pages of 16
# tokens takes 16 bytes of parameters a token and V 8, so both together 2 · 12 beside the codes.
for f in FP8:66 INT8:66 INT4:40 INT4_RESIDUAL:72 BF16:128 KIVI8:76 KIVI4:44 KIVI2:28 SPARSE:40; do
	play "${f%:*} runs" -s router.format=${f%:*}
	is "${f%:*} reads rows of ${f#*:} bytes and the last page in FP16" 0 "SELECT count(*) FROM step WHERE
		read_bytes <> $closed * 16 * 32 * ${f#*:} + $open"
done
play "INT8 runs once more" -s router.format=INT8
is "encoding is charged once for each page, 33792 bytes, 10 ns per 1000 bytes" 0 "SELECT count(*) FROM step WHERE
	abs(sim_recode_ns - recode_bytes / 100.0) > 1e-6 OR recode_bytes <> CASE session || '/' || step
	WHEN '0/0' THEN 6 WHEN '0/1' THEN 1 WHEN '0/12' THEN 2 WHEN '0/18' THEN 1 WHEN '1/0' THEN 8 WHEN '1/9' THEN 13
	WHEN '1/23' THEN 1 ELSE 0 END * 33792"

# Selections.
for share in step layer kv_head head; do
	play "all routers by $share" -s "$routers" -s router.budget=30% -s router.dense_layers=0 -s router.share=$share
	is "no router keeps more mass than the oracle at one budget, by $share" 0 "SELECT count(*) FROM step a
		JOIN run r ON r.run_id = a.run_id AND r.router = 'oracle' JOIN step b USING (session, step)
		WHERE b.selected_pages <= a.selected_pages AND b.mass_recall > a.mass_recall + 1e-6"
	is "roles add up to what was recalled and read, by $share" 0 "SELECT count(*) FROM (SELECT
		abs(sum(mass_selected) - mass_recall) AS r, sum(q.read_bytes) - s.read_bytes AS b FROM step s
		JOIN step_role q USING (run_id, session, step) WHERE session = 1 GROUP BY run_id, step) WHERE r > 1e-6 OR b <> 0"
done
play "quest with a plan for all layers" -s router.policy=quest -s router.budget=30% -s router.share=step -s model.executed_layers=8
is "is not left dense for the first layers' sake" 1 "SELECT max(selected_pages) < max(pages) FROM step"
play "the semantic router under pressure" -s router.policy=semantic -s router.memory_pressure=0.95
is "pages of the first prefill are encoded under that pressure" 0 "SELECT pages_fp16 > 2 FROM step WHERE session = 0 AND step = 0"

# The proxy of speculative decoding: every fourth step reads everything once more.
play "speculation from dense selections" -s specattn.enabled=true
is "a verification is charged, and equal outputs are accepted" 0 "SELECT count(*) FROM step WHERE
	read_bytes <> dense_bytes * (1 + (step % 4 = 0)) OR spec_verified <> (step % 4 = 0) OR abs(spec_accept - 1) > 1e-5"
play "greedy speculation" -s specattn.enabled=true -s specattn.greedy=true -s router.policy=random -s router.budget=30% -s router.share=layer
is "accepts a token or does not" 1 "SELECT sum(spec_accept NOT IN (0, 1)) = 0 AND min(spec_accept) < max(spec_accept) FROM step"

# Tiers: four pages' worth of fast memory, the rest is read through at 10 GB/s after 500 ns.
play "dense in a small fast tier" -s "$tight"
is "what is not in the fast tier crosses the link" 0 "SELECT count(*) FROM step WHERE
	hit_pages + miss_pages <> 2 * selected_pages OR fetch_bytes + streamed_bytes <> 32768 * miss_pages OR fast_bytes > 262144"
is "and takes its time, none of it hidden" 0 "SELECT count(*) FROM step WHERE abs(sim_transfer_ns - 500 -
	(fetch_bytes + streamed_bytes + refetch_bytes) / 10.0) > 1e-6 OR sim_hidden_ns <> 0 OR sim_exposed_ns <> sim_transfer_ns"
is "a page cut open by the compaction comes back whole" 65536,1 "SELECT sum(refetch_bytes), count(*) FROM step WHERE refetch_bytes > 0"
$p run --quiet --no-plots --db "$d/full.db" "$scenario" \
	-s 'memory.tiers=[{name: hbm, capacity: 256KiB}, {name: host, capacity: 128KiB}]' >"$d/out" 2>"$d/err"
rc=$?
db=$d/full.db
none "a last tier that overflows fails the run" "$([ $rc -eq 1 ] || echo "exit $rc")"
none "and says which" "$(grep -q 'tier host is full' "$d/err" || cat "$d/err")"
is "which is marked so" failed "SELECT status FROM run"
echo "1..$number"
