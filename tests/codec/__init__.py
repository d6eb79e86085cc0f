"""The codec and its kernels."""
