# Two panels with a row a run: bytes read, and error.
errors = 0
widest = 0.0
worst = 0.0
longest = 0
count(x) = errors = errors + (valid(x) ? 1 : 0)
stats data every ::1 using (longer(strcol(2)), count(4), widest = $3 > widest ? $3 : widest, 1) nooutput
rows = int(STATS_records)
if (errors > 0) {
	stats data every ::1 using 5 nooutput
	worst = STATS_max
}
size = rows > 24 ? 8 : 10
long = longest > 48 ? 48 : longest
left = 0.03 + 0.00083 * size * long
left = left < 0.08 ? 0.08 : left
middle = left + 0.5 * (0.98 - left)
# Long names leave narrow panels: only as many tics as their numbers have room.
step(top) = 10.0**floor(log10(top / tics)) * nice(top / tics / 10.0**floor(log10(top / tics)))
nice(x) = x <= 1.01 ? 1 : x <= 2.01 ? 2 : x <= 5.01 ? 5 : 10
tics = floor((middle - left) / 0.05)
unset title
unset label 98
set multiplot title plot_title."\n".plot_caption noenhanced
# Each panel has its legend above it.
set key at graph 1, screen 1 - 0.09 / tall right horizontal noenhanced samplen 2 font ',9'
set tmargin at screen 1 - 0.14 / tall
set bmargin at screen 0.14 / tall
if (!dumb) { set grid noytics }
set xtics font ',9'
set yrange [(rows < 4 ? 4 : rows) - 0.4:-0.6]
row_font = sprintf(',%d', size)
set ytics scale 0 font row_font noenhanced
set lmargin at screen left
set rmargin at screen middle - 0.02
set xlabel 'bytes read, of dense FP16 (%)'
set xrange [0:widest > 0 ? 1.08 * widest : 1]
if (widest > 0) { set xtics step(1.08 * widest) }
plot data every ::1 using ($3 / 2):0:($3 / 2):(0.3):ytic(cut(strcol(2), 48)) with boxxyerror linecolor rgb c(5) title 'bytes read'
set lmargin at screen middle + 0.02
set rmargin at screen 0.98
set xlabel 'relative L2 error of the output'
set xrange [0:*]
if (worst > 0) { set xtics step(worst) } else { set xtics autofreq }
set ytics format ''
if (errors > 0) {
	plot data every ::1 using 4:0:4:5 with xerrorbars linecolor rgb c(1) linewidth 2 pointtype 7 title 'median, to the 95th percentile'
} else {
	set label 1 "attention did not run:\nthere is no error to show" at graph 0.5, 0.5 center noenhanced
	set xrange [0:1]
	unset xtics
	plot NaN notitle
}
unset multiplot
