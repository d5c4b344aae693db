# Documentation, installed beside the program.
dist_doc_DATA = README.md NEWS docs/adding.md docs/architecture.md docs/database.md
dist_man_MANS += docs/man/intentkv.1
EXTRA_DIST += docs/testing.md
EXTRA_DIST += docs/formats.md
EXTRA_DIST += docs/gen_database.sh docs/testing.md
dist_doc_DATA += docs/traces.md docs/generator.md
dist_doc_DATA = README.md NEWS docs/adding.md docs/architecture.md
EXTRA_DIST += docs/cost-model.md
