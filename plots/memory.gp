set xlabel 'decode step of a session'
set ylabel 'stored in the fast tier (MiB)'
set yrange [0:*]
y = 3
