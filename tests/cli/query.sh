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
PATH=/nonexistent $p plot "$d/t.db" hit-rate -o "$d/n" 2>"$d/err"
[ $? -eq 69 ] && [ -s "$d/n/hit-rate.gp" ] && [ -s "$d/n/hit-rate.tsv" ]
ok $? "without gnuplot the script and the data are left"
if command -v gnuplot >/dev/null; then
	$p plot "$d/t.db" -o "$d/p" >"$d/out" 2>"$d/err"
	[ $? -eq 0 ] && [ ! -s "$d/err" ] && [ "$(ls "$d"/p/*.svg | wc -l)" -eq 5 ]
	ok $? "every figure is drawn"
	rm "$d"/p/*.svg
	(cd "$d/p" && for f in *.gp; do gnuplot "$f" || exit 1; done) 2>"$d/err" && [ "$(ls "$d"/p/*.svg | wc -l)" -eq 5 ]
	ok $? "the scripts run as they are"
else
	echo "ok $((n + 1)) - figures # SKIP gnuplot is not installed"
	n=$((n + 1))
fi
sh "${srcdir:-.}/docs/gen_database.sh" "${srcdir:-.}" | cmp -s - "${srcdir:-.}/docs/database.md"
ok $? "docs/database.md is current"
echo "1..$n"
