"""The factorisation of one matrix, mapped and differentiated. Its algorithms: `tests/kernels`."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxprs_in_params
from jax.test_util import check_grads

from jaxsode.algebra.cholesky import batched_inverse_cholesky, inverse_cholesky


def _covariances(B, k, *, n=60, epsilon=0.01):
    """C + εI of n samples."""
    x = np.random.default_rng(0).standard_normal((B, n, k))
    return (np.swapaxes(x, 1, 2) @ x / n + epsilon * np.eye(k)).astype(np.float32)


def test_only_one_batch_is_seen_under_nested_vmap():
    A = _covariances(24, 20).reshape(2, 3, 4, 20, 20)
    mapped = jax.jit(jax.vmap(jax.vmap(jax.vmap(inverse_cholesky))))(A)
    flat = batched_inverse_cholesky(jnp.asarray(A.reshape(24, 20, 20)))
    np.testing.assert_allclose(mapped.reshape(flat.shape), flat, rtol=1e-5, atol=1e-5)


def test_derivatives():
    A = jnp.asarray(_covariances(1, 6, epsilon=0.5)[0])
    # symmetric by construction, so that differences stay within the symmetric matrices
    check_grads(lambda x: inverse_cholesky(jnp.asarray(x + x.T) / 2), (A,), order=2, atol=3e-2, rtol=3e-2)


def test_gradient_under_vmap_and_jit_beyond_one_leaf():
    A = jnp.asarray(_covariances(3, 40, epsilon=0.5))
    # ‖M‖² = tr A⁻¹, whose derivative is −A⁻²
    gradient = jax.jit(jax.vmap(jax.grad(lambda a: jnp.sum(inverse_cholesky(a) ** 2))))(A)
    inverse = np.linalg.inv(np.asarray(A, np.float64))
    np.testing.assert_allclose(gradient, -inverse @ inverse, rtol=1e-3, atol=1e-3)


def test_the_derivative_is_as_precise_as_the_factor():
    """Accelerators cut float32 products short unless they are told not to."""
    A = jnp.eye(3)
    jaxpr = jax.make_jaxpr(lambda A, dA: jax.jvp(inverse_cholesky, (A,), (dA,)))(A, A)
    products = [e for e in _equations(jaxpr.jaxpr) if e.primitive.name == "dot_general"]
    assert len(products) >= 3
    for equation in products:
        assert set(equation.params["precision"]) == {jax.lax.Precision.HIGHEST}


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from _equations(inner)
