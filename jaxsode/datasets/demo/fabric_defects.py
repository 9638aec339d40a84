"""What goes wrong with a cloth.

A defect takes a generator, a piece and a strength in (0, 1], faint and small to plain. It gives the canvas
with the defect and the region (CANVAS, CANVAS) bool outside which no subpixel differs from `piece.render()`.
"""

from collections.abc import Callable

import numpy as np

from .fabric import GROUND, PITCH, WARP, WEFT, Fabric
from .marks import (
    CANVAS,
    SIDE,
    SUPERSAMPLING,
    Colours,
    Grid,
    blob,
    coordinates,
    curve,
    lay,
    mix,
    rgb,
    smoothstep,
    stroke,
)

Defect = Callable[[np.random.Generator, Fabric, float], tuple[Colours, np.ndarray]]


def _somewhere(rng: np.random.Generator, *, margin: float = 30) -> tuple[float, float]:
    return rng.uniform(margin, SIDE - margin), rng.uniform(margin, SIDE - margin)


def _around(centre: tuple[float, float], width: float, height: float) -> Grid:
    """A bell of 1 at the centre, 1/e at `width` and `height` from it, 0 where it would be below 0.02."""
    x, y = coordinates()
    bell = np.exp(
        -np.square((x - np.float32(centre[0])) / np.float32(width))
        - np.square((y - np.float32(centre[1])) / np.float32(height))
    )
    return np.where(bell > 0.02, bell, np.float32(0))


def _moved(piece: Fabric, across_warp: Grid, across_weft: Grid) -> tuple[Colours, np.ndarray]:
    """The weave with its yarns moved; the region is where by more than a quarter of a pixel."""
    region = np.hypot(across_warp, across_weft) > 0.25
    moved = (np.where(region, across_warp, np.float32(0)), np.where(region, across_weft, np.float32(0)))
    return np.where(region, piece.render(moved=moved), piece.render()), region


def colour(rng: np.random.Generator, piece: Fabric, strength: float) -> tuple[Colours, np.ndarray]:
    """The dye has bled or faded over a patch."""
    good = piece.render()
    radius = 9 + 24 * strength * rng.uniform(0.7, 1.0)
    patch = blob(rng, _somewhere(rng), radius, softness=0.8 * radius)
    target = rgb(0.86, 1.08, 1.16) if rng.random() < 0.5 else rgb(1.16, 0.98, 0.84)
    return lay(good, good * (1 + (target - 1) * np.float32(0.35 + 0.9 * strength)), patch)


def cut(rng: np.random.Generator, piece: Fabric, strength: float) -> tuple[Colours, np.ndarray]:
    """A slit from a blade, its edges slightly frayed."""
    good = piece.render()
    line = curve(rng, _somewhere(rng, margin=50), rng.uniform(0, 2 * np.pi), 9 + 45 * strength, wiggle=0.03)
    slit, lips = stroke(line, 0.9 + 1.3 * strength), stroke(line, 2.4 + 2.2 * strength)
    frayed = good * (1 + np.float32(0.10 + 0.30 * strength) * lips)
    return lay(good, mix(frayed, GROUND, slit * np.float32(0.55 + 0.4 * strength)), lips)


def distortion(rng: np.random.Generator, piece: Fabric, strength: float) -> tuple[Colours, np.ndarray]:
    """Something has dragged the yarns aside."""
    size = 8 + 14 * strength
    bell = _around(_somewhere(rng, margin=45), size, size)
    angle, pull = rng.uniform(0, 2 * np.pi), 2.0 + 5.0 * strength
    return _moved(piece, np.float32(pull * np.cos(angle)) * bell, np.float32(pull * np.sin(angle)) * bell)


def hole(rng: np.random.Generator, piece: Fabric, strength: float) -> tuple[Colours, np.ndarray]:
    """One looks through; broken yarn ends stand into it."""
    good = piece.render()
    centre, radius = _somewhere(rng), 2.2 + 8 * strength * rng.uniform(0.8, 1.0)
    opening = blob(rng, centre, radius, roughness=0.35, softness=1.0)
    halo = blob(rng, centre, radius + 3.0, roughness=0.3, softness=3.0)
    picture = mix(mix(good, good * np.float32(0.62), halo), GROUND, opening)
    reach = np.maximum(halo, opening)
    for _ in range(int(3 + radius)):
        angle = rng.uniform(0, 2 * np.pi)
        start = (centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle))
        inwards = angle + np.pi + rng.uniform(-0.7, 0.7)
        fibre = stroke(curve(rng, start, inwards, radius * rng.uniform(0.5, 1.2), wiggle=0.2), 0.6)
        picture = mix(picture, (WARP if rng.random() < 0.5 else WEFT) * np.float32(0.85), fibre)
        reach = np.maximum(reach, fibre)
    region = reach > 0.1
    return np.where(region, picture, good), region


def missing_pick(rng: np.random.Generator, piece: Fabric, strength: float) -> tuple[Colours, np.ndarray]:
    """A weft yarn has broken and left its place over some length."""
    u, v = piece.weave()
    x, y = _somewhere(rng, margin=60)
    here = int(y * SUPERSAMPLING), int(x * SUPERSAMPLING)
    row = np.floor(v / np.float32(PITCH))
    gone = (row == row[here]) & (np.abs(u - u[here]) < (9 + 62 * strength) / 2)
    return piece.render(missing=gone), gone


def slub(rng: np.random.Generator, piece: Fabric, strength: float) -> tuple[Colours, np.ndarray]:
    """A yarn spun too thick for a little way: it pushes its neighbours aside."""
    centre = _somewhere(rng)
    length, width = 7 + 16 * strength, PITCH * (0.9 + 0.5 * strength)
    x, y = coordinates()
    swelling, still = np.float32(-0.35 - 0.5 * strength), np.zeros((CANVAS, CANVAS), np.float32)
    if rng.random() < 0.5:
        return _moved(piece, still, swelling * _around(centre, length, width) * (y - np.float32(centre[1])))
    return _moved(piece, swelling * _around(centre, width, length) * (x - np.float32(centre[0])), still)


def stain(rng: np.random.Generator, piece: Fabric, strength: float) -> tuple[Colours, np.ndarray]:
    """A splash that has soaked in, darker at its edge, with droplets beside it."""
    good = piece.render()
    centre, radius = _somewhere(rng, margin=40), 4 + 17 * strength * rng.uniform(0.7, 1.0)
    wet = blob(rng, centre, radius, roughness=0.3, softness=3.0)
    for _ in range(int(rng.integers(0, 4))):
        angle, distance = rng.uniform(0, 2 * np.pi), radius * rng.uniform(1.1, 1.7)
        aside = (centre[0] + distance * np.cos(angle), centre[1] + distance * np.sin(angle))
        wet = np.maximum(wet, blob(rng, aside, rng.uniform(0.08, 0.2) * radius + 0.8, softness=1.5))
    edge = smoothstep(0.05, 0.5, wet) * smoothstep(1.0, 0.6, wet)
    liquid = 1 - rgb(0.42, 0.60, 0.82) * (np.float32(0.14 + 0.45 * strength) * (1 + np.float32(0.4) * edge))
    return lay(good, good * liquid, wet)


def thread(rng: np.random.Generator, piece: Fabric, strength: float) -> tuple[Colours, np.ndarray]:
    """A stray thread lies on the cloth."""
    good = piece.render()
    line = curve(rng, _somewhere(rng, margin=60), rng.uniform(0, 2 * np.pi), 14 + 75 * strength, wiggle=0.13)
    width = 0.8 + 1.0 * strength
    dye = [rgb(0.78, 0.16, 0.14), rgb(0.93, 0.90, 0.84), rgb(0.07, 0.07, 0.08), rgb(0.86, 0.62, 0.12)]
    shadow, yarn = stroke(line + np.array([0.9, 1.2]), width + 0.6), stroke(line, width)
    x, y = coordinates()
    twist = np.float32(0.86) + np.float32(0.14) * np.sin((x + y) * np.float32(2.4))
    dark = mix(good, good * np.float32(0.55), shadow * np.float32(0.8))
    laid = mix(dark, dye[int(rng.integers(len(dye)))] * twist, yarn * np.float32(0.70 + 0.28 * strength))
    region = np.maximum(shadow, yarn) > 0.1
    return np.where(region, laid, good), region


DEFECTS: dict[str, Defect] = {
    "colour": colour,
    "cut": cut,
    "distortion": distortion,
    "hole": hole,
    "missing_pick": missing_pick,
    "slub": slub,
    "stain": stain,
    "thread": thread,
}
