#!/bin/sh
# Draw the figures of README.md and print its table: the quickstart, and the quickstart at five budgets.
# Usage: docs/img/make.sh [PROGRAM], in the source folder. Takes about two minutes on two cores.
set -eu
program=${1:-./intentkv}
here=$(dirname "$0")
scenario=$here/../../scenarios/quickstart.yaml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$program" run "$scenario" --db "$work/quickstart.db" --no-plots --quiet
"$program" plot "$work/quickstart.db" bytes-error -o "$work" >/dev/null
"$program" run "$scenario" --db "$work/budgets.db" --no-plots --quiet \
	-s 'sweep={router.policy: [streaming, quest, semantic, oracle], router.budget: [3%, 6%, 12%, 25%, 50%]}'
"$program" plot "$work/budgets.db" mass-bytes -o "$work" >/dev/null
cp "$work/bytes-error.svg" "$work/mass-bytes.svg" "$here/"
"$program" query "$work/quickstart.db" summary
