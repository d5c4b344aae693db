#!/bin/sh
# docs/tutorial.md: every command of the page, in its order, in a folder of its own.
. "${srcdir:=.}/tests/cli/tap.sh"
folder=$(mktemp -d) || exit 99
trap 'rm -rf "$folder"' EXIT
here=$PWD
sources=$(cd "$srcdir" && pwd)
ln -s "$sources/docs" "$sources/scenarios" "$folder"
mkdir "$folder/results"
printf '#!/bin/sh\nexec "%s/intentkv" "$@"\n' "$here" >"$folder/intentkv"
chmod +x "$folder/intentkv"
# Blocks of the page, one script each.
awk -v to="$folder/block" '/^```sh$/ { n++; on = 1; next } /^```$/ { on = 0 } on { print > (to n ".sh") }' "$sources/docs/tutorial.md"
blocks=$(find "$folder" -name 'block*.sh' | wc -l)
plan $((blocks + 4))
i=0
while [ $((i += 1)) -le "$blocks" ]; do
	title=$(grep -v '^END$' "$folder/block$i.sh" | sed -n '1s/.*\.\/intentkv \([a-z-]*\).*/\1/p')
	if grep -q 'intentkv \(plot\|report\)' "$folder/block$i.sh" && ! command -v gnuplot >/dev/null; then
		skip "no gnuplot"
	else
		ok "block $i: ${title:-a scenario and what it means}" sh -c "cd '$folder' && sh -eu 'block$i.sh' </dev/null"
	fi
done
is() { none "$1" "$([ "$2" = "$3" ] || echo "expected $2, got $3")"; }
is "the sweep has nine runs, all done: dense has no budget, so it is one" 9 "$(./intentkv query "$folder/results/choice.db" --no-header --format csv \
	--sql "SELECT sum(status = 'done') FROM run" | tr -d '\r')"
ok "the oracle's error is not above the streaming router's" sh -c "test 1 = \$(./intentkv query '$folder/results/choice.db' \
	--no-header --format csv --sql \"SELECT (SELECT avg(rel_l2) FROM step JOIN run USING (run_id) WHERE router = 'oracle') <= (SELECT \
	avg(rel_l2) FROM step JOIN run USING (run_id) WHERE router = 'streaming')\" | tr -d '\r')"
ok "an export has the steps" test -s "$folder/results/choice-csv/step.csv"
ok "figures do not go where the program's own scripts are" sh -c "./intentkv plot '$folder/results/choice.db' pareto \
	-o '$sources/plots'; test \$? = 73"
