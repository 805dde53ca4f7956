#!/usr/bin/env bash
# From chest X-rays to submission.csv:  [DATA=<folder>] [WEIGHTS=<folder>] bash run_all.sh [recipes/<name>.yaml] [--smoke]
# Without data it runs on phantoms that it makes. What is up to date is not done again; FORCE=1 does all again.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/pipeline/environment.sh"

choice="$(python -m pipeline.choose "$@")"  # which recipe, which data
eval "$choice"

python -m pipeline.launch phantom  # chest phantoms, where there is no data
python -m pipeline.launch prepare  # DICOM -> pixels, masks, manifest, folds
python -m pipeline.launch doctor   # what in the data would spoil it
python -m pipeline.launch plan     # what there is to do, and whether it fits
python -m pipeline.launch stage0   # where the chest is
python -m pipeline.launch stage1   # classifiers: is there a pneumothorax?
python -m pipeline.launch stage2   # segmenters: where?
python -m pipeline.launch stage3   # the stack, the masks, submission.csv
python -m pipeline.launch table    # how good it is
python -m pipeline.launch report   # the same as a page to look at; where everything lies
