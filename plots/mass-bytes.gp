set xlabel 'bytes read, of dense FP16 (%)'
set ylabel 'dense softmax mass on the selected tokens (%)'
set xrange [0:*]
set yrange [*:102]
plot for [i=0:blocks-1] data index i using 2:3 with points linewidth 2 linecolor rgb c(i) pointtype s(i) \
	pointsize 1.6 title columnheader(1)
