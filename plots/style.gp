# Common style. Colours: Okabe and Ito, told apart by the colour-blind; dashes and point shapes for print in grey.
# Parts of a whole go from dark to light, so that they can be told apart in grey too.
set encoding utf8
set datafile separator '\t'
set datafile missing '?'
set datafile commentschars ''
set border 3 linecolor '#444444'
set tics nomirror textcolor '#222222'
if (!dumb) { set grid linecolor '#dddddd' linetype 1 }
set style fill solid 0.85 border rgb '#444444'
array colour[8] = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999999']
array shade[5] = ['#0a2f51', '#0072b2', '#009e73', '#e69f00', '#f0e442']
array shape[8] = [7, 5, 9, 13, 11, 6, 4, 8]
c(i) = colour[(i % 8) + 1]
# The ninth series has the first colour again, and another shape.
s(i) = shape[((i + 3 * (i / 8)) % 8) + 1]
d(i) = 1 + (i / 8 + i) % 5
# The first column of the data names the block; its longest name says where the legend fits.
longest = 0
longer(name) = longest = strlen(name) > longest ? strlen(name) : longest
stats data using (longer(strcol(1)), 1) nooutput
blocks = int(STATS_blocks)
cut(name, room) = strlen(name) > room ? name[1:room - 1].'…' : name
array label[blocks]
do for [i=0:blocks-1] {
	stats data index i every ::1 using (first = strcol(1), 1) nooutput
	label[i + 1] = cut(first, 60)
}
# More curves than these cannot be told apart.
curves = blocks < 12 ? blocks : 12
more = blocks > curves ? sprintf('the first %d of %d runs; choose others by --run', curves, blocks) : ''
# The caption stands below the title; where runs are left out it says so instead.
caption = more ne '' ? more : plot_caption
whole_title = caption eq '' ? plot_title : plot_title."\n".caption
if (dumb) { set title whole_title }
if (!dumb && caption ne '') {
	set title plot_title."\n "
	set label 98 caption at graph 0.5, graph 1 offset character 0, character 1.1 center noenhanced font ',9' \
		textcolor rgb '#555555'
}
if (longest > 24) {
	set key outside below horizontal Left reverse noenhanced samplen 3 font ',9' spacing 1.0 height 1
} else {
	set key outside right top vertical Left reverse noenhanced samplen 3 spacing 1.1
}
