# A row a run: its label at the left, cut where it would take more than its share.
widest = 0
wider(name) = widest = strlen(name) > widest ? strlen(name) : widest
stats data every ::1 using (wider(strcol(2)), 1) nooutput
rows = int(STATS_records)
size = rows > 24 ? 8 : 10
room = widest > 48 ? 48 : widest
left = 0.03 + 0.00083 * size * room
left = left < 0.08 ? 0.08 : left
row_font = sprintf(',%d', size)
set ytics scale 0 font row_font noenhanced
set yrange [(rows < 4 ? 4 : rows) - 0.4:-0.6]
if (!dumb) { set grid noytics }
set xtics font ',9'
set lmargin at screen left
set rmargin at screen 0.97
set bmargin 6.5
set key at screen 0.5, screen 0.01 / tall center bottom horizontal maxrows 2 noenhanced samplen 2 font ',9'
# All runs have their row here.
if (dumb) { set title plot_title."\n".plot_caption } else { if (plot_caption ne '') { set label 98 plot_caption } }
