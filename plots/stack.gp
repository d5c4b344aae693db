# Parts of a whole from dark to light; `part` names them, from column 3 on.
sum(n) = (n < 1 ? 0 : column(3)) + (n < 2 ? 0 : column(4)) + (n < 3 ? 0 : column(5)) + (n < 4 ? 0 : column(6)) \
	+ (n < 5 ? 0 : column(7))
set xrange [0:*]
plot for [k=1:|part|] data every ::1 using (0.5 * (sum(k - 1) + sum(k))):0:(0.5 * column(k + 2)):(0.34):ytic(cut(strcol(2), 48)) \
	with boxxyerror fillcolor rgb shade[k] title part[k]
