"""Every backbone: channels, strides, parameters, GFLOPs by XLA's count, pictures a second."""

import argparse
import math

import jax
import numpy as np

from bench.errors import BenchError
from bench.harness import Contender, Deadline, TooSlow, race
from bench.record import Result
from jaxsode.backbones import registry
from jaxsode.fitting import extract


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, nargs=2, default=(256, 256))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--backbone", nargs="+", default=list(registry.BACKBONES))


def quick(options: argparse.Namespace) -> None:
    options.size, options.batch, options.backbone = (64, 64), 2, ["mobilenet_v3_small"]


def run(options: argparse.Namespace, result: Result) -> None:
    deadline = Deadline(options.minutes)
    pictures = np.random.default_rng(0).integers(0, 256, (options.batch, *options.size, 3), dtype=np.uint8)
    for name in options.backbone:
        backbone = registry.create(name)
        try:
            timing = race(
                [Contender(name, lambda b=backbone: extract(b, pictures))],
                rounds=options.rounds,
                limit_s=deadline.left_s,
            )[name]
        except TooSlow as error:
            result.leave_out(name, error)
            continue
        result.row(
            backbone=name,
            channels=backbone.channels,
            features=sum(backbone.channels),
            strides=backbone.strides,
            parameters=sum(math.prod(p.shape) for p in registry.parameters(backbone).values()),
            gflop=flops(backbone, (options.size[0], options.size[1])) / 1e9,
            pictures_per_s=options.batch / timing.median,
            batch=options.batch,
            size=list(options.size),
            timing=timing.record(),
        )


def flops(backbone: registry.Backbone, size: tuple[int, int]) -> float:
    """Operations for one picture, as XLA counts them in the plain network: multiply and add are two.

    Lowered for a platform without a convolution of our own, so that the count is the network's, not an
    algorithm's; nothing is compiled.
    """
    picture = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    lowered = (
        jax.jit(lambda network, x: network(x)).trace(backbone, picture).lower(lowering_platforms=("cuda",))
    )
    counted = lowered.cost_analysis()
    if counted is None:
        raise BenchError(f"XLA counts no operations of {backbone.name} here")
    return float(counted["flops"])
