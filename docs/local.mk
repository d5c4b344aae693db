# Documentation, installed beside the program.
dist_doc_DATA = README.md NEWS docs/adding.md docs/architecture.md
