# Documentation, installed beside the program.
dist_doc_DATA = \
	README.md NEWS docs/adding.md docs/analysis.md docs/architecture.md docs/cost-model.md docs/database.md docs/formats.md \
	docs/generator.md docs/gpu.md docs/kernels.md docs/mrc.md docs/plots.md docs/route.md docs/scenario.md docs/scenario-guide.md docs/sweeps.md docs/synthetic-source.md \
	docs/synthetic-source.svg docs/testing.md docs/tokenizer.md docs/trace-stats.md docs/traces.md docs/tutorial.md
imagesdir = $(docdir)/img
dist_images_DATA = docs/img/bytes-error.svg docs/img/h200-roofline.svg docs/img/mass-bytes.svg
figuresdir = $(docdir)/img/figures
dist_figures_DATA = \
	docs/img/figures/bytes-error.png \
	docs/img/figures/error-steps.png \
	docs/img/figures/formats.png \
	docs/img/figures/growth.png \
	docs/img/figures/hit-rate.png \
	docs/img/figures/layers.png \
	docs/img/figures/mass-bytes.png \
	docs/img/figures/memory.png \
	docs/img/figures/model-measured.png \
	docs/img/figures/pareto.png \
	docs/img/figures/prefetch.png \
	docs/img/figures/regret.png \
	docs/img/figures/roles.png \
	docs/img/figures/speedup.png \
	docs/img/figures/tails.png \
	docs/img/figures/time.png \
	docs/img/figures/transfer.png \
	docs/img/figures/wall.png
resultsdir = $(docdir)/results
dist_results_DATA = docs/results/captured-attention.md docs/results/cpu.md docs/results/h200.md docs/results/h200-history.md
examplesdir = $(docdir)/examples
dist_examples_DATA = docs/examples/chat.json docs/examples/route.yaml docs/examples/sizes.c
EXTRA_DIST += \
	docs/README.md docs/gen_database.sh docs/gen_scenario.sh docs/img/figures.sh docs/img/make.sh docs/source-statistics.sh
