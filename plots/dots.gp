# A mark for each of `part`, from column 3 on, joined by a line.
low(x) = x
plot data every ::1 using (first_dot(0)):0:(last_dot(0) - first_dot(0)):(0):ytic(cut(strcol(2), 48)) with vectors nohead \
	linecolor rgb '#999999' notitle, \
	for [k=1:|part|] data every ::1 using (column(k + 2)):0 with points pointtype s(k - 1) pointsize 1.3 linecolor rgb c(k - 1) \
	title part[k]
