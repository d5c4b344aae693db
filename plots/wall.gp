set xlabel 'measured time of a step (ms), executed layers'
array part[5] = ['K/V source', 'scoring and routing', 'memory and re-encoding', 'attention', 'mass and errors']
