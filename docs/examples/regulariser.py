"""The algebra inside a training loop that knows nothing of it: a denoiser that is only shown noisy pictures.

Asked to reproduce them, it learns the noise too. Gaussians of what a fixed network sees in a few clean
pictures, one at each location, tell how unlike those an output looks; that distance can be differentiated, so
it goes into the loss.

    python regulariser.py
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxsode.algebra import embedding, moments, over_grid, precision

SIZE, FEATURES, K, EPSILON = 16, 32, 8, 0.01


@partial(jax.jit, static_argnums=1)
def clean(key: jax.Array, n: int) -> jax.Array:
    """(n, SIZE, SIZE, 1): a bright ring whose middle, width and height vary a little."""
    middle, width, height = (jax.random.uniform(each, (n, 1, 1, 1)) for each in jax.random.split(key, 3))
    rows, columns = jnp.meshgrid(jnp.linspace(-1, 1, SIZE), jnp.linspace(-1, 1, SIZE), indexing="ij")
    radius = jnp.sqrt((rows - 0.1 * middle[..., 0]) ** 2 + columns**2)[..., None]
    return (0.6 + 0.4 * height) * jnp.exp(-(((radius - 0.55) / (0.15 + 0.05 * width)) ** 2))


class Denoiser(nnx.Module):
    """Three convolutions: a network as anybody has one."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Conv(a, b, (3, 3), rngs=rngs) for a, b in ((1, 16), (16, 16), (16, 1))])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


def anomaly_score(good: jax.Array):
    """x → for each picture the mean squared Mahalanobis distance of its features to those of good ones."""
    look = jax.random.normal(jax.random.key(7), (4, 4, 1, FEATURES)) / 4
    W = embedding.semi_orthogonal(0, FEATURES, k=K)

    def features(x: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        seen = jnp.tanh(jax.lax.conv_general_dilated(x, look, (2, 2), "SAME", dimension_numbers=numbers))
        return seen @ W

    @jax.jit
    def fit(good: jax.Array):
        fitted = over_grid(moments.of_batch, in_axes=1)(features(good))
        return fitted.mean, over_grid(lambda m: precision.local(m, EPSILON))(fitted)

    mean, whitener = fit(good)
    distance = over_grid(lambda p, z, mean: p.distance(z, mean))

    @jax.jit
    def score(x: jax.Array) -> jax.Array:
        d = jax.vmap(distance, in_axes=(None, 0, None))(whitener, features(x), mean)
        return jnp.mean(d**2, axis=(1, 2))

    return score


def train(score, weight: float, *, steps: int = 150) -> Denoiser:
    """A denoiser trained to reproduce noisy pictures, its outputs' anomaly score added to the loss."""
    model = Denoiser(nnx.Rngs(0))
    optimiser = nnx.Optimizer(model, optax.adam(3e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model: Denoiser, optimiser: nnx.Optimizer, key: jax.Array) -> None:
        picture, noise = jax.random.split(key)
        noisy = clean(picture, 16) + 0.3 * jax.random.normal(noise, (16, SIZE, SIZE, 1))

        def loss(model: Denoiser) -> jax.Array:
            out = model(noisy)
            return jnp.mean((out - noisy) ** 2) + weight * jnp.mean(score(out))

        optimiser.update(model, nnx.grad(loss)(model))

    for i in range(steps):
        step(model, optimiser, jax.random.key(1000 + i))
    return model


def main() -> None:
    score = anomaly_score(clean(jax.random.key(1), 64))
    unseen = clean(jax.random.key(2), 64)
    noisy = unseen + 0.3 * jax.random.normal(jax.random.key(3), unseen.shape)
    print(f"{'':24}  error to the clean picture  anomaly score")

    def told(name: str, x: jax.Array) -> None:
        print(f"{name:24}  {jnp.mean((x - unseen) ** 2):26.4f}  {jnp.mean(score(x)):13.1f}")

    told("clean pictures", unseen)
    told("noisy pictures", noisy)
    for weight in (0.0, 1e-2):
        told(f"denoised, weight {weight:g}", train(score, weight)(noisy))


if __name__ == "__main__":
    main()
