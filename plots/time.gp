set xlabel "modelled time of a step (ms), for the run's machine profile, all layers"
array part[5] = ['overhead', 'weights', 'attention', 're-encoding', 'stalled by transfers']
