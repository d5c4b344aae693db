#!/bin/sh
# intentkv calibrate: from calls to a profile that runs use; times themselves are not looked at.
. "${srcdir:=.}/tests/cli/tap.sh"
folder=$(mktemp -d) || exit 99
trap 'rm -rf "$folder"' EXIT
plan 16

# is DESCRIPTION WANTED GOT
is() { none "$1" "$([ "$2" = "$3" ] || echo "expected $2, got $3")"; }

# 5 us a call, 100 ns a sequence, 400 GB/s beyond the first MB, half of it before.
awk 'BEGIN {
	print "n_decode,kv_decode,time_us"
	for (n = 1; n <= 64; n *= 2) for (t = 64; t <= 16384; t *= 2) {
		b = n * t * 4096; first = b < 4e6 ? b : 4e6
		printf "%d,%d,%.6f\n", n, t, 5 + n * .1 + first / 200e9 * 1e6 + (b - first) / 400e9 * 1e6
	}
}' >"$folder/rows.csv"
./intentkv calibrate -o "$folder/m.yaml" --from "$folder/rows.csv" --name mine --db "$folder/r.db" --format csv >"$folder/out"
ok "rows of a file are fitted" test $? = 0
ok "the error of held-out rows is told" sh -c "awk -F, 'NR == 2 && \$1 == \"all\" && \$4 < 3 { good = 1 } END { exit !good }' '$folder/out'"
ok "the constants are those that made the rows" awk '$1 == "read_bytes_per_s:" && ($2 < 396e9 || $2 > 404e9) ||
	$1 == "kernel_overhead_ns:" && ($2 < 4500 || $2 > 5500) { exit 1 }' "$folder/m.yaml"
ok "a profile is not replaced" sh -c "./intentkv calibrate -o '$folder/m.yaml' --from '$folder/rows.csv' 2>&1 | grep -q -- --force"
./intentkv calibrate -o "$folder/m.yaml" --from "$folder/rows.csv" --name mine --db "$folder/r.db" --force >/dev/null
is "a database keeps all calibrations" "2 63" \
	"$(./intentkv query "$folder/r.db" --no-header --format csv --sql \
	'SELECT count(*) || " " || max(cells + held_cells) FROM calibration' | tr -d '\r"')"

./intentkv calibrate -o "$folder/cpu.yaml" --tokens 1024 --seconds 0.001 --cache 1MiB --threads 1 --model agent-23m \
	--db "$folder/r.db" --format json >"$folder/cpu.json" 2>"$folder/cpu.err"
ok "this machine is measured" test $? = 0
ok "errors come by shape and format" grep -q '"format":"mixed","calls":' "$folder/cpu.json"
./intentkv run "$srcdir/tests/cli/tiny.yaml" --db "$folder/r.db" -s cost.machine="$folder/cpu.yaml" --quiet -s attention.execute=full \
	>"$folder/run" 2>&1
ok "a run uses it" test $? = 0
is "what was measured has a prediction" 1 "$(./intentkv query "$folder/r.db" --no-header --format csv --sql \
	'SELECT min(sim_executed_ns > 0) FROM step WHERE wall_attention_ns > 0' | tr -d '\r')"
is "mixed formats and batches are fitted, of the model's shape alone" "1 1 1" \
	"$(./intentkv query "$folder/r.db" --no-header --format csv --sql 'SELECT count(DISTINCT shape) || " " ||
	max(format = "mixed") || " " || max(selected LIKE "% of 4") FROM calibration_cell JOIN calibration USING (calibration_id)
	WHERE held_out = 0 AND backend = "cpu"' | tr -d '\r"')"
ok "the profile states its heads and page size" test "$(grep -cxE 'measured_(group: *4|kv_heads: *[1-9]|page_tokens: *16)' "$folder/cpu.yaml")" = 3
is "steps of a model of another group are marked" 1 "$(./intentkv query "$folder/r.db" --no-header --format csv --sql \
	'SELECT min(sim_outside) FROM step' | tr -d '\r')"
ok "and the run says so" grep -q 'other numbers of heads or page sizes' "$folder/run"
ok "predictions stand beside measurements" sh -c "./intentkv query '$folder/r.db' predictions --format csv | grep -q error_median_pct"
printf 'name: old\nread_bytes_per_s: 1e9\nfp16_record_ns: 300\n' >"$folder/old.yaml"
ok "a profile of an older version is refused, and its key named" sh -c \
	"./intentkv run '$srcdir/tests/cli/tiny.yaml' --db '$folder/old.db' -s cost.machine='$folder/old.yaml' 2>&1 | grep -q 'old.yaml:3:.*fp16_record_ns'"
none "wrong values are refused, and the option named" "$(for words in '--threads 0' '--tokens 5' '--model none' '--model 16/5/128' '--model 8/2/' '--model 1/1/99999' '--backend ref' \
	'--format markdown' '--seconds 0' '--cache 5' '--cache x' '--token-bytes x'; do
	message=$(./intentkv calibrate -o "$folder/no.yaml" $words 2>&1)
	[ $? = 64 ] || echo "$words: not refused"
	case $message in *"${words%% *}: "*) ;; *) echo "$words: $message" ;; esac
done)"
