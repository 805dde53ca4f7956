"""TensorFlow for every stage; tensorflow and keras are nowhere else in cxr, and never in a process with PyTorch."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read as TensorFlow is imported: fewer notes
