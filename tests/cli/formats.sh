#!/bin/sh
# intentkv formats: forms of its output, wrong command lines, and what holds of any recorded session.
. "${srcdir:-.}/tests/cli/tap.sh"
shared=${INTENTKV_SHARED:-${srcdir:-.}/../shared}
capture=$shared/captures/tau-bench-session.safetensors
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
plan 14
small="--model agent-23m --tokens 1024 --queries 8"

./intentkv formats $small --output csv >"$d/csv"
ok "a row for pages of each format, and for each KIVI cache" test "$(tail -n +2 "$d/csv" | cut -d, -f1,2 | tr '\n' ' ')" = \
	"FP16,0 FP8,0 INT8,0 INT4,0 INT4_RESIDUAL,0 BF16,0 KIVI8,0 KIVI8,128 KIVI4,0 KIVI4,128 KIVI2,0 KIVI2,128 SPARSE,0 "
none "every row has every column" "$(awk -F, 'NR == 1 { n = NF } NF != n || n != 10' "$d/csv")"
none "FP16 loses nothing, pages take what the format says" "$(awk -F, '$1 == "FP16" && $6 $7 $8 $9 $10 != "256.000infinf00"
	$1 == "INT8" && $6 != 132 || $1 == "KIVI4" && $2 == 0 && $6 != 80' "$d/csv")"
none "more bits lose less, a window too" "$(awk -F, '{ snr[$1 $2] = $7; error[$1 $2] = $9; bytes[$1 $2] = $6 }
	END { if (!(snr["KIVI2128"] + 6 < snr["KIVI4128"] && snr["KIVI4128"] + 12 < snr["KIVI8128"])) print "SNR"
		if (!(error["KIVI20"] > error["KIVI2128"] && bytes["KIVI20"] < bytes["KIVI2128"])) print "window"
		if (!(error["INT4_RESIDUAL0"] < error["INT40"])) print "second plane" }' "$d/csv")"
./intentkv formats $small --format INT8,KIVI4 --residual 32 --by layer,head,kind --output csv >"$d/by"
ok "rows by layer, KV head and kind" test "$(tail -n +2 "$d/by" | cut -d, -f2-4 | sort | uniq -c | tr -s ' ' | tr '\n' ';')" = \
	" 10 0,0,0; 10 0,0,1; 10 0,1,0; 10 0,1,1; 5 32,0,0; 5 32,0,1; 5 32,1,0; 5 32,1,1;"
./intentkv formats $small --format FP16,INT4 --by kind --output json >"$d/json"
ok "JSON has no infinity, and null for what a row is not of" test "$(grep -cE '^ \{"format":"[A-Z0-9]+","residual":0,"layer":null,"kv_head":null,"kind":"[a-z_]+","bytes_per_token":[0-9.]+,"snr_k_db":(null|[0-9.]+),"snr_v_db":(null|[0-9.]+),"rel_l2":[0-9.e-]+,"lse_rms":[0-9.e-]+\},?$' "$d/json")" = 10
ok "the table says what was measured" sh -c './intentkv formats $1 --format FP16 |
	grep -qx "1024 tokens, 8 queries, layers 0 1, 2 KV heads of 64"' - "$small"

# wrong DESCRIPTION EXIT MESSAGE ARGUMENT...
wrong() {
	what=$1 exit=$2 message=$3
	shift 3
	./intentkv formats "$@" >"$d/out" 2>"$d/err"
	rc=$?
	none "$what" "$([ $rc -eq "$exit" ] || echo "exit code $rc, expected $exit"
		[ "$(wc -l <"$d/err")" -eq 1 ] && grep -qF -e "$message" "$d/err" || cat "$d/err"
		cat "$d/out")"
}
wrong "words that are none" 64 'did you mean "kind"?' --by layer,kinds
wrong "a window that no cache has" 64 "got 48, expected 32, 64, 96 or 128" --residual 48
wrong "a model of latents" 64 '--model: got "deepseek-v3", expected llama-3-8b' --model deepseek-v3
wrong "a capture with settings of generated data" 64 "for generated K and V" "$d/none" --seed 3
wrong "a capture that is not there" 65 "$d/none: No such file" "$d/none"
if [ -e "$capture" ]; then
	wrong "a layer that was not recorded" 65 "layer.4.k: no such tensor" "$capture" --layers 4
	# Keys of a model have channels of larger magnitude: groups over tokens keep them better than groups over channels.
	none "recorded keys: KIVI4 above INT4" "$(./intentkv formats "$capture" --format INT4,KIVI4 --queries 16 --output csv |
		awk -F, '{ snr[$1 $2] = $7; error[$1 $2] = $9 }
			END { if (!(snr["KIVI40"] > snr["INT40"] + 4 && error["KIVI40"] < error["INT40"])) print snr["KIVI40"], snr["INT40"] }')"
else
	skip "no $capture"
	skip "no $capture"
fi
