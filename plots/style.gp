# Common style. Colours: Okabe and Ito, told apart by the colour-blind; dashes and point shapes for print in grey.
set encoding utf8
set datafile separator '\t'
set datafile missing '?'
set datafile commentschars ''
set border 3 linecolor '#444444'
set tics nomirror textcolor '#222222'
set grid linecolor '#dddddd' linetype 1
set style fill solid 0.85 border rgb '#444444'
array colour[8] = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000', '#999999']
array shape[8] = [7, 5, 9, 13, 11, 6, 4, 8]
c(i) = colour[(i % 8) + 1]
s(i) = shape[(i % 8) + 1]
d(i) = 1 + (i / 8 + i) % 5
# The first column of the data names the block; its longest name says where the legend fits.
longest = 0
longer(name) = longest = strlen(name) > longest ? strlen(name) : longest
stats data using (longer(strcol(1)), 1) nooutput
blocks = int(STATS_blocks)
array label[blocks]
do for [i=0:blocks-1] {
	stats data index i every ::1 using (first = strcol(1), 1) nooutput
	label[i + 1] = strlen(first) > 60 ? first[1:59].'…' : first
}
if (longest > 24) {
	set key outside below horizontal Left reverse noenhanced samplen 3 font ',9' spacing 1.0 height 1
} else {
	set key outside right top vertical Left reverse noenhanced samplen 3 spacing 1.1
}
