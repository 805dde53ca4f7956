#!/usr/bin/env bash
# Make weights/phantom_mnv2.safetensors anew: phantoms of a seed of their own, a U-Net on them, then a U-Net++ decoder
# on the frozen encoder. About an hour on two free cores; killed in the middle, the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
. pipeline/environment.sh

export RECIPE=start DATA="$PWD/start" WEIGHTS="$PWD/artifacts/start/packed"
python -m weights.phantoms --count 12000 --seed 2026
python -m stage2_segment.train --member start_unet --fold 0
python -m weights.pack "$WEIGHTS/start_unet.safetensors" artifacts/start/start/stage2/start_unet/fold0
python -m stage2_segment.train --member start_unetpp --fold 0
python -m weights.pack weights/phantom_mnv2.safetensors artifacts/start/start/stage2/start_unet{,pp}/fold0
