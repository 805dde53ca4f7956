#!/usr/bin/env bash
# All tests, then the linter:  bash run_tests.sh [pytest's arguments]
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/pipeline/environment.sh"

export HF_HUB_OFFLINE=1                  # no test may reach the network
export CXR_WORKERS="${CXR_WORKERS:-0}"   # tiny data: loader processes would take longer to start than to load
python -m pytest -q "$@"
python -m ruff check .
