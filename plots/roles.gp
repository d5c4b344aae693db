array part[2] = ['read', 'missed']
array part_shade[2] = [2, 5]
panel_xlabel = 'dense softmax mass (%)'
