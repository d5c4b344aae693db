# Gnuplot scripts of the figures and their style.
nobase_dist_pkgdata_DATA += \
	plots/bytes-error.gp plots/formats.gp plots/hit-rate.gp plots/mass-bytes.gp plots/model-measured.gp plots/mrc.gp \
	plots/style.gp \
	plots/trace-lengths.gp plots/trace-reuse.gp plots/trace-roles.gp plots/trace-think.gp plots/trace-turns.gp
