# Sourced by test scripts: results as TAP. A script calls plan once, then ok, none or skip for every test.
number=0
plan() { echo "1..$1"; }

# none DESCRIPTION OFFENDERS: passes when OFFENDERS is empty, else prints them.
none() {
	number=$((number + 1))
	if [ -z "$2" ]; then
		echo "ok $number - $1"
	else
		echo "not ok $number - $1"
		printf '%s\n' "$2" | sed 's/^/# /'
	fi
}

# ok DESCRIPTION COMMAND...: passes when the command succeeds; its output is shown if it fails.
ok() {
	text=$1
	shift
	if output=$("$@" 2>&1); then none "$text" ""; else none "$text" "failed: $*
$output"; fi
}

skip() {
	number=$((number + 1))
	echo "ok $number # SKIP $1"
}
