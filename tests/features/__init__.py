"""What kernels may ask of the device, feature by feature: run by the corrected interpreter and on a GPU."""
