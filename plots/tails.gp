set xlabel "modelled time of a step (ms), for the run's machine profile"
set xrange [0:*]
array part[4] = ['median', '95th percentile', '99th percentile', 'longest']
first_dot(x) = $3
last_dot(x) = $6
