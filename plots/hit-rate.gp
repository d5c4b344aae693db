set xlabel 'decode step of a session'
set ylabel 'selected pages found in the fast tier (%)'
set yrange [0:105]
lowest = 100.0
stats data using (lowest = $3 < lowest ? $3 : lowest, 1) nooutput
if (lowest >= 100) {
	set label 1 'In all runs every selected page was in the fast tier.' at graph 0.5, 0.5 center noenhanced
}
# Marks of different runs stand on different steps, so that equal curves can still be told apart.
period = blocks < 10 ? 10 : blocks
mark(i) = int($0) % period == i * period / blocks
plot for [i=0:blocks-1] data index i every ::1 using 2:3 with lines linewidth 2 linecolor rgb c(i) \
	dashtype d(i) notitle, \
	for [i=0:blocks-1] data index i every ::1 using 2:(mark(i) ? $3 : NaN) with points linecolor rgb c(i) \
	pointtype s(i) pointsize 1 notitle, \
	for [i=0:blocks-1] keyentry with linespoints linewidth 2 linecolor rgb c(i) dashtype d(i) pointtype s(i) \
	title label[i + 1]
