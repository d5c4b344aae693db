#!/bin/sh
# unicode_table.c from the Unicode Character Database: sh unicode_table.sh FOLDER, where FOLDER has UnicodeData.txt,
# CompositionExclusions.txt and DerivedAge.txt, of https://www.unicode.org/Public/15.0.0/ucd/ (Debian: unicode-data).
# What is younger than Unicode 9.0 is left out: Hugging Face's tokenizers 0.23 still normalises by that version, and
# their ids are what ours are measured against. What is older never changes, by Unicode's stability policy.
set -e
version=$(sed -n '1s/^# CompositionExclusions-\([0-9.]*\)\.txt.*/\1/p' "$1/CompositionExclusions.txt")
LC_ALL=C awk -F'[;# ]+' -v version="$version" -v newest=9.0 '
function number(hex,   i, n) {
	n = 0
	for (i = 1; i <= length(hex); i++)
		n = n * 16 + index("0123456789ABCDEF", substr(hex, i, 1)) - 1
	return n
}
function begin(declaration) {
	printf "\n%s = {", declaration
	width = 999
}
function put(text) {
	if (width + length(text) + 2 > 116) {
		printf "\n\t"
		width = 8
	} else {
		printf " "
		width++
	}
	printf "%s,", text
	width += length(text) + 1
}
function end(name) {
	printf "\n};\nconst uint32_t %s_count = sizeof %s / sizeof *%s;\n", name, name, name
}
# Ranges of codes with the same class.
function classes_out(   i, from, last) {
	begin("const struct unicode_class unicode_classes[]")
	for (i = 1; i <= marks; i = last + 1) {
		from = mark[i]
		for (last = i; last < marks && mark[last + 1] == mark[last] + 1 && class[mark[last + 1]] == class[from];)
			last++
		put(sprintf("{0x%x,0x%x,%d}", from, mark[last], class[from]))
	}
	end("unicode_classes")
}
FNR == 1 {
	file++
}
file == 1 {
	if ($1 ~ /^[0-9A-F]+$/)
		excluded[number($1)] = 1
	next
}
file == 2 {
	if ($2 + 0 <= newest || $1 !~ /^[0-9A-F.]+$/)
		next
	ends = split($1, range, "[.][.]")
	for (i = number(range[1]); i <= number(range[ends]); i++)
		young[i] = 1
	next
}
{
	split($0, field, ";")
	code = number(field[1])
	if (code in young)
		next
	if (field[4] > 0) {
		class[code] = field[4]
		mark[++marks] = code
	}
	if (field[6] == "" || field[6] ~ /</)
		next
	parts = split(field[6], part, " ")
	if (parts == 1) {
		single[++singles] = code
		to[code] = number(part[1])
	} else {
		pair[++pairs] = code
		first[code] = number(part[1])
		second[code] = number(part[2])
	}
}
END {
	print "/* Canonical decompositions and combining classes of the Unicode Character Database, version " version " up to"
	print " * what " newest " had, written by unicode_table.sh. Hangul syllables follow a rule instead. The data: Copyright"
	print " * (c) Unicode, Inc., under the Unicode License, https://www.unicode.org/license.txt. */"
	print "#include \"sim/unicode_table.h\""
	print "\n/* clang-format off */"
	classes_out()
	begin("const struct unicode_single unicode_singles[]")
	for (i = 1; i <= singles; i++)
		put(sprintf("{0x%x,0x%x}", single[i], to[single[i]]))
	end("unicode_singles")
	begin("const struct unicode_pair unicode_pairs[]")
	for (i = 1; i <= pairs; i++)
		put(sprintf("{0x%x,0x%x,0x%x}", pair[i], first[pair[i]], second[pair[i]]))
	end("unicode_pairs")

	# Places in unicode_pairs by (first, second); insertion keeps this free of the awk at hand.
	for (i = 1; i <= pairs; i++) {
		code = pair[i]
		if (code in excluded || code in class || first[code] in class)
			continue
		for (j = ++composed; j > 1 && (first[pair[order[j - 1]]] > first[code] ||
		     (first[pair[order[j - 1]]] == first[code] && second[pair[order[j - 1]]] > second[code])); j--)
			order[j] = order[j - 1]
		order[j] = i
		if (!(second[code] in class) && !(second[code] in joins)) {
			joins[second[code]] = 1
			for (j = ++joined; j > 1 && join[j - 1] > second[code]; j--)
				join[j] = join[j - 1]
			join[j] = second[code]
		}
	}
	begin("const uint16_t unicode_composed[]")
	for (i = 1; i <= composed; i++)
		put(order[i] - 1 "")
	end("unicode_composed")
	begin("const uint32_t unicode_joining[]")
	for (i = 1; i <= joined; i++)
		put(sprintf("0x%x", join[i]))
	end("unicode_joining")
}' "$1/CompositionExclusions.txt" "$1/DerivedAge.txt" "$1/UnicodeData.txt"
