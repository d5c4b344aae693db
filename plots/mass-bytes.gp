set xlabel 'bytes read, of dense FP16 (%)'
set ylabel 'dense softmax mass on the selected tokens (%)'
widest = 0.0
stats data using (widest = $2 > widest ? $2 : widest, 1) nooutput
set xrange [0:widest > 0 ? 1.05 * widest : 1]
set yrange [0<*<90:100]
plot for [i=0:blocks-1] data index i every ::1 using 2:($4 > 0 ? $3 : NaN) with lines linewidth 2 linecolor rgb c(i) \
	dashtype d(i) notitle, \
	for [i=0:blocks-1] data index i every ::1 using 2:3 with points linewidth 2 linecolor rgb c(i) pointtype s(i) \
	pointsize 1.6 title label[i + 1]
