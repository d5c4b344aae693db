set xlabel 'bytes read, of dense FP16 (%)'
set ylabel 'relative L2 error of the output (median over steps)'
set logscale xy
set format x '%g'
set format y '%g'
if (!dumb) { set grid mxtics mytics }
plot data index 0 every ::1 using 2:3 with steps linewidth 2 linecolor rgb '#999999' dashtype 2 title label[1], \
	for [i=1:blocks-1] data index i every ::1 using 2:3 with points linewidth 2 linecolor rgb c(i - 1) pointtype s(i - 1) \
	pointsize 1.5 title label[i + 1]
