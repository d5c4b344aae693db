set xlabel 'decode step of a session'
set ylabel 'selected pages found in the fast tier (%)'
set yrange [0:105]
plot for [i=0:blocks-1] data index i using 2:3 with linespoints linewidth 2 linecolor rgb c(i) dashtype d(i) \
	pointtype s(i) pointsize 0.7 pointinterval -12 title columnheader(1)
