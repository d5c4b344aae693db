#!/bin/sh
# Models with latent attention (MLA): sizes, runs on latent pages, what their rows say, and what is refused.
. "${srcdir:-.}/tests/cli/tap.sh"
src=${srcdir:-.}
tiny=$src/tests/cli/tiny.yaml
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
unset INTENTKV_ISA
p=./intentkv
db=$d/r.db
plan 18

ask() { $p query "$db" --sql "$1" --format csv --no-header | tr -d '\r"'; }
# is DESCRIPTION EXPECTED SQL
is() { none "$1" "$(got=$(ask "$3" 2>&1); [ "$got" = "$2" ] || echo "got $got, expected $2: $3")"; }

none "a token of DeepSeek-V3 takes 70,272 bytes" "$($p size deepseek-v3 --format csv | tr -d '\r' |
	awk -F, '$1 == "FP16" { n++; if ($2 != 70272) print } END { if (n != 1) print n " rows" }')"
none "latents have no format of four bits" "$($p size deepseek-v3 --format csv | grep INT4)"

# Four layers of 4 heads; pages of 64 + 16 values a token: 4 · 80 · 2 = 640 bytes in FP16, 4 · 82 in eight bits.
latent="-s model.latent_dim=64 -s model.rope_dim=16 -s model.kv_heads=1"
$p run --quiet --no-plots --db "$db" "$tiny" $latent -s memory.demote=false -s router.dense_layers=0 \
	-s 'sweep={router.policy: [dense, recency, random, quest, semantic, oracle]}' >"$d/out" 2>"$d/err"
none "a sweep over routers runs" "$([ $? -eq 0 ] || echo failed; cat "$d/out" "$d/err")"
r="FROM step JOIN run USING (run_id) WHERE"
is "a dense step reads 640 bytes a token" 0 "SELECT count(*) $r router = 'dense' AND
	(read_bytes <> 640 * context_tokens OR dense_bytes <> read_bytes OR request_bytes <> read_bytes)"
is "dense has all mass and no error" 0 "SELECT count(*) $r router = 'dense' AND (abs(mass_recall - 1) > 1e-6 OR rel_l2 > 1e-6)"
is "the others read less" 5 "SELECT count(*) FROM (SELECT sum(read_bytes) AS s, sum(dense_bytes) AS p
	$r router <> 'dense' GROUP BY router HAVING s < p)"
is "the oracle keeps more mass than any router that reads no more" 0 "SELECT count(*)
	FROM step a JOIN run o ON o.run_id = a.run_id AND o.router = 'oracle' JOIN step b USING (session, step)
	WHERE b.selected_pages <= a.selected_pages AND b.mass_recall > a.mass_recall + 1e-6"
is "quest's bounds find more than chance" 1 "SELECT (SELECT avg(mass_recall) $r router = 'quest') >
	(SELECT avg(mass_recall) $r router = 'random') + 0.1"

db=$d/f.db
$p run --quiet --no-plots --db "$db" "$tiny" $latent -s memory.demote=false \
	-s 'sweep={router.policy: [dense], router.format: [FP16, FP8, INT8], attention.backend: [cpu, ref]}' >"$d/out" 2>&1
none "a sweep over formats and backends runs" "$([ $? -eq 0 ] || cat "$d/out")"
f="(SELECT run_id, substr(point, instr(point, 'format=') + 7) AS name, avg(rel_l2) AS e, avg(cosine) AS c, min(1.0 * read_bytes / context_tokens) AS b
	FROM step JOIN run USING (run_id) GROUP BY run_id)"
is "eight bits: 328 bytes of each full page's token" 4 "SELECT count(*) FROM $f WHERE name NOT LIKE 'FP16%' AND b BETWEEN 328 AND 360"
is "INT8 errs less than FP8, FP16 not at all" 1 "SELECT (SELECT max(e) FROM $f WHERE name LIKE 'FP16%') < 1e-5 AND
	(SELECT max(e) FROM $f WHERE name LIKE 'INT8%') BETWEEN 1e-3 AND 0.03 AND
	(SELECT min(e) FROM $f WHERE name LIKE 'FP8%') > (SELECT max(e) FROM $f WHERE name LIKE 'INT8%')"
is "cpu and ref err alike" 0 "SELECT count(*) FROM step a JOIN step b ON b.run_id = a.run_id + 1 AND b.session = a.session AND b.step = a.step
	WHERE a.run_id % 2 = 1 AND (abs(a.rel_l2 - b.rel_l2) > 1e-4 OR a.decision_hash <> b.decision_hash)"

# Pages move and cool down, but never below eight bits.
db=$d/p.db
$p run --quiet --no-plots --db "$db" "$tiny" $latent -s router.memory_pressure=auto -s memory.demote_cold_after_steps=2 \
	-s 'memory.tiers=[{name: hbm, capacity: 64KiB}, {name: host, capacity: unbounded}]' >"$d/out" 2>&1
none "a run under pressure ends" "$([ $? -eq 0 ] || cat "$d/out")"
is "pages move and cool down, and take no format of four bits" 1 "SELECT sum(evictions) > 0 AND sum(demotions) > 0 AND
	sum(pages_fp8) > 0 AND sum(pages_int4) + sum(pages_int4_residual) = 0 FROM step"

# refuses DESCRIPTION MESSAGE OPTIONS...
refuses() {
	text=$1
	want=$2
	shift 2
	got=$($p check "$tiny" "$@" 2>&1)
	none "$text" "$([ "$got" = "intentkv: -s: $want" ] || echo "got $got")"
}
refuses "four bits in a ladder" \
	'formats.ladder: got "balanced", which asks for INT4_RESIDUAL, but pages of latents are kept in FP16, FP8, INT8' \
	$latent -s formats.ladder=balanced
refuses "four bits as the floor" 'memory.floor: got "INT4", but pages of latents are kept in FP16, FP8, INT8' \
	$latent -s memory.floor=INT4
refuses "more than one KV head" 'model.kv_heads: got 2, expected 1: all heads share a latent' \
	-s model.latent_dim=64 -s model.rope_dim=16 -s model.kv_heads=2
ok "the scenario of latent attention is good" $p check "$src/scenarios/latent-attention.yaml"
