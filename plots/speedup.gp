set xlabel 'times as fast as dense FP16 attention (dashed: as fast)'
array part[3] = ['whole step, modelled', 'KV path alone, modelled', 'attention, measured here']
number(x) = valid(x) ? column(x) : NaN
least(a, b) = a < b ? a : b
most(a, b) = a > b ? a : b
wall(x) = valid(5) ? $5 : $3
first_dot(x) = least(least($3, $4), wall(0))
last_dot(x) = most(most($3, $4), wall(0))
set xrange [0:*]
set arrow 1 from first 1, graph 0 to first 1, graph 1 nohead dashtype 2 linecolor rgb '#444444' back
