"""From a data folder of DICOM files to letterboxed arrays, a manifest and folds: python -m prepare."""
