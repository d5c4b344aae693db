set xtics rotate by -35 noenhanced scale 0
set ylabel 'bytes read, of dense FP16 (%)'
set y2label 'relative L2 error of the output'
set y2tics
set border 11
set yrange [0:*]
set y2range [0:*]
set xrange [-0.7:STATS_records - 1.3]
set boxwidth 0.55
set key outside top center horizontal
set grid noxtics
plot data using 0:3:xtic(2) every ::1 with boxes linecolor rgb c(5) title 'bytes read (left axis)', \
	'' using 0:4:4:5 every ::1 axes x1y2 with yerrorbars linecolor rgb c(1) linewidth 2 pointtype 7 \
	title 'error, median to 95th percentile (right axis)'
