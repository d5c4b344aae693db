array part[1] = ['missed beyond what the oracle misses at the same budget']
array part_shade[1] = [4]
panel_xlabel = 'dense softmax mass (percentage points)'
