# Gnuplot scripts of the figures and their style; style and sorting of the report.
nobase_dist_pkgdata_DATA += \
	plots/bytes-error.gp \
	plots/dots.gp \
	plots/error-steps.gp \
	plots/formats.gp \
	plots/growth.gp \
	plots/hit-rate.gp \
	plots/layers.gp \
	plots/lines.gp \
	plots/mass-bytes.gp \
	plots/memory.gp \
	plots/model-measured.gp \
	plots/mrc.gp \
	plots/panels.gp \
	plots/pareto.gp \
	plots/prefetch.gp \
	plots/regret.gp \
	plots/report.css \
	plots/report.js \
	plots/roles.gp \
	plots/roofline.gp \
	plots/rows.gp \
	plots/speedup.gp \
	plots/stack.gp \
	plots/style.gp \
	plots/tails.gp \
	plots/time.gp \
	plots/trace-lengths.gp \
	plots/trace-reuse.gp \
	plots/trace-roles.gp \
	plots/trace-think.gp \
	plots/trace-turns.gp \
	plots/transfer.gp \
	plots/wall.gp
