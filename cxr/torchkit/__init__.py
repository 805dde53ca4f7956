"""PyTorch for every stage: the device, seeds, checkpoints and the one training loop. The only room of cxr with torch."""
