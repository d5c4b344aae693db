# One panel a run, the first nine.
panels = blocks < 9 ? blocks : 9
columns = panels < 2 ? 1 : panels < 5 ? 2 : 3
rows = (panels + columns - 1) / columns
array name[5] = ['FP16', 'FP8', 'INT8', 'INT4 + residual', 'INT4']
array shade[5] = ['#0072b2', '#56b4e9', '#009e73', '#e69f00', '#f0e442']
sum(n) = (n < 1 ? 0 : column(3)) + (n < 2 ? 0 : column(4)) + (n < 3 ? 0 : column(5)) + (n < 4 ? 0 : column(6)) \
	+ (n < 5 ? 0 : column(7))
set multiplot layout rows, columns title 'Formats of the stored pages over decode steps' noenhanced
unset title
set yrange [0:100]
set grid front
set key outside right top noenhanced
do for [p=0:panels-1] {
	set xlabel (p >= panels - columns ? 'decode step' : '')
	set ylabel (p % columns == 0 ? 'pages (%)' : '')
	if (p != columns - 1) { unset key } else { set key outside right top }
	set label 1 '' at graph 0, 1.06
	plot for [k=5:1:-1] data index p using 2:(sum(k)) every ::1 with filledcurves y1=0 fillcolor rgb shade[k] \
		title name[k], data index p using 2:(NaN) with lines linecolor rgb '#ffffff' title columnheader(1)
}
unset multiplot
