#!/usr/bin/env bash
# Stage 3 alone, on the last run's data and recipe (RECIPE= and DATA= override); settings by --key value.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. pipeline/environment.sh
python -m stage3_stack.mask_stacker.train "$@"  # nothing to do where masks: mean
python -m stage3_stack.train "$@"
python -m stage3_stack.results.table
