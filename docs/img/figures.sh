#!/bin/sh
# Draw the small pictures of docs/plots.md and write its table: the quickstart at two budgets on two layers, with a fast
# tier that holds a part. Usage: docs/img/figures.sh [PROGRAM] > docs/plots.md, in the source folder. Takes about two
# minutes on two cores.
set -eu
program=${1:-./intentkv}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$program" run "$here/../../scenarios/quickstart.yaml" --db "$work/r.db" --no-plots --quiet \
	-s model.executed_layers=2 -s sessions.context_tokens=8192 \
	-s 'memory.tiers=[{name: hbm, capacity: 640MiB}, {name: host, capacity: 64GiB}]' \
	-s 'sweep={router.policy: [streaming, quest, semantic, oracle], router.budget: [6%, 25%]}'
"$program" plot "$work/r.db" -o "$work" --term png >/dev/null
mkdir -p "$here/figures"
cat <<'END'
# Figures

`intentkv plot DB [FIGURE]... [--term svg|png|pdf|dumb] [--run RUN]` draws them with gnuplot. Each leaves three files:
`FIGURE.tsv`, what its query answered; `FIGURE.gp`, the whole script, that `gnuplot FIGURE.gp` in that folder runs as it is,
also after it was edited; and the picture. `--term dumb` draws with characters and prints them. `--run 1,4` or `--run all` chooses
runs; without it the newest runs of the scenario that was run last are shown. Where there are more runs than a figure can tell
apart it shows the first ones and says so. `pareto` and `mass-bytes` suit sweeps of any size; `plot --list` marks them, and
`intentkv sweep --plot FOLDER` draws them. Without gnuplot the scripts and the data are left, and the exit code is 69.

Colours are Okabe and Ito's, which the colour-blind can tell apart; curves differ in dashes and marks too, and the parts of a bar go
from dark to light, so that a print in grey can be read. A name that starts with `sim` or says "modelled" is the cost
model's time for the run's machine profile; "measured" is the time of this program on the machine that ran it.

The small pictures below and this page are made by `docs/img/figures.sh`: the quickstart at two budgets, two executed layers, and a
fast tier of 640 MiB.

| figure | query | shows |
|---|---|---|
END
"$program" plot --list | while read -r name query title; do
	[ -f "$work/$name.gp" ] || continue
	sed -i 's/^set terminal .*/set terminal pngcairo noenhanced size 640,384 fontscale 0.62 font "sans,11" background "#ffffff"/' \
		"$work/$name.gp"
	(cd "$work" && gnuplot "$name.gp")
	cp "$work/$name.png" "$here/figures/"
	echo "| ![$name](img/figures/$name.png) | \`$query\` | **$name**: $title |"
done
