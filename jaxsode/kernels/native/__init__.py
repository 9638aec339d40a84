"""Convolutions in machine code written for the processor at hand, where XLA's are slower (with llvmlite).

XLA calls them as it calls its own, on its own threads. They are for a network that is only evaluated: what is
differentiated, mapped, exported or put on other devices keeps the words of JAX.
"""

from jaxsode.kernels.native.convolution import Packed, conv2d, conv2d_max_pool3x3, keep_in, pack

__all__ = ["Packed", "conv2d", "conv2d_max_pool3x3", "keep_in", "pack"]
