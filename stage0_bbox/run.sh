#!/usr/bin/env bash
# Stage 0 alone: finds the chest in every image of the last run's dataset (or of DATA=, by RECIPE=).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. pipeline/environment.sh
exec python -m stage0_bbox.train "$@"
