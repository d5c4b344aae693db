# Turn SQL files into C. mode=text: one array of characters, named by -v array=NAME, holding all files in order.
# mode=queries: the table of named queries; the first line of each file, a comment, is its help.
function quote(s) {
	gsub(/\\/, "\\\\", s)
	gsub(/"/, "\\\"", s)
	gsub(/\t/, "\\t", s)
	return "\"" s "\\n\""
}
function help(s) {
	sub(/^-- */, "", s)
	gsub(/\\/, "\\\\", s)
	gsub(/"/, "\\\"", s)
	return "\"" s "\""
}
BEGIN {
	print "/* Generated from SQL files. */"
	print "#include \"db/store_internal.h\""
	if (mode == "text")
		print "const char " array "[] ="
	else
		print "const struct store_named store_queries[] = {"
}
FNR == 1 && mode == "queries" {
	if (NR > 1)
		print "\t},"
	name = FILENAME
	sub(/^.*\//, "", name)
	sub(/\.sql$/, "", name)
	print "\t{\"" name "\", " help($0) ","
}
{ print "\t" quote($0) }
END {
	if (mode == "text")
		print "\t;"
	else
		print "\t},\n\t{0},\n};"
}
