set xlabel 'measured here, executed layers (ms)'
set ylabel "modelled for the run's machine profile, all layers (ms)"
set logscale xy
plot x with lines linecolor rgb '#999999' dashtype 2 title 'equal', \
	for [i=0:curves-1] data index i every ::1 using 3:2 with points linecolor rgb c(i) pointtype s(i) pointsize 0.8 \
	title label[i + 1]
