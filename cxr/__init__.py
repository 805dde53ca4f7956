"""What is true of any chest radiograph, whatever the model. Imports no stage; PyTorch only in torchkit.py."""

import os

# libgomp, the OpenMP of PyTorch, spins for some 3 ms at a barrier before it sleeps, about as long as a thread that has
# lost its core to other work stays away: half of the core time that such a training gets is spent waiting. A
# thirtieth of that costs nothing measurable alone and gains a fifth and more beside others (bench.shared_cores). The
# runtime reads it as it is loaded, so before any import of PyTorch; a setting of the user is respected.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "10000"
