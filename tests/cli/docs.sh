#!/bin/sh
# The documentation says what the program does: generated pages are current, examples are accepted, the manual
# names every command and option, links lead somewhere.
. "${srcdir:=.}/tests/cli/tap.sh"
docs=$srcdir/docs
manual=$docs/man/intentkv.1
folder=$(mktemp -d) || exit 99
trap 'rm -rf "$folder"' EXIT
plan 9

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

# A manual without its markup: fonts and escapes go, "\-" is "-".
sed -e 's/\\f[BRIP]//g' -e 's/\\-/-/g' "$manual" >"$folder/manual"
commands=$(./intentkv --help | sed -n '/^commands:/,/^$/s/^  \([a-z-]*\) .*/\1/p')
ok "--help names the commands" test "$(echo "$commands" | wc -w)" -ge 10
none "the manual has a section for every command" "$(for command in $commands; do
	grep -q "^\.SS $command\$" "$folder/manual" || echo "$command"
done)"
none "the manual names every long option of a command in its section" "$(for command in $commands; do
	awk -v head=".SS $command" '/^\.S[SH]/ { inside = $0 == head } inside' "$folder/manual" >"$folder/section"
	./intentkv "$command" --help | grep -o -e '--[a-z][a-z-]*' | sort -u | while read -r option; do
		grep -qE -e "$option([^a-z-]|\$)" "$folder/section" || echo "$command $option"
	done
done)"
none "the manual names no option that a command lacks" "$(for command in $commands; do
	./intentkv "$command" --help >"$folder/help"
	awk -v head=".SS $command" '/^\.S[SH]/ { inside = $0 == head } inside' "$folder/manual" |
		grep -o -e '--[a-z][a-z-]*' | sort -u | while read -r option; do
		grep -qE -e "$option([^a-z-]|\$)" "$folder/help" || echo "$command $option"
	done
done)"

# docs/route.md shows the example case and what the program prints for it.
awk '/^```/ { inside = !inside; next } inside' "$docs/route.md" >"$folder/route"
{
	cat "$docs/examples/route.yaml"
	./intentkv route "$docs/examples/route.yaml"
} >"$folder/expected"
ok "docs/route.md shows docs/examples/route.yaml and its output" sh -c '
	head -n "$(wc -l <"$2")" "$1" | cmp - "$2"' - "$folder/route" "$folder/expected"

none "links between pages lead to files" "$(for page in "$srcdir"/*.md "$docs"/*.md "$srcdir"/scenarios/*.md; do
	sed -n 's/](/\n&/gp' "$page" | sed -n 's/^](\([^)#]*\).*/\1/p' | grep -v '^[a-z]*://' | while read -r link; do
		[ -z "$link" ] || [ -e "$(dirname "$page")/$link" ] || echo "$page: $link"
	done
done)"
