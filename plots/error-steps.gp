set xlabel 'decode step of a session'
set ylabel 'relative L2 error of the output'
set yrange [0:*]
y = 3
