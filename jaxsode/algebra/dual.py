from dataclasses import dataclass

import jax


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dual:
    basis: jax.Array


def factorise(Y, epsilon):
    return Dual(Y.T)


def cheaper(pictures, features):
    return "cholesky"
