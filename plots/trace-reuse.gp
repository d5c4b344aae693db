unset key
set logscale x
set xlabel 'references of a block'
set ylabel 'share of blocks up to it'
set yrange [0:1.02]
plot data every ::1 using 2:3 with steps linewidth 2 linecolor rgb c(0) notitle
