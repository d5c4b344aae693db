# Roofline: the first block gives the ceilings, GB/s and GFLOP/s; every other one a point.
stats data index 0 every ::1 using (memory = $1, arithmetic = $2, 1) nooutput
set logscale xy
set xrange [0.25:*]
set yrange [1:2 * arithmetic]
set xlabel 'operations a byte of stored K and V'
set ylabel '10^9 operations a second'
roof(x) = memory * x < arithmetic ? memory * x : arithmetic
plot roof(x) with lines linewidth 2 linecolor rgb '#444444' title 'reads and FMA of one thread', \
	for [i=1:blocks-1] data index i every ::1 using 1:2 with points pointtype s(i) pointsize 1.2 linecolor rgb c(i) title label[i + 1]
