"""Shapes and noise from which the demo pictures are drawn.

Everything is drawn on a canvas of CANVAS × CANVAS subpixels, SUPERSAMPLING of them a pixel each way, and
averaged down at the end: edges come out smooth, and a defect can be finer than a pixel. Lengths and
positions are in pixels of the finished picture, x to the right and y down.
"""

import numpy as np
from PIL import Image, ImageDraw

SIDE = 256
SUPERSAMPLING = 2
CANVAS = SIDE * SUPERSAMPLING

Grid = np.ndarray  # (CANVAS, CANVAS) float32
Points = np.ndarray  # (n, 2) float, x and y


def coordinates() -> tuple[Grid, Grid]:
    """x and y of every subpixel's centre, each (1, CANVAS) and (CANVAS, 1) float32, in pixels."""
    centres = (np.arange(CANVAS, dtype=np.float32) + np.float32(0.5)) / np.float32(SUPERSAMPLING)
    return centres[None, :], centres[:, None]


def white_noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Independent N(0, 1), float32."""
    return rng.standard_normal(shape, dtype=np.float32)


def smooth_noise(rng: np.random.Generator, scale: float | tuple[float, float]) -> Grid:
    """N(0, 1) noise, correlated over about `scale` pixels (or scale_y, scale_x)."""
    scale_y, scale_x = scale if isinstance(scale, tuple) else (scale, scale)
    coarse = white_noise(rng, int(SIDE / scale_y) + 4, int(SIDE / scale_x) + 4)
    box = (1.0, 1.0, 1.0 + SIDE / scale_x, 1.0 + SIDE / scale_y)
    fine = Image.fromarray(coarse).resize((CANVAS, CANVAS), Image.Resampling.BICUBIC, box=box)
    noise = np.asarray(fine)
    return (noise - noise.mean()) / (noise.std() + np.float32(1e-6))


def smoothstep(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """0 up to `low`, 1 from `high`, a smooth ramp between (or the reverse where low > high)."""
    t = np.clip((x - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


def curve(
    rng: np.random.Generator, start: tuple[float, float], direction: float, length: float, *, wiggle: float
) -> Points:
    """A line that wanders: its direction (radians) does a random walk of `wiggle` radians per √pixel."""
    steps = max(int(length), 2)
    turns = np.cumsum(rng.standard_normal(steps)) * wiggle
    headings = direction + turns
    step = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / steps)
    return np.concatenate([[start], np.asarray(start) + np.cumsum(step, axis=0)])


def stroke(points: Points, width: float) -> Grid:
    """How much of each subpixel a line of `width` pixels through `points` covers, in [0, 1]."""
    fine = 2  # drawn finer still: ImageDraw has whole widths and no antialiasing
    scale = SUPERSAMPLING * fine
    sheet = Image.new("L", (CANVAS * fine, CANVAS * fine))
    path = [(float(x) * scale, float(y) * scale) for x, y in points]
    ImageDraw.Draw(sheet).line(path, fill=255, width=max(round(width * scale), 1), joint="curve")
    return np.asarray(sheet.reduce(fine), dtype=np.float32) / np.float32(255)


def blob(
    rng: np.random.Generator,
    centre: tuple[float, float],
    radius: float,
    *,
    roughness: float = 0.25,
    softness: float = 1.0,
) -> Grid:
    """An irregular spot: 1 inside, 0 outside, a ramp of `softness` pixels between.

    `roughness` is how far the outline leaves the circle, relative to `radius`.
    """
    x, y = coordinates()
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    angle = np.arctan2(dy, dx)
    outline = np.ones_like(angle)
    for wave in range(2, 8):
        amplitude = roughness * rng.standard_normal() / wave
        outline += np.float32(amplitude) * np.cos(wave * angle + np.float32(rng.uniform(0, 2 * np.pi)))
    distance = np.hypot(dx, dy) - np.float32(radius) * np.maximum(outline, np.float32(0.2))
    return smoothstep(softness / 2, -softness / 2, distance)


def mix(under: np.ndarray, over: np.ndarray, alpha: Grid) -> np.ndarray:
    """`over` laid on `under` with opacity `alpha`; pictures (CANVAS, CANVAS, 3) or one colour (3,)."""
    a = alpha[..., None]
    return under * (1 - a) + np.asarray(over, dtype=np.float32) * a
