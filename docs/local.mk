# Documentation, installed beside the program.
dist_doc_DATA = \
	README.md NEWS docs/adding.md docs/architecture.md docs/cost-model.md docs/database.md docs/formats.md \
	docs/generator.md docs/traces.md
dist_man_MANS += docs/man/intentkv.1
EXTRA_DIST += docs/testing.md docs/gen_database.sh
dist_doc_DATA += docs/synthetic-source.md docs/synthetic-source.svg
EXTRA_DIST += docs/source-statistics.sh
