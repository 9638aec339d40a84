"""Machine code written for the processor at hand, where XLA's is slower (with llvmlite).

XLA calls it as it calls its own, on its own threads. Convolutions, moments and distances are for arrays that
lie on one CPU and are not traced from outside: what is differentiated, mapped or put on other devices keeps
the words of JAX. The inverse Cholesky factor is taken in any program for a CPU, which can then be exported
within `jaxsode.kernels.plain()` alone: JAX refuses to export what calls code that it doesn't know.
"""

from jaxsode.kernels.native.code import cores, is_here, keep_in, ready, varies
from jaxsode.kernels.native.convolution import Packed, conv2d, conv2d_max_pool3x3, has_code, pack
from jaxsode.kernels.native.factorisation import inverse_cholesky
from jaxsode.kernels.native.gathering import update_moments
from jaxsode.kernels.native.whitening import measures, squared_distances

__all__ = [
    "Packed",
    "conv2d",
    "conv2d_max_pool3x3",
    "cores",
    "has_code",
    "inverse_cholesky",
    "is_here",
    "keep_in",
    "measures",
    "pack",
    "ready",
    "squared_distances",
    "update_moments",
    "varies",
]
