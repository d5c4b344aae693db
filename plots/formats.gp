# One panel a run, the first nine.
panels = blocks < 9 ? blocks : 9
columns = panels < 2 ? 1 : panels < 5 ? 2 : 3
rows = (panels + columns - 1) / columns
array name[10] = ['FP16', 'FP8', 'INT8', 'INT4 + residual', 'INT4', 'BF16', 'KIVI8', 'KIVI4', 'KIVI2', 'SPARSE']
array shade[10] = ['#0072b2', '#56b4e9', '#009e73', '#e69f00', '#f0e442', '#222255', '#882255', '#cc79a7', '#d55e00', \
	'#999999']
sum(n) = (n < 1 ? 0 : column(3)) + (n < 2 ? 0 : column(4)) + (n < 3 ? 0 : column(5)) + (n < 4 ? 0 : column(6)) \
	+ (n < 5 ? 0 : column(7)) + (n < 6 ? 0 : column(8)) + (n < 7 ? 0 : column(9)) + (n < 8 ? 0 : column(10)) \
	+ (n < 9 ? 0 : column(11)) + (n < 10 ? 0 : column(12))
last = 1.0
stats data using (last = $2 > last ? $2 : last, 1) nooutput
unset title
unset label 98
set multiplot layout rows, columns margins 0.08, 0.98, 0.19, 0.84 spacing 0.06, 0.1 \
	title plot_title."\n".(blocks > panels ? sprintf("the first %d of %d runs; choose others by --run", panels, blocks) : plot_caption) noenhanced
unset key
set yrange [0:100]
set ytics 50
if (!dumb) { set grid front }
set xrange [0:last]
set xtics font ',9'
if (last < 4) { set xtics 1 }
# One legend for all panels, below them.
do for [k=1:10] {
	x = 0.06 + 0.17 * ((k - 1) % 5 + 1)
	y = k > 5 ? 0.015 : 0.055
	set object k rectangle from screen x, y to screen x + 0.025, y + 0.025 \
		fillcolor rgb shade[k] fillstyle solid 0.85 border rgb '#444444'
	set label k name[k] at screen x + 0.03, y + 0.013 left noenhanced
}
set label 11 'stored as' at screen 0.08, 0.068 left
panel_font = columns == 3 ? ',8' : ',10'
room = columns == 3 ? 42 : columns == 2 ? 60 : 100
do for [p=0:panels-1] {
	caption = label[p + 1]
	caption = cut(caption, room)
	set label 12 caption at graph 0, 1.09 left noenhanced font panel_font
	set xlabel (p >= panels - columns ? 'decode step' : '')
	set ylabel (p % columns == 0 ? 'pages (%)' : '')
	plot for [k=10:1:-1] data index p every ::1 using 2:(sum(k)) with filledcurves y1=0 fillcolor rgb shade[k] notitle
	if (p == 0) {
		do for [k=1:10] { unset object k }
		unset label
	}
}
unset multiplot
