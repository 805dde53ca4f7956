"""One radiograph: reading its DICOM file, 8-bit gray values, geometry and run-length masks."""
