#!/bin/sh
# The documentation says what the program does: generated pages are current, examples are accepted, links lead
# somewhere.
. "${srcdir:=.}/tests/cli/tap.sh"
docs=$srcdir/docs
folder=$(mktemp -d) || exit 99
trap 'rm -rf "$folder"' EXIT
plan 5

sh "$docs/gen_scenario.sh" ./intentkv >"$folder/scenario.md"
ok "docs/scenario.md is what docs/gen_scenario.sh prints" cmp "$folder/scenario.md" "$docs/scenario.md"

# Fenced blocks of YAML that begin with "intentkv: 1", each as a file named by page and line.
for page in "$srcdir/README.md" "$docs"/*.md; do
	awk -v prefix="$folder/$(basename "$page" .md)" '
	/^```/ { inside = !inside && /^```yaml/; first = inside; file = ""; next }
	first { first = 0; if ($0 == "intentkv: 1") file = prefix "-" NR ".yaml" }
	file != "" { print > file }' "$page"
done
ok "the pages have examples of scenarios" test "$(ls "$folder" | grep -c '\.yaml$')" -ge 10
none "every example of a scenario passes check" "$(for file in "$folder"/*.yaml; do ./intentkv check "$file" 2>&1; done |
	grep -v ': good, [0-9]* runs*$')"

# docs/route.md shows the example case and what the program prints for it.
awk '/^```/ { inside = !inside; next } inside' "$docs/route.md" >"$folder/route"
{
	cat "$docs/examples/route.yaml"
	./intentkv route "$docs/examples/route.yaml"
} >"$folder/expected"
ok "docs/route.md shows docs/examples/route.yaml and its output" sh -c '
	head -n "$(wc -l <"$2")" "$1" | cmp - "$2"' - "$folder/route" "$folder/expected"

none "links between pages lead to files" "$(for page in "$srcdir"/*.md "$docs"/*.md "$docs"/results/*.md "$srcdir"/scenarios/*.md; do
	sed -n 's/](/\n&/gp' "$page" | sed -n 's/^](\([^)#]*\).*/\1/p' | grep -v '^[a-z]*://' | while read -r link; do
		[ -z "$link" ] || [ -e "$(dirname "$page")/$link" ] || echo "$page: $link"
	done
done)"
