set xlabel 'decode step of a session'
set ylabel 'selected pages found in the fast tier (%)'
set yrange [0:105]
y = 3
lowest = 100.0
stats data using (lowest = $3 < lowest ? $3 : lowest, 1) nooutput
if (lowest >= 100) {
	set label 1 'In all runs every selected page was in the fast tier.' at graph 0.5, 0.5 center noenhanced
}
