set key outside right top vertical Left reverse noenhanced samplen 2
set style data histograms
set style histogram rowstacked
set boxwidth 0.7
if (!dumb) { set grid noxtics }
set xtics noenhanced rotate by -30
set ylabel 'share of tokens'
set yrange [0:*]
plot data every ::1 using 2:xtic(1) linecolor rgb c(0) title 'given by the trace', \
	data every ::1 using 3 linecolor rgb c(4) title 'inferred'
