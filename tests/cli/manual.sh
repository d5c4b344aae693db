#!/bin/sh
# One table for each command: what getopt takes, --help says, the manual page says and completion offers is the same.
. "${srcdir:=.}/tests/cli/tap.sh"
d=$(mktemp -d) || exit 99
trap 'rm -rf "$d"' EXIT
plan 11
words() { ./intentkv completion words -- "$@" | cut -f1; }

# Names of commands, and of parts such as "bench gpu", a line each.
words '' | grep -vx help >"$d/top"
while read -r c; do
	echo "$c"
	words "$c" '' | grep -x '[a-z][a-z-]*' | while read -r part; do
		./intentkv "$c" "$part" --help </dev/null | sed -n "1s/^intentkv \($c $part\)[ :].*/\1/p"
	done
done <"$d/top" >"$d/all"
ok "there are commands with parts" test "$(grep -c ' ' "$d/all")" -ge 10 -a "$(wc -l <"$d/top")" -ge 20

mkdir "$d/man"
ok "every manual page is written" ./intentkv manual -o "$d/man"
ok "and is what the program prints for it" sh -c './intentkv manual | cmp - "$1/intentkv.1" &&
	./intentkv manual sweep | cmp - "$1/intentkv-sweep.1"' - "$d/man"
none "make makes a page for each command" "$(while read -r c; do echo "man/intentkv-$c.1"; done <"$d/top" | sort >"$d/want"
	sed -n '/^man_commands/,/[^\\]$/p' "$srcdir/sim/local.mk" | tr -d '\\' | sed 's/.*=//' | tr -s ' \t\n' '\n' | grep . |
		sed 's,.*,man/intentkv-&.1,' | sort | comm -3 - "$d/want")"
none "the page of the program names every command" "$(while read -r c; do
	grep -qF "intentkv\\-$(echo "$c" | sed 's/-/\\-/g')\\fR(1)" "$d/man/intentkv.1" || echo "$c"; done <"$d/top")"
if command -v groff >/dev/null; then
	none "groff finds nothing wrong with them" "$(for f in "$d"/man/*.1; do groff -man -Tutf8 -ww "$f" 2>&1 >/dev/null; done)"
else
	skip "no groff"
fi
if command -v mandoc >/dev/null; then # they bear no date, so that the same source gives the same pages
	none "nor does mandoc" "$(mandoc -Tlint -Wwarning "$d"/man/*.1 | grep -v 'missing date')"
else
	skip "no mandoc"
fi

# Options of each: "--name ARGUMENT" and "-x", sorted.
offered() { { words $1 --; words $1 - | grep -x -e '-[^-]'; } | sort -u; }
helped() { ./intentkv $1 --help | grep -oE '^  (-., |    )--[a-z][a-z-]*' | grep -oE -e '--?[A-Za-z][a-z-]*' | sort -u; }
# In the page: entries of OPTIONS, or of the part's own section; --help is said once.
paged() {
	awk -v name="$1" '/^\.S[HS] / { inside = name ~ / / ? $0 == ".SS " name : $0 == ".SH OPTIONS" } inside && heading; { heading = /^\.TP/ }' \
		"$d/man/intentkv-${1%% *}.1" | sed -e 's/\\f[BRI]//g' -e 's/\\-/-/g' | grep -oE -e '^-., --[a-z-]+|^--[a-z-]+' |
		grep -oE -e '--?[A-Za-z][a-z-]*' | { cat; case $1 in *' '*) printf '%s\n' -h --help ;; esac; } | sort -u
}
none "help, manual page and completion have the same options" "$(while read -r c; do
	offered "$c" >"$d/a"
	helped "$c" >"$d/b"
	paged "$(echo "$c" | sed 's/ \(.*\)-/ \1\\-/')" >"$d/c"
	[ -s "$d/a" ] || echo "$c: none"
	diff "$d/a" "$d/b" | sed -n "s/^[<>]/$c: completion, help/p"
	diff "$d/a" "$d/c" | sed -n "s/^[<>]/$c: completion, page/p"
done <"$d/all")"

# try COMMAND WORD...: what the program says to it, with an option behind that there is not.
try() { timeout 20 ./intentkv "$@" --there-is-none </dev/null 2>&1 >/dev/null; }
none "the program takes every option, with a value where the help names one" "$(while read -r c; do
		offered "$c" >"$d/a"
		while read -r o; do
			case $o in -h | --help) continue ;; esac
			case $(timeout 20 ./intentkv $c "$o" </dev/null 2>&1 >/dev/null) in
			*"needs a value"*) needs=value ;;
			*) needs= ;;
			esac
			text=$(try $c "$o" ${needs:+x})
			case $text in
			*"unknown option $o"*) echo "$c $o: unknown" ;;
			'') case $o in -l | --list | --markdown) ;; *) echo "$c $o: refused without a word" ;; esac ;;
			esac
			case $(./intentkv $c --help | grep -e "$o " | head -n 1) in
			*"$o "[A-Z]*) [ "$needs" ] || echo "$c $o: help names a value, the program takes none" ;;
			esac
		done <"$d/a"
	done <"$d/all")"
none "it takes each value that a table lists" "$(while read -r c; do
	for o in $(offered "$c" | grep -e '^--[^h]'); do
		case $o in --format | --output | --term | --order | --backend) ;; *) continue ;; esac
		for v in $(words $c $o '' | grep -x '[a-z0-9]*'); do
			case $(try $c $o "$v") in *"unknown option --there-is-none"* | *"cannot be used"*) ;; *) echo "$c $o $v: $(try $c $o "$v")" ;; esac
		done
	done
done <"$d/all")"
while read -r c; do offered "$c"; done <"$d/all" | sort -u >"$d/any"
# Every third letter of the others' options, from another one on for each command: long ones may be abbreviations here.
none "and none of another command; getopt is called in one place alone" "$(turn=0; while read -r c; do
	offered "$c" >"$d/a"
	turn=$(((turn + 1) % 3))
	for o in $(grep -vx -f "$d/a" "$d/any" | grep -e '^-[^-]' | awk "NR % 3 == $turn") --no-such; do
		case $(timeout 20 ./intentkv $c "$o" x </dev/null 2>&1 >/dev/null) in
		*"unknown option $o"* | *"got \"$o\""* | *": expected "[a-z]*", "*" or "*) ;;
		*) echo "$c $o" ;;
		esac
	done
done <"$d/all"
grep -l getopt_long "$srcdir"/sim/*.c | grep -v '/command\.c$')"
