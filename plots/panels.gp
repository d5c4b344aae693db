# One panel a run, the first nine; in it a row for each role, parts from column 3 on named by `part`.
fit = dumb ? 2 : 9
panels = blocks < fit ? blocks : fit
columns = panels < 2 ? 1 : panels < 5 ? 2 : 3
lines = (panels + columns - 1) / columns
most_rows = 1
do for [p=0:panels-1] {
	stats data index p every ::1 using (1) nooutput
	most_rows = STATS_records > most_rows ? STATS_records : most_rows
}
low = 0.0
high = 0.0
total(x) = |part| < 2 ? $3 : $3 + $4
stats data every ::1 using (high = total(0) > high ? total(0) : high, low = total(0) < low ? total(0) : low, 1) nooutput
high = high > low ? high : low + 1
unset title
unset label 98
unset key
set multiplot layout lines, columns margins 0.11, 0.98, 0.15, 0.84 spacing 0.1, 0.11 \
	title plot_title."\n".(blocks > panels ? sprintf("the first %d of %d runs; choose others by --run", panels, blocks) : plot_caption) noenhanced
set xrange [1.03 * low:1.03 * high]
set yrange [most_rows - 0.4:-0.6]
if (!dumb) { set grid noytics }
tic_font = most_rows * lines > 26 ? ',7' : ',8'
set ytics scale 0 font tic_font noenhanced
set xtics font ',8'
panel_font = columns == 3 ? ',8' : ',10'
panel_room = columns == 3 ? 38 : columns == 2 ? 56 : 100
do for [k=1:|part|] {
	set object k rectangle from screen 0.1 + 0.3 * (k - 1), 0.02 to screen 0.12 + 0.3 * (k - 1), 0.045 \
		fillcolor rgb shade[part_shade[k]] fillstyle solid 0.85 border rgb '#444444'
	part_name = dumb ? (k == 1 ? '*** ' : '### ').part[k] : part[k]
	set label k part_name at screen 0.13 + 0.3 * (k - 1), 0.033 left noenhanced
}
do for [p=0:panels-1] {
	set label 7 cut(label[p + 1], panel_room) at graph 0, 1.06 left noenhanced font panel_font
	set xlabel (p >= panels - columns ? panel_xlabel : '') font ',9'
	plot for [k=1:|part|] data index p every ::1 using (k == 1 ? 0.5 * $3 : $3 + 0.5 * $4):0:(0.5 * abs(column(k + 2))):(0.36):ytic(strcol(2)) \
		with boxxyerror fillcolor rgb shade[part_shade[k]] notitle
	if (p == 0) {
		do for [k=1:|part|] {
			unset object k
			unset label k
		}
	}
}
unset multiplot
