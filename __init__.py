"""DRT compiles PyTorch programs to fast, verified Triton kernels."""

__version__ = "0.1.0"
