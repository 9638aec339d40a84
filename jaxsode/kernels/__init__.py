"""How it is fast, and nothing new in it: each fast form beside its plain twin.

What the algebra and the backbones call is here; which form it takes is decided in `switch`, when a program is
traced. Needs jax alone, and knows nothing of the paper; with llvmlite, `native` is machine code of our own.
"""

from jaxsode.kernels.cholesky import inverse_cholesky
from jaxsode.kernels.convolution import conv2d, conv2d_max_pool3x3
from jaxsode.kernels.distances import squared_distances
from jaxsode.kernels.moments import update_moments
from jaxsode.kernels.native import Packed, is_here, pack
from jaxsode.kernels.outer_products import sum_of_outer_products
from jaxsode.kernels.pooling import max_pool3x3
from jaxsode.kernels.streams import few_at_once
from jaxsode.kernels.switch import evaluated, plain

__all__ = [
    "Packed",
    "conv2d",
    "conv2d_max_pool3x3",
    "evaluated",
    "few_at_once",
    "inverse_cholesky",
    "is_here",
    "max_pool3x3",
    "pack",
    "plain",
    "squared_distances",
    "sum_of_outer_products",
    "update_moments",
]
