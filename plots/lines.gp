# One curve a run, column y. Marks of different runs stand on different places, so that equal curves can still be told apart.
period = curves < 10 ? 10 : curves
mark(i) = int($0) % period == i * period / curves
plot for [i=0:curves-1] data index i every ::1 using 2:y with lines linewidth 2 linecolor rgb c(i) \
	dashtype d(i) notitle, \
	for [i=0:curves-1] data index i every ::1 using 2:(mark(i) ? column(y) : NaN) with points linecolor rgb c(i) \
	pointtype s(i) pointsize 1 notitle, \
	for [i=0:curves-1] keyentry with linespoints linewidth 2 linecolor rgb c(i) dashtype d(i) pointtype s(i) \
	title label[i + 1]
