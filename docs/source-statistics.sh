#!/bin/sh
# Table and figure of docs/synthetic-source.md: statistics of the presets beside those of recorded attention.
#
#   docs/source-statistics.sh [BUILD-FOLDER [OUTPUT.svg]]
#
# Prints the table as markdown. The build folder must have bench_source_statistics (make check makes it). Recorded
# values are means over 16 sessions of a 23 M-parameter model (layers 3 and 7).
set -eu
build=${1:-.} svg=${2:-synthetic-source.svg}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

cat >"$dir/recorded" <<'EOF'
recall_head_0.05 .8928 .7824
recall_kv_head_0.05 .8617 .7194
recall_shared_0.05 .8308 .6930
recall_kv_head_0.02 .7789 .5748
recall_kv_head_0.1 .9094 .8161
recall_kv_head_0.25 .9598 .9178
recall_kv_head_0.5 .9877 .9720
recency_16 .3142 .1694
recency_64 .5152 .3993
recency_256 .6279 .6481
recency_1024 .7682 .8412
overlap_1 .6669 .6352
overlap_4 .5889 .6205
overlap_16 .5127 .5969
overlap_64 .4384 .5310
effective_pages 18.65 47.50
EOF
# Means over three seeds, as the unit test takes them.
for layer in 3 7; do
	for seed in 1 2 3; do
		"$build/bench_source_statistics" synthetic 0 preset=agent-layer$layer seed=$seed
	done | awk -F"\t" "{ s[\$1] += \$2 / 3 } END { for (k in s) printf \"%s\\t%.4f\\n\", k, s[k] }" >"$dir/$layer"
done
echo "| statistic | layer 3 recorded | generated | layer 7 recorded | generated |"
echo "|---|---|---|---|---|"
awk -v three="$dir/3" -v seven="$dir/7" '
	BEGIN {
		while ((getline line < three) > 0) { split(line, f, "\t"); a[f[1]] = f[2] }
		while ((getline line < seven) > 0) { split(line, f, "\t"); b[f[1]] = f[2] }
	}
	{ printf "| %s | %.3f | %.3f | %.3f | %.3f |\n", $1, $2, a[$1], $3, b[$1] }
	END {
		for (i = split("model_recall model_correlation score_correlation", m, " "); i > 0; i--)
			printf "| %s | | %.3f | | %.3f |\n", m[i], a[m[i]], b[m[i]]
	}' "$dir/recorded"

# Rows: x, layer 3 recorded, generated, layer 7 recorded, generated.
rows() { # statistic's prefix
	awk -v three="$dir/3" -v seven="$dir/7" -v prefix="$1" '
		BEGIN {
			while ((getline line < three) > 0) { split(line, f, "\t"); a[f[1]] = f[2] }
			while ((getline line < seven) > 0) { split(line, f, "\t"); b[f[1]] = f[2] }
		}
		index($1, prefix) == 1 { print substr($1, length(prefix) + 1), $2, a[$1], $3, b[$1] }
	' "$dir/recorded" | sort -g >"$dir/$1.tsv"
}
rows recall_kv_head_
rows recency_
rows overlap_
cat >"$dir/plot.gp" <<'EOF'
set terminal svg size 1080,360 noenhanced font 'sans-serif,11'
set multiplot layout 1,3
set logscale x
set yrange [0:1]
set grid
set key bottom right
set style line 1 lc rgb '#0072b2' pt 7 lw 2
set style line 2 lc rgb '#d55e00' pt 5 lw 2
set title 'Mass in the best pages of a KV head'
set xlabel 'share of the pages read'
plot @RECALL
set title 'Mass of the newest tokens'
set xlabel 'tokens'
plot @RECENCY
set title 'Best 10 % of pages kept'
set xlabel 'steps later'
plot @OVERLAP
EOF
curves() {
	printf "%s using 1:2 with linespoints ls 1 dt 2 title 'layer 3 recorded'" "'$1'"
	printf ", '' using 1:3 with linespoints ls 1 title 'layer 3 generated'"
	printf ", '' using 1:4 with linespoints ls 2 dt 2 title 'layer 7 recorded'"
	printf ", '' using 1:5 with linespoints ls 2 title 'layer 7 generated'"
}
sed -i -e "s|@RECALL|$(curves recall_kv_head_.tsv)|" -e "s|@RECENCY|$(curves recency_.tsv)|" \
	-e "s|@OVERLAP|$(curves overlap_.tsv)|" "$dir/plot.gp"
(cd "$dir" && gnuplot plot.gp >figure.svg)
cp "$dir/figure.svg" "$svg"
