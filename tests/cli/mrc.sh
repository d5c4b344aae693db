#!/bin/sh
# Miss-ratio curves: published miss counts, the forms of output, wrong command lines.
. "${srcdir:-.}/tests/cli/tap.sh"
shared=${INTENTKV_SHARED:-${srcdir:-.}/../shared}
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
p=./intentkv
plan 23

# Two requests of a session, one of another; 3 blocks of 512 tokens, the last two of them twice.
cat >"$d/blocks.jsonl" <<'T'
{"timestamp": 0, "input_length": 1500, "output_length": 9, "hash_ids": [1, 2, 3]}
{"timestamp": 10, "input_length": 1030, "output_length": 9, "hash_ids": [1, 4, 5]}
{"timestamp": 20, "input_length": 1500, "output_length": 9, "hash_ids": [1, 2, 3]}
T
# wrong DESCRIPTION EXIT MESSAGE ARGUMENT...
wrong() {
	what=$1 exit=$2 message=$3
	shift 3
	$p mrc "$@" >"$d/out" 2>"$d/err"
	rc=$?
	none "$what" "$([ $rc -eq "$exit" ] || echo "exit code $rc, expected $exit"
		[ "$(wc -l <"$d/err")" -eq 1 ] && grep -qF -e "$message" "$d/err" || cat "$d/err"
		cat "$d/out")"
}
# same DESCRIPTION EXPECTED ARGUMENT...: standard output, whole
same() {
	what=$1 expected=$2
	shift 2
	found=$($p mrc "$@" 2>&1)
	none "$what" "$([ "$found" = "$expected" ] || echo "found: $found
expected: $expected")"
}

same "JSON has four keys; a block has its tokens' KV of the model" '[
 {"policy":"lru","capacity_bytes":201326592,"requests":9,"misses":7},
 {"policy":"belady","capacity_bytes":201326592,"requests":9,"misses":6}
]' "$d/blocks.jsonl" --policy lru,belady --capacity 3blk --format json
same "capacities are sorted, units understood" 'policy,capacity_bytes,requests,misses
lru,1000,9,9
lru,1024,9,9
lru,1000000,9,5
lru,2097152,9,5' "$d/blocks.jsonl" --policy lru --capacity 2MiB,1k,2blk,1M,1000 --kv-bytes-per-token 1 --format csv
same "stack distances give the same" 'policy,capacity_bytes,requests,misses
lru,201326592,9,7
lru,335544320,9,5' "$d/blocks.jsonl" --curve --capacity 3blk,5blk --format csv
same "the model decides a block's bytes" 'policy,capacity_bytes,requests,misses
fifo,167772160,9,9' "$d/blocks.jsonl" --policy fifo --capacity 1blk --model llama-3-70b --format csv
$p mrc "$d/blocks.jsonl" >"$d/out" 2>&1
none "by default every policy, up to all that occurs" "$(cut -d' ' -f1 "$d/out" | sort -u | tr '\n' ' ' |
	grep -vx 'arc belady clock fifo lfu lru policy s3fifo sieve '
	awk '$2 == 335544320 && $4 != 5 { print }' "$d/out")"
if command -v gnuplot >/dev/null; then
	$p mrc "$d/blocks.jsonl" -o "$d/plots" >"$d/out" 2>&1
	none "-o draws" "$([ $? -eq 0 ] || cat "$d/out"; for f in mrc.gp mrc.tsv mrc.svg; do
		[ -s "$d/plots/$f" ] || echo "no $f"; done)"
else
	skip "no gnuplot"
fi

wrong "no trace" 64 "expected one trace" --policy lru
wrong "a trace that is not there" 65 "cannot be read" "$d/none.jsonl"
wrong "an unknown policy" 64 'did you mean "sieve"?' "$d/blocks.jsonl" --policy lru,seive
wrong "a policy twice" 64 '"lru" twice' "$d/blocks.jsonl" --policy lru,lru
wrong "an empty word" 64 'an empty word' "$d/blocks.jsonl" --capacity 1k,,2k
wrong "a capacity of nothing" 64 'got "0"' "$d/blocks.jsonl" --capacity 0
wrong "an unknown unit" 64 'got "5blocks"' "$d/blocks.jsonl" --capacity 5blocks
wrong "--curve with a policy" 64 "takes no --policy" "$d/blocks.jsonl" --curve --policy fifo
wrong "two sizes of a token" 64 "give one of them" "$d/blocks.jsonl" --model llama-2-7b --kv-bytes-per-token 2
wrong "an unknown order" 64 "expected auto, trace or time" "$d/blocks.jsonl" --order random
printf '[{"messages":[{"role":"user","content":"hello"},{"role":"assistant","content":"hi"}]}]' >"$d/chat.json"
wrong "a trace without ids" 65 "none names blocks or objects" "$d/chat.json"

# A record of 24 bytes: second 1, object 2, 16 bytes, never again.
printf '\001\0\0\0\002\0\0\0\0\0\0\0\020\0\0\0\377\377\377\377\377\377\377\377' >"$d/objects.oracleGeneral"
wrong "blocks of a trace of objects" 64 "names objects, not blocks" "$d/objects.oracleGeneral" --capacity 3blk
printf '\001\0\0' >>"$d/objects.oracleGeneral"
wrong "a truncated trace of objects" 65 "record 2 at byte 24: the file ends inside this record" "$d/objects.oracleGeneral"

# need PATH: is it there? If not, the test is skipped.
need() {
	[ -e "$shared/$1" ] || ! skip "no $1 in $shared"
}
# misses TRACE ARGUMENT...: a line for each policy: its name and the misses, capacities ascending
misses() {
	$p mrc "$@" --format csv 2>&1 | awk -F, 'NR > 1 { if (!($1 in row)) order[++n] = $1; row[$1] = row[$1] " " $4 }
		END { for (i = 1; i <= n; i++) print order[i] row[order[i]] }'
}

# As libCacheSim counts them, no overhead per object.
if need traces/block-io/cloudPhysicsIO.oracleGeneral.bin; then
	misses "$shared/traces/block-io/cloudPhysicsIO.oracleGeneral.bin" --policy lru,fifo,clock,lfu,s3fifo,belady \
		--capacity 128MiB,256MiB,384MiB,512MiB,640MiB,768MiB,896MiB,1024MiB >"$d/found"
	cat >"$d/expected" <<'T'
lru 93374 89783 83572 81722 72494 72104 71972 71704
fifo 93403 89386 84387 84025 72498 72228 72182 72140
clock 93313 89775 83411 81328 74815 72283 71927 64456
lfu 91699 86720 78578 76707 69945 66221 64445 64376
s3fifo 89307 82387 77041 76791 71300 70343 70455 70355
belady 79256 70724 65481 61594 59645 57599 50873 48974
T
	none "misses on a block storage trace are exact" "$(diff "$d/expected" "$d/found")"
	misses "$shared/traces/block-io/cloudPhysicsIO.oracleGeneral.bin" --curve \
		--capacity 128MiB,256MiB,384MiB,512MiB,640MiB,768MiB,896MiB,1024MiB >"$d/found"
	none "LRU's are so by stack distances" "$(head -1 "$d/expected" | diff - "$d/found")"
else
	skip "no traces/block-io/cloudPhysicsIO.oracleGeneral.bin in $shared"
fi

# Of 121,877 references LRU hits 10,050, 37,703, 51,614 and 77,953, Belady 33,713, 67,025, 75,315 and 77,953.
if need traces/mooncake/synthetic_trace.jsonl; then
	set -- "$shared/traces/mooncake/synthetic_trace.jsonl" --capacity 1000blk,5859blk,10000blk,50000blk
	misses "$@" --policy lru,belady >"$d/found"
	printf 'lru 111827 84174 70263 43924\nbelady 88164 54852 46562 43924\n' >"$d/expected"
	none "misses on blocks of requests are exact" "$(diff "$d/expected" "$d/found")"
	misses "$@" --curve >"$d/found"
	none "so they are by stack distances" "$(head -1 "$d/expected" | diff - "$d/found")"
else
	skip "no traces/mooncake/synthetic_trace.jsonl in $shared"
fi
