"""PyTorch for every stage: the device, seeds, checkpoints and the one training loop; torch is nowhere else in cxr."""
