set xlabel 'pages a step'
array part[4] = ['in time', 'late', 'in vain', 'missing without a prediction']
