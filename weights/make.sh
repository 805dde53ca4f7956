#!/usr/bin/env bash
# Make weights/phantom_mnv2.safetensors anew: phantoms of a seed of their own, a U-Net on them, then a U-Net++
# on the frozen encoder. Hours on two cores; killed in the middle, the same command goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
. pipeline/environment.sh

export RECIPE=start DATA=artifacts/generated/start WEIGHTS=artifacts/start/packed
[ -d "$DATA" ] || python -m phantom.make "$DATA" --train 6000 --test 8 --seed 2026 --size 384
python -m cxr.prepare --data "$DATA" --size 384 --folds 20 --subfolds 2
python -m stage2_segment.train --member start_unet --fold 0
python -m weights.pack "$WEIGHTS/start_unet.safetensors" artifacts/start/start/stage2/start_unet/fold0
python -m stage2_segment.train --member start_unetpp --fold 0
python -m weights.pack weights/phantom_mnv2.safetensors artifacts/start/start/stage2/start_unet{,pp}/fold0
