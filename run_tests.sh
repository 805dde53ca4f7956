#!/usr/bin/env bash
# All tests, then the linter:  bash run_tests.sh [pytest's arguments]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/pipeline/environment.sh"

export HF_HUB_OFFLINE=1                  # no test may reach the network
export CXR_WORKERS="${CXR_WORKERS:-0}"   # tiny data: loader processes would take longer to start than to load
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # two processes of tests: their threads would wait for each other
python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder "$@"
python -m ruff check .
