#!/usr/bin/env bash
# Stage 1 alone, on the last run's data and recipe (RECIPE= and DATA= override): [--member NAME] [--fold K]
# and the member's settings by --key value.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. pipeline/environment.sh
exec python -m stage1_classify.train "$@"
