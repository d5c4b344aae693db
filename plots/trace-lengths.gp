set key inside right bottom vertical Left reverse noenhanced samplen 3
set logscale x
set xrange [1:*]
set xlabel 'tokens'
set format x '%.0s%c'
set ylabel 'share of requests up to it'
set yrange [0:1.02]
plot for [i=0:1] data index i every ::1 using ($2 > 1 ? $2 : 1):3 with steps linewidth 2 linecolor rgb c(i) \
	dashtype d(i) title (i == 0 ? 'input' : 'output')
