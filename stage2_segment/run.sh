#!/usr/bin/env bash
# Stage 2 alone, on the last run's data and recipe (RECIPE= and DATA= override): [--member NAME] [--fold K]
# and the member's settings by --key value. Without --fold: all folds, then the test images' maps.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. pipeline/environment.sh
exec python -m stage2_segment.train "$@"
