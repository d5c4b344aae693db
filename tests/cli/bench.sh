#!/bin/sh
# intentkv bench: what it prints, for tiny cases; times are not looked at.
. "${srcdir:=.}/tests/cli/tap.sh"
folder=$(mktemp -d) || exit 99
trap 'rm -rf "$folder"' EXIT
plan 14

bench() { ./intentkv bench "$@" --seconds 0.001; }
tiny="attention --threads 1,2 --shape 4/2/32/300,3/1/40/64/8 --format FP16,INT4 --selection dense,0.5,0.5/head"

bench $tiny --output csv >"$folder/csv"
ok "attention in CSV: a header and a row for each shape, format, number of threads and selection" \
	test "$(wc -l <"$folder/csv")" = 25
none "every row has every column" "$(awk -F, 'NR == 1 { n = NF } NF != n' "$folder/csv")"
none "errors against double precision are those of rounding" "$(awk -F, 'NR > 1 && !($NF < ($4 == "INT4" ? 1e-2 : 1e-4))' "$folder/csv")"

bench $tiny --output json >"$folder/json"
ok "attention in JSON: a list with the fields of the documentation" test "$(grep -cE '^ \{"kernel":"decode","isa":"[a-z0-9]+","threads":[12],"format":"[A-Z0-9]+","q_heads":[0-9]+,"kv_heads":[0-9]+,"head_dim":[0-9]+,"kv_tokens":[0-9]+,"page_tokens":[0-9]+,"selected":"[a-z0-9./]+","ms_median":[0-9.]+,"ms_min":[0-9.]+,"ms_max":[0-9.]+,"kv_bytes":[0-9]+,"gbps":[0-9.]+,"ceiling_gbps":[0-9.]+,"fraction":[0-9.]+,"rel_l2":[0-9.e+-]+\},?$' "$folder/json")" = 24
bench attention --threads 1 --shape 4/2/32/90,8/1/40:24/70 --q-len 1,20 --format FP16,INT8 --selection dense,0.5 \
	--output csv >"$folder/rows"
ok "prefill rows with more than one row a head, mla rows where V is a part of K" test \
	"$(cut -d, -f1,5-7 "$folder/rows" | sort | uniq -c | tr -s ' \n' ' ;')" = \
	" 4 decode,4,2,32; 1 kernel,q_heads,kv_heads,head_dim; 4 mla,8,1,40; 4 prefill,4,2,32; 4 prefill,8,1,40;"
none "their errors are those of rounding" "$(awk -F, 'NR > 1 && !($NF < 1e-4)' "$folder/rows")"
ok "more rows than tokens are refused" sh -c './intentkv bench attention --q-len 8,20 --shape 4/2/8/10 2>&1 |
	grep -q "q-len: got 20, expected at most the 10 tokens"'
INTENTKV_ISA=scalar bench attention --isa auto --threads 1 --shape 2/1/16/32 --format INT8 --selection dense --output csv >"$folder/scalar"
ok "INTENTKV_ISA chooses the kernels" grep -q '^decode,scalar,1,INT8,' "$folder/scalar"
ok "the table names the limits of the machine" sh -c './intentkv bench attention --seconds 0.001 --threads 1 \
	--shape 2/1/16/32 --format FP16 --selection dense | grep -q "^reads [0-9.]* GB/s"'
none "wrong values are refused, and the option named" "$(for words in '--threads 0' '--shape 3/2/8/64' '--shape 4/2/32' '--shape 4/2/32:40/8' '--shape 4294967300/2/32/8' '--shape -4/2/32/8' '--shape 4/2/32/8/' '--q-len 0' \
	'--format SKIP' '--selection 0' '--selection 0.5/x' '--output xml' '--seconds 0'; do
	message=$(./intentkv bench attention $words 2>&1)
	[ $? = 64 ] || echo "$words: not refused"
	case $message in *"${words%% *}: got"*) ;; *) echo "$words: $message" ;; esac
done)"
for words in '--isa avx99' '--shape 8192/1/8/64'; do
	./intentkv bench attention $words >"$folder/out" 2>"$folder/err"
	echo "$? $(wc -c <"$folder/out") $(wc -l <"$folder/err")"
done >"$folder/early"
ok "what cannot be measured is told before anything is" [ "$(echo $(cat "$folder/early"))" = "69 0 1 65 0 1" ]
bench attention --threads 2 --shape 4/2/64/256 --format SPARSE --selection 0.0625 --output csv >"$folder/few"
none "where waking threads takes longer than a read, one thread's read is the ceiling" \
	"$(awk -F, 'NR == 2 && !($17 < 1) { print }' "$folder/few")"
bench attention --threads 1 --shape 4/2/32/64 --format FP16,INT8 --selection dense --output csv --plot "$folder/roof" >"$folder/points" 2>"$folder/told"
ok "the roofline's data: the ceilings, then a point for each row" test \
	"$(awk -F'\t' 'NF == 3 && !/operations a second/ { print $1 }' "$folder/roof/roofline.tsv" | tr '\n' ';')" = \
	"reads and FMA of one thread;FP16, dense, 4/2 heads of 32, 1 thread;INT8, dense, 4/2 heads of 32, 1 thread;"
if command -v gnuplot >/dev/null; then
	ok "its legend names them" test "$(grep -oE '>(reads and FMA of one thread|(FP16|INT8), dense, 4/2 heads of 32, 1 thread)<' \
		"$folder/roof/roofline.svg" | sort -u | wc -l)" = 3
else
	skip "no gnuplot"
fi
