set xlabel 'layer of the model'
set ylabel 'dense softmax mass on the selected tokens (%)'
set yrange [0:105]
set offsets 0.5, 0.5, 0, 0
set xtics 1
stats data using 2 nooutput name 'layer'
if (layer_max - layer_min > 12) { set xtics autofreq }
y = 3
