# Roofline: the first block gives the ceilings, 10^9 bytes and 10^9 operations a second; every other one a point.
stats data index 0 every ::1 using (memory = $2, arithmetic = $3, 1) nooutput
stats data every ::1 using 2 name 'OPERATIONS' nooutput
stats data every ::1 using 3 name 'RATE' nooutput
unset label 98
set title plot_title
set logscale xy
set format '%g'
set xrange [OPERATIONS_min / 2:*]
set yrange [RATE_min / 2:2 * arithmetic]
set xlabel 'operations a byte of stored K and V'
set ylabel '10^9 operations a second'
roof(x) = memory * x < arithmetic ? memory * x : arithmetic
plot roof(x) with lines linewidth 2 linecolor rgb '#444444' title label[1], \
	for [i=1:blocks-1] data index i every ::1 using 2:3 with points pointtype s(i) pointsize 1.2 linecolor rgb c(i) title label[i + 1]
