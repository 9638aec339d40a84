"""HWk³ against HWF³: what it takes to factorise or invert one k × k matrix for each of 64 × 64 locations."""

import argparse
import functools
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench import limits
from bench.harness import (
    Contender,
    Deadline,
    Timing,
    TooSlow,
    check,
    race,
    relative_error,
    warm_up,
)
from bench.record import Result
from jaxsode.algebra.cholesky import inverse_cholesky
from jaxsode.kernels.pallas_cholesky import pallas_inverse_cholesky

KS = (100, 448, 50, 200, 300, 10, 20, 1792)  # in order of importance
LOCATIONS = 64 * 64
DISTINCT = 32
FIRST = 3  # matrices compared with the referee
TOLERANCE = 2e-3  # of P, in float32, at a condition number of some hundreds
PAPER = Path(__file__).parents[1] / "configs" / "paper" / "time.toml"


@dataclass(frozen=True)
class Method:
    """One way to do it.

    Attributes:
        name: in tables and plots.
        prepare: a batch of matrices (B, k, k), on the device and in the library that it uses.
        call: what is timed, on what `prepare` gave.
        precision: what `call` gave → P, float64, of its first matrices; None where it stops before P.
        wait: see `Contender`.
        gives: what it ends with, and what else a reader must know.
    """

    name: str
    prepare: Callable[[jax.Array], Any]
    call: Callable[[Any], Any]
    precision: Callable[[Any], np.ndarray] | None
    wait: Callable[[Any], Any] = jax.block_until_ready
    gives: str = ""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--k", type=int, nargs="+", default=KS, help="sizes of the matrices")
    parser.add_argument("--locations", type=int, default=LOCATIONS, help="matrices of the whole grid")
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="of one call at most: else fewer matrices, scaled"
    )
    parser.add_argument("--gigabytes", type=float, default=4.0, help="of a batch at most: else fewer")


def quick(options: argparse.Namespace) -> None:
    options.k, options.locations, options.seconds = (4, 16), 64, 0.02


def run(options: argparse.Namespace, result: Result) -> None:
    deadline = Deadline(options.minutes)
    paper = tomllib.loads(PAPER.read_text(encoding="utf-8"))["figures"]
    result.derived["paper"] = {"device": "Quadro RTX 6000", "method": "batch-SVD", "seconds": paper}
    result.derived["limits"] = roof = limits.measure(quick=options.quick)
    methods = jax_methods(interpreted=options.quick)
    torch_inverse = result.optional("bench.peers.torch_inverse", "torch.linalg")
    if torch_inverse is not None:
        methods += torch_inverse.methods()
    for k in options.k:
        if deadline.left_s <= 0:
            result.leave_out(f"k = {k}", f"the {options.minutes:g} minutes were over")
            continue
        _one_size(k, methods, options, roof, result)
    result.derived |= summary(result.rows)


def jax_methods(*, interpreted: bool = False) -> list[Method]:
    """Ours, and what else JAX offers.

    Args:
        interpreted: have the kernel for GPUs even where there is none, run as plain JAX.
    """

    def solved(A: jax.Array) -> jax.Array:
        identity = jnp.broadcast_to(jnp.eye(A.shape[-1], dtype=A.dtype), A.shape)
        return jax.lax.linalg.triangular_solve(jnp.linalg.cholesky(A), identity, left_side=True, lower=True)

    def same(A: jax.Array) -> jax.Array:
        return A

    on_gpu = jax.default_backend() == "gpu"
    kernel = jax.jit(functools.partial(pallas_inverse_cholesky, interpret=not on_gpu))
    note = "L⁻¹" if on_gpu else "L⁻¹, interpreted"
    ours = [Method("ours", same, jax.jit(jax.vmap(inverse_cholesky)), of_whitener, gives="L⁻¹")]
    if on_gpu or interpreted:
        ours.append(Method("ours, Pallas kernel", same, kernel, of_whitener, gives=note))
    return [
        *ours,
        Method("jnp cholesky + solve", same, jax.jit(solved), of_whitener, gives="L⁻¹"),
        Method("jnp inv", same, jax.jit(jnp.linalg.inv), of_inverse, gives="P"),
        Method("jnp svd", same, jax.jit(jnp.linalg.svd), of_svd, gives="U, s, V: what the paper timed"),
    ]


def of_whitener(M: Any) -> np.ndarray:
    """(B, k, k) L⁻¹ → P of the first few, as of the others below."""
    M = np.asarray(M[:FIRST], np.float64)
    return M.swapaxes(-1, -2) @ M


def of_inverse(P: Any) -> np.ndarray:
    return np.asarray(P[:FIRST], np.float64)


def of_svd(usv: Sequence[Any]) -> np.ndarray:
    u, s, vh = (np.asarray(part[:FIRST], np.float64) for part in usv)
    return (vh.swapaxes(-1, -2) / s[:, None, :]) @ u.swapaxes(-1, -2)


def covariances(k: int, count: int) -> jax.Array:
    """(count, k, k) C + εI of 2k standard normal vectors each; few different ones, again and again."""
    return jnp.asarray(np.resize(_distinct(k), (count, k, k)))


@functools.lru_cache(maxsize=1)
def _distinct(k: int) -> np.ndarray:
    """As many as are worth making."""
    x = jax.random.normal(jax.random.key(k), (DISTINCT if k < 1000 else 2, 2 * k, k), jnp.float32)
    C = jnp.einsum("bni,bnj->bij", x, x, precision=jax.lax.Precision.HIGHEST) / (2 * k)
    return np.asarray(C) + 0.01 * np.eye(k, dtype=np.float32)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of each method: the exponent of k fitted from 50 on, and its time at 448 over that at 100."""
    exponents, ratios = {}, {}
    for name in dict.fromkeys(row["method"] for row in rows):
        times = {row["k"]: row["grid_s"] for row in rows if row["method"] == name}
        ks = [k for k in times if k >= 50]
        if len(ks) >= 2:
            slope, _ = np.polyfit(np.log(ks), np.log([times[k] for k in ks]), 1)
            exponents[name] = float(slope)
        if 100 in times and 448 in times:
            ratios[name] = times[448] / times[100]
    return {"exponent_from_k50": exponents, "ratio_448_to_100": ratios}


def _one_size(
    k: int, methods: Sequence[Method], options: argparse.Namespace, roof: dict[str, float], result: Result
) -> None:
    """Agreement and pilot of each method, then all against each other, each on as many as it can do."""
    counts, compiled, contenders = {}, {}, []
    most = min(options.locations, max(1, int(options.gigabytes * 1e9 / (4 * k * k))))
    for method in methods:
        try:
            pilot = _pilot(k, method, most, options.seconds, result)
        except Exception as error:  # what a library raises for a size or a device that it doesn't take
            result.leave_out(f"{method.name}, k = {k}", error)
            continue
        counts[method.name], compiled[method.name] = pilot
        contenders.append(_contender(method, covariances(k, pilot[0])))
    if not contenders:
        return
    for name, timing in race(contenders, rounds=options.rounds, least_s=options.seconds / 25).items():
        compile_s = max(compiled[name], timing.compile_s)  # of equal shapes, only the pilot's was compiled
        row = _per_grid(k, counts[name], options.locations, timing, roof)
        gives = next(method.gives for method in methods if method.name == name)
        result.row(k=k, method=name, gives=gives, **row, timing=timing.record() | {"compile_s": compile_s})


def _pilot(k: int, method: Method, most: int, seconds: float, result: Result) -> tuple[int, float]:
    """Checks the method on a few matrices; how many it does within the time, and seconds of compilation."""
    few = max(1, min(most, int(LOCATIONS * (10 / k) ** 2)))
    A = covariances(k, few)
    contender = _contender(method, A)
    warm = warm_up(contender)
    if warm.warm_s > 4 * seconds:
        raise TooSlow(f"{few} matrices take {warm.warm_s:.1f} s: raise --seconds")
    if method.precision is not None:
        referee = np.linalg.inv(np.asarray(A[:FIRST], np.float64))
        error = relative_error(method.precision(contender.call()), referee)
        result.agreed(f"{method.name}, k = {k}", check(method.name, error, TOLERANCE), TOLERANCE)
    return max(1, min(most, int(few * seconds / warm.warm_s))), warm.compile_s


def _contender(method: Method, A: jax.Array) -> Contender:
    data = method.prepare(A)
    return Contender(method.name, lambda: method.call(data), method.wait)


def _per_grid(
    k: int, count: int, locations: int, timing: Timing, roof: dict[str, float]
) -> dict[str, float | int | bool]:
    """Against what the task needs, whatever the method does: A read, as much written, ⅔k³ operations."""
    bytes_s = 8 * k * k * count / timing.median / 1e9
    flops_s = 2 / 3 * k**3 * count / timing.median / 1e9
    return {
        "grid_s": timing.median * locations / count,
        "matrices": count,
        "scaled": count < locations,
        "of_bandwidth": bytes_s / roof["bandwidth_gb_s"],
        "of_matmul": flops_s / roof["matmul_gflop_s"],
    }
