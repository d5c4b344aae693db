set xlabel 'decode step of a session'
set ylabel 'tokens, mean over sessions'
set yrange [0:*]
set format y '%.0f'
period = curves < 10 ? 10 : curves
mark(i) = int($0) % period == i * period / curves
plot data index 0 every ::1 using 2:3 with filledcurves y1=0 fillcolor rgb '#eeeeee' fillstyle solid 1 border rgb '#999999' \
	title 'whole context', \
	for [i=0:curves-1] data index i every ::1 using 2:4 with lines linewidth 2 linecolor rgb c(i) dashtype d(i) notitle, \
	for [i=0:curves-1] data index i every ::1 using 2:(mark(i) ? $4 : NaN) with points linecolor rgb c(i) \
	pointtype s(i) pointsize 1 notitle, \
	for [i=0:curves-1] keyentry with linespoints linewidth 2 linecolor rgb c(i) dashtype d(i) pointtype s(i) \
	title label[i + 1]
