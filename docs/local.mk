# Documentation, installed beside the program.
dist_doc_DATA = \
	README.md NEWS docs/adding.md docs/architecture.md docs/cost-model.md docs/database.md docs/formats.md \
	docs/generator.md docs/gpu.md docs/kernels.md docs/mrc.md docs/route.md docs/scenario.md docs/scenario-guide.md docs/sweeps.md docs/synthetic-source.md \
	docs/synthetic-source.svg docs/testing.md docs/tokenizer.md docs/trace-stats.md docs/traces.md
dist_man_MANS += docs/man/intentkv.1
imagesdir = $(docdir)/img
dist_images_DATA = docs/img/bytes-error.svg docs/img/mass-bytes.svg
resultsdir = $(docdir)/results
dist_results_DATA = docs/results/captured-attention.md docs/results/h200.md
examplesdir = $(docdir)/examples
dist_examples_DATA = docs/examples/chat.json docs/examples/route.yaml docs/examples/sizes.c
EXTRA_DIST += \
	docs/README.md docs/gen_database.sh docs/gen_scenario.sh docs/img/make.sh docs/source-statistics.sh
