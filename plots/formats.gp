# One panel a run, the first nine.
panels = blocks < 9 ? blocks : 9
columns = panels < 2 ? 1 : panels < 5 ? 2 : 3
rows = (panels + columns - 1) / columns
array name[5] = ['FP16', 'FP8', 'INT8', 'INT4 + residual', 'INT4']
array shade[5] = ['#0072b2', '#56b4e9', '#009e73', '#e69f00', '#f0e442']
sum(n) = (n < 1 ? 0 : column(3)) + (n < 2 ? 0 : column(4)) + (n < 3 ? 0 : column(5)) + (n < 4 ? 0 : column(6)) \
	+ (n < 5 ? 0 : column(7))
set multiplot layout rows, columns margins 0.08, 0.98, 0.17, 0.88 spacing 0.06, 0.13 \
	title 'Formats of the stored pages over decode steps' noenhanced
unset title
set yrange [0:100]
set ytics 50
set grid front
stats data using 2 name 'step' nooutput
set xrange [0:step_max > 0 ? step_max : 1]
tick = step_max < 4 ? 1 : ceil(step_max / 4.0)
set xtics tick
set key at graph 0, 1.02 left bottom Left reverse noenhanced samplen -2
# One legend for all panels, below them.
do for [k=1:5] {
	set object k rectangle from screen 0.06 + 0.17 * k, 0.02 to screen 0.085 + 0.17 * k, 0.045 \
		fillcolor rgb shade[k] fillstyle solid 0.85 border rgb '#444444'
	set label k name[k] at screen 0.09 + 0.17 * k, 0.033 left noenhanced
}
set label 6 'stored as' at screen 0.08, 0.033 left
do for [p=0:panels-1] {
	set xlabel (p >= panels - columns ? 'decode step' : '')
	set ylabel (p % columns == 0 ? 'pages (%)' : '')
	plot for [k=5:1:-1] data index p using 2:(sum(k)) every ::1 with filledcurves y1=0 fillcolor rgb shade[k] \
		notitle, data index p using 2:(NaN) with lines linecolor rgb '#ffffff' title columnheader(1)
	if (p == 0) {
		do for [k=1:5] { unset object k }
		unset label
	}
}
unset multiplot
