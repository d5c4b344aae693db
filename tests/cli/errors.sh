#!/bin/sh
# Bad input and wrong command lines: the message, the exit code, and that nothing is left behind.
# tests/errors/messages has a line for each bad input: exit code, file, place and message; "..." stands for anything.
. "${srcdir:-.}/tests/cli/tap.sh"
cases=${srcdir:-.}/tests/errors
d=$(mktemp -d) || exit 99
trap 'kill $writer 2>/dev/null; rm -rf "$d"' EXIT
unset INTENTKV_ISA
p=./intentkv
esc=$(printf '\033')

# says WANTED: the one line in $d/err, where "..." in WANTED stands for anything.
says() {
	[ "$(wc -l <"$d/err")" -eq 1 ] || return 1
	WANTED=$1 awk '
		NR == 1 {
			n = split(ENVIRON["WANTED"], piece, /\.\.\./); rest = $0
			for (i = 1; i <= n; i++) {
				at = index(rest, piece[i])
				if (at == 0 || (i == 1 && at != 1)) exit 1
				rest = substr(rest, at + length(piece[i]))
			}
			exit n == 1 && rest != ""
		}' "$d/err"
}

# wrong DESCRIPTION EXIT MESSAGE COMMAND...: the command fails so, says so in one line and prints nothing.
wrong() {
	what=$1 exit=$2 message=$3
	shift 3
	"$@" >"$d/out" 2>"$d/err"
	rc=$?
	problem=
	[ $rc -eq "$exit" ] || problem="exit code $rc, expected $exit: $*"
	says "$message" || problem="$problem
said: $(cat -v "$d/err")
expected: $message"
	[ ! -s "$d/out" ] || problem="$problem
printed: $(head -3 "$d/out")"
	none "$what" "$problem"
}

small=$cases/scenario/small.yaml
run="$p run --quiet --no-plots"
plan 84

$run --db "$d/kept.db" "$small" >"$d/out" 2>"$d/err"
none "a good scenario runs quietly" "$([ $? -eq 0 ] || echo failed; cat "$d/out" "$d/err")"
before=$(cksum <"$d/kept.db")

# Every file of tests/errors.
bad= left= silent=
while read -r code file; do
	message=${file#*:}
	file=${file%%:*}
	case $file in
	scenario/*) set -- $run --db "$d/fresh.db" ;;
	trace/*) set -- $p import -o "$d/fresh.jsonl" ;;
	route/*) set -- $p route ;;
	esac
	"$@" "$cases/$file" >"$d/out" 2>"$d/err"
	rc=$?
	[ $rc -eq "$code" ] && says "intentkv: $cases/$file:$message" || bad="$bad
$file: exit code $rc: $(cat -v "$d/err")"
	[ ! -s "$d/out" ] || silent="$silent $file"
	for f in "$d"/fresh*; do [ ! -e "$f" ] || left="$left $file"; done
	rm -f "$d"/fresh*
done <"$cases/messages"
none "every bad file is refused with its message" "$bad"
none "nothing is printed for a bad file" "$silent"
none "a bad file leaves no database and no sessions" "$left"
for f in "$cases"/scenario/*.yaml; do
	case $f in */small.yaml) continue ;; esac
	$run --db "$d/kept.db" "$f" >/dev/null 2>&1 && bad=$f
done
none "a bad scenario leaves a database as it is" "$([ "$before" = "$(cksum <"$d/kept.db")" ] || echo changed; ls "$d" | grep 'kept.db.')"
unlisted=
for f in "$cases"/*/*; do
	case $f in */good* | */small.yaml | */cuda.yaml) continue ;; esac
	grep -q "^[0-9]* ${f#"$cases/"}:" "$cases/messages" || unlisted="$unlisted $f"
done
none "every bad file has its line in messages" "$unlisted"

# -s
at="intentkv: run: -s"
wrong "-s without a value" 64 "intentkv: run: option -s needs a value; see \`intentkv run --help\`" $run "$small" -s
wrong "-s without =" 64 "$at seed: expected section.key=value; see ..." $run "$small" -s seed
wrong "-s without a key" 64 "$at =3: expected section.key=value; see ..." $run "$small" -s =3
wrong "-s with a key that ends in a dot" 64 "intentkv: run: ...is not a key; expected section.key..." $run "$small" -s router.=3
wrong "-s with a bad value" 65 'intentkv: -s: seed: got "x", expected a whole number of at least 0' $run "$small" -s seed=x
wrong "-s with a value out of range" 65 'intentkv: -s: memory.page_tokens: got "0", expected ...' \
	$run "$small" -s memory.page_tokens=0
wrong "-s with an unknown section" 65 'intentkv: -s: ruoter: unknown key; did you mean "router"?' \
	$run "$small" -s ruoter.policy=quest
wrong "-s with an unknown key" 65 'intentkv: -s: router.polcy: unknown key for "semantic"; did you mean "policy"?' \
	$run "$small" -s router.polcy=quest
wrong "cosines that the scorer does not make" 65 \
	'intentkv: -s: router.refine: got "cosine", but scorer.policy is "quest": expected scorer cosine' \
	$run "$small" -s attention.execute=full -s router.policy=semantic -s router.budget=10% -s router.refine=cosine \
	-s scorer.policy=quest
wrong "-s with half a list" 65 "intentkv: -s:...: did not find expected ',' or '}'" $run "$small" -s 'memory.tiers=[{name: a'
wrong "-s into a value" 65 'intentkv: -s: model.preset: got a map, expected a single value' $run "$small" -s model.preset.x=1
wrong "-s sweep with an unknown key" 65 'intentkv: -s: router.polcy: unknown key for "semantic"; did you mean "policy"?' \
	$run "$small" -s 'sweep={seed: [1, 2], router.polcy: [quest]}'
wrong "-s sweep with a bad last value" 65 'intentkv: -s: router.policy: got "quset", expected one of...did you mean "quest"?' \
	$run --db "$d/kept.db" "$small" -s 'sweep={router.policy: [quest, quset]}'
wrong "control characters in a value" 65 'intentkv: -s: router.policy: got "a?[31m?b", expected one of...' \
	$run "$small" -s "router.policy=a$esc[31m
b"
wrong "--threads" 65 'intentkv: -s: attention.threads: got "x", expected a whole number from 0 to 1024' \
	$run "$small" --threads x

# The command line.
wrong "an unknown command" 64 'intentkv: no command "quer"; did you mean "query"?; see `intentkv --help`' $p quer
wrong "an unknown option" 64 'intentkv: run: unknown option --no-plot-; did you mean --no-plots?; see ...' $run "$small" --no-plot-
wrong "an unknown short option" 64 'intentkv: run: unknown option -z; see ...' $run "$small" -z
wrong "a value for an option that takes none" 64 'intentkv: run: option --quiet=1 takes no value; see ...' $run --quiet=1 "$small"
wrong "no scenario" 64 'intentkv: run: expected one scenario file; see ...' $run
wrong "two scenarios" 64 'intentkv: run: expected one scenario file; see ...' $run "$small" "$small"
wrong "an unknown table" 64 'intentkv: list: no table "rooters"; did you mean "routers"?; see ...' $p list rooters
wrong "an unknown entry" 64 'intentkv: list: no "quset" among the routers; did you mean "quest"?; see ...' $p list routers quset
wrong "an unknown action" 64 'intentkv: db: got "schem", expected schema, export, backup, check, rollup or upgrade; did you mean "schema"?; see ...' \
	$p db schem "$d/kept.db"
wrong "no action" 64 'intentkv: bench: expected policies, attention, formats, mrc or gpu; see `intentkv bench --help`' $p bench
wrong "an unknown format of output" 64 'intentkv: --format: got xml, expected table, csv, json, jsonl or markdown' \
	$p query "$d/kept.db" --format xml
wrong "an unknown format of route" 64 'intentkv: route: --format xml: expected table or json; see ...' $p route --format xml x
wrong "a negative limit" 64 'intentkv: import: --limit: got "-3", expected a number from 1; see ...' $p import --limit -3 x
for c in check import query runs plot route bench doctor; do
	wrong "$c with an unknown option" 64 "intentkv: $c: ...; see \`intentkv $c --help\`" $p $c --nonsense
done

# Files.
wrong "a missing scenario" 65 'intentkv: nowhere.yaml: cannot be read: No such file or directory' $run nowhere.yaml
wrong "a folder as scenario" 65 "intentkv: $cases: cannot be read: Is a directory" $run "$cases"
wrong "a missing trace" 65 'intentkv: nowhere.jsonl: cannot be read: No such file or directory' $p import nowhere.jsonl
mkdir "$d/empty"
wrong "an empty folder as trace" 65 "intentkv: $d/empty: a folder without files" $p import "$d/empty"
wrong "an unknown trace format" 65 'intentkv: ...: unknown format "moncake"; known formats: ...' \
	$p import --from moncake "$cases/trace/good-chat.jsonl"
wrong "sessions in a folder that is not there" 73 "intentkv: $d/no/x.jsonl: No such file or directory" \
	$p import -o "$d/no/x.jsonl" "$cases/trace/good-chat.jsonl"
wrong "a database in a folder that is not there" 73 "intentkv: $d/no/x.db: ...No such file or directory" \
	$run --db "$d/no/x.db" "$small"
wrong "a database below a file" 73 "intentkv: $d/kept.db/x.db: ...Not a directory" $run --db "$d/kept.db/x.db" "$small"
wrong "a folder as database" 65 "intentkv: $d/empty: is not a regular file" $run --db "$d/empty" "$small"
mkdir "$d/kept"
wrong "the folder of figures as database" 65 "intentkv: $d/kept: is not a regular file; did you mean $d/kept.db?" $p query "$d/kept"
rmdir "$d/kept"
wrong "a missing database" 65 'intentkv: nowhere.db: there is no result database' $p query nowhere.db
wrong "a scenario as database" 65 "intentkv: $small: is not a result database" $p query "$small"

missing="intentkv: $d/kept.db: there is no run nobody; \`intentkv runs\` lists them"
wrong "the first tables of a run that is not there" 65 "$missing" $p query "$d/kept.db" -p run=nobody
for list in 1,99 99,1 1,99,; do
	wrong "a run of $list that is not there" 65 "$(echo "$missing" | sed s/nobody/99/)" $p query "$d/kept.db" best -p run=$list
done
wrong "a count that is none" 64 'intentkv: parameter limit: got "-1", expected a whole number' \
	$p query "$d/kept.db" slowest -p limit=-1
wrong "a query about a run that is not there" 65 "$missing" $p query "$d/kept.db" best -p run=nobody
wrong "a figure of a run that is not there" 65 "$missing" $p plot "$d/kept.db" -r nobody -o "$d/figures"
wrong "a report on a run that is not there" 65 "$missing" $p report "$d/kept.db" -r nobody

# patched OFFSET BYTES NAME: a copy of the database whose header has these bytes.
patched() {
	cp "$d/kept.db" "$d/$3" && printf "$2" | dd of="$d/$3" bs=1 seek="$1" conv=notrunc 2>/dev/null
}
patched 68 '\001\002\003\004' other.db
sum=$(cksum <"$d/other.db")
wrong "a database of another program" 65 "intentkv: $d/other.db: is a database of another program ..." \
	$run --db "$d/other.db" "$small"
none "and it is left as it is" "$([ "$sum" = "$(cksum <"$d/other.db")" ] || echo changed; ls "$d" | grep 'other.db.')"
patched 60 '\000\000\017\377' newer.db
wrong "a database of a newer version" 65 "intentkv: $d/newer.db: was written by a newer version ..." \
	$run --db "$d/newer.db" "$small"
patched 60 '\000\000\000\006' older.db
wrong "a file of an older version among those to merge" 65 "intentkv: $d/older.db: is of another version (6, ...; \`intentkv db upgrade\` ..." \
	$p merge "$d/merged.db" "$d/older.db"
none "and no empty database is left of it" "$(ls "$d" | grep '^merged')"

# Backends and instruction sets.
if $p doctor | grep -q '^ok *backend cuda'; then
	skip "CUDA is usable here"
	skip "CUDA is usable here"
else
	wrong "a backend that is not there" 69 'intentkv: attention.backend: "cuda" cannot be used: ...' \
		$run --db "$d/fresh.db" "$cases/scenario/cuda.yaml"
	wrong "a benchmark of a card that is not there" 69 'intentkv: bench gpu: ...' $p bench gpu
fi
wrong "a number of replays" 64 'intentkv: bench gpu: --replays: got "0", expected a number from 1 to 250; ...' \
	$p bench gpu --replays 0
wrong "a time of FMA before" 64 'intentkv: bench attention: --warm: got "2s", expected milliseconds from 0 to 10000; ...' \
	$p bench attention --warm 2s
wrong "a time to warm up" 64 'intentkv: bench gpu: --warm: got "-1", expected milliseconds from 0 to 10000; ...' \
	$p bench gpu --warm -1
wrong "an ISA that does not exist" 69 'intentkv: INTENTKV_ISA: nonsense: no ISA of that name; available: ...' \
	env INTENTKV_ISA=nonsense $run --db "$d/fresh.db" "$small"

# Where results go: what is named stays what it is, and the file that is read is not replaced.
cp "$cases/trace/good-chat.jsonl" "$d/chat.jsonl"
wrong "sessions in the place of the trace" 64 "intentkv: $d/chat.jsonl: is the file that is read; ..." \
	$p import -o "$d/chat.jsonl" "$d/chat.jsonl"
ln -s chat.jsonl "$d/chat-link"
wrong "or in that of a link to it" 64 "intentkv: $d/chat-link: is the file that is read; ..." $p import -o "$d/chat-link" "$d/chat.jsonl"
wrong "a report in the place of its database" 64 "intentkv: $d/kept.db: is the file that is read; ..." \
	$p report "$d/kept.db" -o "$d/kept.db"
$p import -o "$d/sessions.jsonl" "$d/chat.jsonl" >/dev/null
mkfifo "$d/pipe"
$p import -o "$d/pipe" "$d/chat.jsonl" >/dev/null 2>&1 &
cat "$d/pipe" >"$d/piped"
wait $!
none "a pipe stays one and gets the sessions" "$([ -p "$d/pipe" ] || echo replaced; cmp "$d/piped" "$d/sessions.jsonl" 2>&1)"
touch "$d/aim" && chmod 640 "$d/aim" && ln -s aim "$d/link"
$p import -o "$d/link" "$d/chat.jsonl" >/dev/null
none "a link stays one, and what it leads to keeps its mode" "$([ -h "$d/link" ] || echo replaced
	cmp "$d/aim" "$d/sessions.jsonl" 2>&1; find "$d/aim" ! -perm 640; ls "$d" | grep part)"
wrong "sessions in a folder" 73 "intentkv: $d/empty: Is a directory" $p import -o "$d/empty" "$d/chat.jsonl"

printf 'page_size: 16\ntotal_tokens: 64\nblocks:\n  - {name: "a\\e[31m", start: 0, end: 64, policy: ALWAYS}\n' >"$d/escape.yaml"
none "a name cannot act on the terminal" "$($p route "$d/escape.yaml" | grep -q '^a?\[31m' || $p route "$d/escape.yaml" | cat -v)"

# Broken records.
$p import --skip-bad "$cases/trace/broken-line.jsonl" >"$d/out" 2>"$d/err"
ok "--skip-bad counts and goes on" grep -Eq '^skipped +1$' "$d/out"
$run --db "$d/fresh.db" --skip-bad "$small" -s sessions.source=trace -s sessions.path="$cases/trace/truncated.jsonl" 2>"$d/err"
none "and a run says so even when quiet" "$([ $? -eq 0 ] && says '1 broken records skipped' || cat "$d/err")"
rm -f "$d/fresh.db"

# A second writer.
$run --db "$d/kept.db" "$small" -s sessions.count=100000 -s attention.execute=off >/dev/null 2>&1 &
writer=$!
while [ ! -s "$d/kept.db.lock" ] && kill -0 $writer 2>/dev/null; do sleep 0.1; done
wrong "a database that another process writes" 75 "intentkv: $d/kept.db: another process, $writer is writing to it ..." \
	$run --db "$d/kept.db" "$small"
kill -INT $writer
wait $writer
writer=
none "no failed run left a database" "$(ls "$d" | grep fresh)"
