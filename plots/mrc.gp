set xlabel 'capacity (bytes)'
set ylabel 'references that miss (%)'
set logscale x 2
set format x '%.0b %BB'
set yrange [0:105]
plot for [i=0:blocks-1] data index i every ::1 using 2:($3 * 100) with linespoints linewidth 2 linecolor rgb c(i) \
	dashtype d(i) pointtype s(i) pointsize 0.7 title label[i + 1]
