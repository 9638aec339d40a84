"""What goes wrong with a flange.

A defect takes a generator, a part and a strength in (0, 1], faint and small to plain. It gives the canvas
with the defect and the region (CANVAS, CANVAS) bool outside which no subpixel differs from `part.render()`.
"""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from .flange import BORE, GROOVE, OUTER, SCREWS, Flange
from .marks import Colours, blob, coordinates, curve, lay, mix, rgb, smoothstep, stroke
from .screws import COUNTERBORE

Defect = Callable[[np.random.Generator, Flange, float], tuple[Colours, np.ndarray]]


def _on_face(rng: np.random.Generator, part: Flange) -> tuple[float, float]:
    """A place on the plate between the seal and the rim."""
    radius, angle = rng.uniform(70, 100), rng.uniform(0, 2 * np.pi)
    return part.centre[0] + radius * float(np.cos(angle)), part.centre[1] + radius * float(np.sin(angle))


def _metal(part: Flange, *, beyond: float = BORE) -> np.ndarray:
    """The part without its bore, or what of it lies `beyond` a radius."""
    r, _, _ = part.polar()
    return (r < OUTER) & (r > beyond)


def _compare(good: Colours, changed: Colours) -> tuple[Colours, np.ndarray]:
    """The region where two renderings differ visibly, its gaps closed."""
    differs = np.abs(changed - good).max(axis=0) > 0.012
    region = ndimage.binary_fill_holes(ndimage.binary_closing(differs, iterations=3))
    region = ndimage.binary_opening(region, iterations=1)
    return np.where(region, changed, good), region


def scratch(rng: np.random.Generator, part: Flange, strength: float) -> tuple[Colours, np.ndarray]:
    """A groove: one flank catches the light, the other is in the dark."""
    good = part.render()
    line = curve(rng, _on_face(rng, part), rng.uniform(0, 2 * np.pi), 16 + 60 * strength, wiggle=0.02)
    width = 0.6 + 0.6 * strength
    lit, dark = stroke(line, width), stroke(line + np.array([0.8, 0.8]), width)
    change = np.float32(0.15 + 0.40 * strength) * lit - np.float32(0.10 + 0.28 * strength) * dark
    touched = (np.maximum(lit, dark) > 0.1).astype(np.float32)
    return lay(good, good * (1 + change), touched, within=_metal(part))


def stain(rng: np.random.Generator, part: Flange, strength: float) -> tuple[Colours, np.ndarray]:
    """A drop of oil that was left to dry: darker and browner, with a rim."""
    good = part.render()
    radius = 5 + 13 * strength * rng.uniform(0.7, 1.0)
    spot = blob(rng, _on_face(rng, part), radius, roughness=0.18, softness=2.5)
    rim = spot * (1 - spot) * 4
    oil = 1 - np.float32(0.07 + 0.34 * strength) * rgb(0.62, 0.80, 1.0) * (1 + np.float32(0.5) * rim)
    return lay(good, good * oil, spot, within=_metal(part))


def tint(rng: np.random.Generator, part: Flange, strength: float) -> tuple[Colours, np.ndarray]:
    """Colours of temper: the part was ground too hot."""
    good = part.render()
    radius = 9 + 20 * strength * rng.uniform(0.7, 1.0)
    patch = blob(rng, _on_face(rng, part), radius, softness=radius * 0.9)
    straw, blue = rgb(1.06, 0.95, 0.68), rgb(0.80, 0.90, 1.22)
    temper = straw + (blue - straw) * smoothstep(0.45, 0.95, patch)
    tempered = good * (1 + (temper - 1) * np.float32(0.30 + 0.6 * strength))
    return lay(good, tempered, patch, within=_metal(part))


def missing_screw(rng: np.random.Generator, part: Flange, strength: float) -> tuple[Colours, np.ndarray]:
    """The thread gapes. A weak one is a screw that stands proud, askew in its recess."""
    index = int(rng.integers(SCREWS))
    good = part.render()
    if strength < 0.6:
        angle, distance = rng.uniform(0, 2 * np.pi), 1.4 + 2.4 * strength
        askew = (index, distance * float(np.cos(angle)), distance * float(np.sin(angle)))
        return _compare(good, part.render(askew=askew))
    x, y = coordinates()
    centre = part.screw(index)
    recess = np.hypot(x - np.float32(centre[0]), y - np.float32(centre[1])) < COUNTERBORE
    return np.where(recess, part.render(missing=index), good), recess


def bent_seal(rng: np.random.Generator, part: Flange, strength: float) -> tuple[Colours, np.ndarray]:
    """The seal has sprung from its groove over an arc."""
    x, y = coordinates()
    angle = np.arctan2(y - np.float32(part.centre[1]), x - np.float32(part.centre[0]))
    turn = np.mod(angle - np.float32(rng.uniform(0, 2 * np.pi)), np.float32(2 * np.pi)) - np.float32(np.pi)
    arc = np.exp(-np.square(turn / np.float32(rng.uniform(0.14, 0.34))))
    arc = np.where(arc > 0.02, arc, np.float32(0))
    distance = (1.6 + 6.0 * strength) * rng.choice([-1.0, 1.0])
    return _compare(part.render(), part.render(seal_shift=np.float32(distance) * arc))


def crack(rng: np.random.Generator, part: Flange, strength: float) -> tuple[Colours, np.ndarray]:
    """A crack from a screw's recess, forked when it has run far."""
    good, plate = part.render(), _metal(part, beyond=GROOVE)
    centre = part.screw(int(rng.integers(SCREWS)))
    outwards = np.arctan2(centre[1] - part.centre[1], centre[0] - part.centre[0])
    direction = outwards + rng.choice([-1.0, 1.0]) * rng.uniform(0.9, 1.7)
    start = (centre[0] + COUNTERBORE * np.cos(direction), centre[1] + COUNTERBORE * np.sin(direction))
    main = curve(rng, start, direction, 10 + 26 * strength, wiggle=0.22)
    lines = stroke(main, 0.7 + 0.7 * strength)
    if strength > 0.5:
        middle = (float(main[len(main) // 2, 0]), float(main[len(main) // 2, 1]))
        fork = curve(rng, middle, direction + 0.7, 7 + 10 * strength, wiggle=0.25)
        lines = np.maximum(lines, stroke(fork, 0.7))
    return lay(good, good * np.float32(0.25), np.float32(0.40 + 0.55 * strength) * lines, within=plate)


def nick(rng: np.random.Generator, part: Flange, strength: float) -> tuple[Colours, np.ndarray]:
    """A piece broken out of the rim: one sees the belt, and the bright break."""
    good = part.render()
    angle, size = rng.uniform(0, 2 * np.pi), 2.5 + 9 * strength * rng.uniform(0.8, 1.0)
    x = part.centre[0] + (OUTER - 0.5) * float(np.cos(angle))
    y = part.centre[1] + (OUTER - 0.5) * float(np.sin(angle))
    bite = blob(rng, (x, y), size, roughness=0.45, softness=0.8)
    floor = blob(rng, (x + 1.3, y + 1.3), size - 1.0, roughness=0.45, softness=0.8)
    broken = mix(good * np.float32(0.35) + rgb(0.55, 0.56, 0.58), rgb(0.055, 0.06, 0.065), floor)
    return lay(good, broken, bite, within=_metal(part))


def swarf(rng: np.random.Generator, part: Flange, strength: float) -> tuple[Colours, np.ndarray]:
    """Chips from the lathe, curled, some bright and some of bronze, with their shadows."""
    picture, plate = part.render(), _metal(part, beyond=GROOVE)
    region = np.zeros(picture.shape[1:], bool)
    for _ in range(1 + int(3 * strength)):
        length = 7 + 30 * strength * rng.uniform(0.4, 1.0)
        steps = np.arange(max(int(length * 2), 4))
        heading = rng.uniform(0, 2 * np.pi) + steps * rng.uniform(0.03, 0.12) * rng.choice([-1.0, 1.0])
        path = np.asarray(_on_face(rng, part)) + np.cumsum(
            0.5 * np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0
        )
        width = 0.9 + 0.9 * strength
        shadow, chip = stroke(path + np.array([1.1, 1.3]), width + 0.4), stroke(path, width)
        colour = rgb(0.93, 0.93, 0.92) if rng.random() < 0.6 else rgb(0.95, 0.70, 0.36)
        twinkle = np.float32(0.72) + np.float32(0.28) * np.sin(np.add(*coordinates()) * np.float32(1.3))
        picture, dark = lay(picture, picture * np.float32(0.45), shadow * np.float32(0.8), within=plate)
        picture, bright = lay(picture, colour * twinkle, chip, within=plate)
        region |= dark | bright
    return picture, region


DEFECTS: dict[str, Defect] = {
    "bent_seal": bent_seal,
    "crack": crack,
    "missing_screw": missing_screw,
    "nick": nick,
    "scratch": scratch,
    "stain": stain,
    "swarf": swarf,
    "tint": tint,
}
