#!/bin/sh
# query, runs and plot over a sample database.
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
n=0
ok() {
	n=$((n + 1))
	if [ "$1" -eq 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; fi
}
p=./store_driver
$p make "$d/t.db" 4 200
ok $? "a sample database is written"
$p query "$d/t.db" >"$d/out" && grep -q '^By role' "$d/out" && grep -q 'router.policy=quest' "$d/out"
ok $? "query without a name shows the overview"
$p query "$d/t.db" --sql 'SELECT 1 AS a, NULL AS b, 0.5 AS c' -f json | tr -d ' \n' >"$d/out"
[ "$(cat "$d/out")" = '[{"a":1,"b":null,"c":0.5}]' ]
ok $? "JSON keeps numbers and nulls"
[ "$($p query "$d/t.db" runs -f jsonl | wc -l)" -eq 4 ] && $p query "$d/t.db" runs -f jsonl | head -1 | grep -q '^{"run": 1, .*}$'
ok $? "JSON lines have a row each"
[ "$($p query "$d/t.db" summary -p run=1,3 -f csv --no-header | cut -d, -f1 | tr '\n' ' ')" = "1 3 " ]
ok $? "several runs can be chosen"
$p db check "$d/t.db" >"$d/out" && grep -q good "$d/out" && $p db backup "$d/t.db" "$d/copy.db" &&
	[ "$($p runs "$d/copy.db" --hash)" = "$($p runs "$d/t.db" --hash)" ]
ok $? "a copy is good and holds the same"
$p db export "$d/copy.db" -o "$d/csv" >"$d/out" && [ "$(wc -l <"$d/csv/step.csv")" -eq 1601 ] && head -1 "$d/csv/run.csv" | grep -q '^run_id,'
ok $? "tables are exported as CSV"
mkdir "$d/full" && ln -s /dev/full "$d/full/step.csv" && $p db export "$d/copy.db" --table step -o "$d/full" 2>"$d/err"
[ $? -eq 74 ] && grep -q "full/step.csv: cannot write: No space left" "$d/err"
ok $? "a full disk is told with the file"
$p db schema "$d/t.db" | grep -q '^CREATE TABLE step ('
ok $? "the schema is printed"
$p query "$d/t.db" sumary 2>"$d/err"
[ $? -eq 64 ] && grep -q 'did you mean "summary"' "$d/err"
ok $? "a misspelt query is answered with the nearest name"
$p query "$d/t.db" slowest --param limit=3 -f csv --no-header >"$d/out" && [ "$(wc -l <"$d/out")" -eq 3 ]
ok $? "parameters reach the query"
$p query "$d/t.db" summary -p nonsense=1 2>"$d/err"
[ $? -eq 64 ]
ok $? "an unknown parameter is refused"
$p query "$d/t.db" --sql 'DELETE FROM run' 2>"$d/err"
[ $? -eq 64 ]
ok $? "writing is refused"
[ "$($p query "$d/t.db" --sql "SELECT 'a' || char(27) || '[31m' AS x" --no-header)" = 'a [31m' ]
ok $? "control characters do not reach the terminal"
[ "$($p runs "$d/t.db" --hash | wc -l)" -eq 4 ] && $p runs "$d/t.db" --hash 2 | grep -Eq '^[0-9a-f]{32}$'
ok $? "runs --hash prints hashes"
$p runs "$d/none.db" 2>"$d/err"
[ $? -eq 65 ] && [ ! -e "$d/none.db" ]
ok $? "a missing database is an error and is not made"
PATH=/nonexistent $p plot "$d/t.db" hit-rate pareto -o "$d/n" >"$d/out" 2>"$d/err"
[ $? -eq 69 ] && [ -s "$d/n/hit-rate.gp" ] && [ -s "$d/n/hit-rate.tsv" ] && [ -s "$d/n/pareto.gp" ] && [ ! -s "$d/out" ] &&
	[ "$(cat "$d/err")" = "intentkv: no pictures: gnuplot is not there (Debian, Ubuntu: gnuplot-nox); their scripts and data are in $d/n, \`gnuplot FIGURE.gp\` there draws one" ]
ok $? "without gnuplot the scripts and the data are left, and that is said once"
if command -v gnuplot >/dev/null; then
	$p plot "$d/t.db" -o "$d/p" >"$d/out" 2>"$d/err"
	[ $? -eq 0 ] && [ "$(ls "$d"/p/*.svg | wc -l)" -eq 14 ] && grep -qx 'intentkv: the runs have no data for: regret, layers, memory, prefetch' "$d/err"
	ok $? "every figure that has data is drawn"
	$p plot "$d/t.db" -o "$d/dumb" --term dumb hit-rate >"$d/out" 2>"$d/err" && grep -q 'Fast-tier hit rate' "$d/out" &&
		[ -s "$d/dumb/hit-rate.txt" ]
	ok $? "a dumb terminal gets characters"
	$p plot "$d/t.db" -o "$d/pdf" --term pdf pareto >"$d/out" 2>"$d/err" && head -c 4 "$d/pdf/pareto.pdf" | grep -q PDF
	ok $? "so does a pdf get drawn"
	rm "$d"/p/*.svg
	(cd "$d/p" && for f in *.gp; do gnuplot "$f" || exit 1; done) 2>"$d/err" && [ "$(ls "$d"/p/*.svg | wc -l)" -eq 14 ]
	ok $? "the scripts run as they are"
	# y of the text that is $2 in picture $1
	height() { awk -v text="$2" '/translate\(/ { split($0, part, /[(,)]/); y = part[3] } index($0, "<text>" text) { print y; exit }' "$1"; }
	$p make "$d/many.db" 150 4 && $p plot "$d/many.db" -r all -o "$d/many" time bytes-error growth >"$d/out" 2>"$d/err"
	awk -v label="$(height "$d/many/time.svg" 'modelled time of a step')" -v legend="$(height "$d/many/time.svg" overhead)" \
		'BEGIN { exit !(label > 3000 && legend - label > 20) }'
	ok $? "with many runs a legend stands below the name of its axis"
	awk -v title="$(height "$d/many/bytes-error.svg" 'Bytes read')" -v first="$(height "$d/many/bytes-error.svg" router)" \
		'BEGIN { exit !(title < 40 && first - title > 40 && first - title < 120) }'
	ok $? "and a title next to its bars"
	grep '<text>[0-9]' "$d/many/growth.svg" | sort | uniq -d >"$d/twice"
	[ -s "$d/many/growth.svg" ] && ! grep -q '[0-9]k<' "$d/many/growth.svg" && ! grep -qvw 0 "$d/twice"
	ok $? "no two tics of tokens read alike"
else
	echo "ok $((n + 1)) - figures # SKIP gnuplot is not installed"
	n=$((n + 1))
fi
$p query "$d/t.db" summary -f csv --no-header -p run=1 | awk -F, 'END { exit !($(NF - 1) + 0 > 1 && $NF + 0 > 1) }'
ok $? "the summary has the speed-ups"
$p make "$d/empty.db" 0 0 && $p query "$d/empty.db" >"$d/out" 2>"$d/err" && grep -q 'holds no runs' "$d/err" &&
	$p runs "$d/empty.db" >"$d/out" 2>"$d/err" && grep -q 'holds no runs' "$d/err"
ok $? "a database without runs says so"
cp "$d/t.db" "$d/c.db" && $p crash "$d/c.db" && $p runs "$d/c.db" -f csv | grep -q '^5,crashed,interrupted'
ok $? "a run whose process died is shown as interrupted"
$p runs "$d/c.db" --hash 5 2>"$d/err"
[ $? -eq 65 ] && grep -q 'not done' "$d/err" && [ "$($p runs "$d/c.db" --hash 2>/dev/null | wc -l)" -eq 4 ]
ok $? "a run that is not done has no hash, and says so"
$p query --list | grep -q '^pareto  *Runs by bytes'
ok $? "--list shows names with their help"
mkdir "$d/ro" && cp "$d/t.db" "$d/ro/" && chmod 555 "$d/ro" && chmod 444 "$d/ro/t.db"
as() { "$@"; }
if [ "$(id -u)" -eq 0 ]; then
	as() { false; }
	# Root may write anywhere: a read-only mount in a name space of its own, where that is allowed.
	if unshare -m sh -c 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"' - "$d/ro" 2>/dev/null; then
		as() { unshare -m sh -c 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"' "$d/ro" "$@"; }
	fi
fi
if as true; then
	as $p query "$d/ro/t.db" summary >"$d/out" && grep -q quest "$d/out"
	ok $? "a database on a read-only medium is read"
	as $p make "$d/ro/t.db" 1 1 2>"$d/err"
	[ $? -eq 73 ] && as $p make "$d/ro/new.db" 1 1 2>"$d/err2"
	[ $? -eq 73 ] && grep -q 'ro/new.db' "$d/err2" && [ "$(ls "$d/ro")" = t.db ]
	ok $? "a folder that cannot be written is refused by name"
	as $p plot "$d/t.db" hit-rate -o "$d/ro/p" 2>"$d/err"
	[ $? -eq 73 ]
	ok $? "so is a folder for figures"
else
	for what in "a read-only medium is read" "an unwritable folder is refused" "a folder for figures"; do
		n=$((n + 1))
		echo "ok $n - $what # SKIP root may write everywhere, and a private mount is not allowed here"
	done
fi
chmod 755 "$d/ro"
sh "${srcdir:-.}/docs/gen_database.sh" "${srcdir:-.}" | cmp -s - "${srcdir:-.}/docs/database.md"
ok $? "docs/database.md is current"
echo "1..$n"
