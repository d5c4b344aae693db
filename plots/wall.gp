set xlabel 'measured time of a step (ms), executed layers'
array part[5] = ['K/V source', 'scoring', 'routing', 'memory and re-encoding', 'attention']
