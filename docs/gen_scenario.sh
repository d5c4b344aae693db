#!/bin/sh
# Write docs/scenario.md from the program's own option tables.
# Usage: docs/gen_scenario.sh [PROGRAM] > docs/scenario.md
exec "${1:-./intentkv}" list --markdown
