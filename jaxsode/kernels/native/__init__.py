"""Machine code written for the processor at hand, where XLA's is slower (with llvmlite).

XLA calls it as it calls its own, on its own threads. Its convolutions are for a network that is only
evaluated: what is differentiated, mapped, exported or put on other devices keeps the words of JAX.
"""

from jaxsode.kernels.native.code import keep_in, ready, varies
from jaxsode.kernels.native.convolution import Packed, conv2d, conv2d_max_pool3x3, pack
from jaxsode.kernels.native.factorisation import inverse_cholesky
from jaxsode.kernels.native.gathering import update_moments

__all__ = [
    "Packed",
    "conv2d",
    "conv2d_max_pool3x3",
    "inverse_cholesky",
    "keep_in",
    "pack",
    "ready",
    "update_moments",
    "varies",
]
