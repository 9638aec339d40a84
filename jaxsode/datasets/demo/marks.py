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
Colours = np.ndarray  # (3, CANVAS, CANVAS) float32: planes, for NumPy works along the last axis fastest
Points = np.ndarray  # (n, 2) float, x and y


def coordinates() -> tuple[Grid, Grid]:
    """x and y of every subpixel's centre, each (1, CANVAS) and (CANVAS, 1) float32, in pixels."""
    centres = (np.arange(CANVAS, dtype=np.float32) + np.float32(0.5)) / np.float32(SUPERSAMPLING)
    return centres[None, :], centres[:, None]


def window(centre: tuple[float, float], reach: float) -> tuple[slice, slice, Grid, Grid]:
    """Rows and columns of the canvas within `reach` of a centre, and x and y there relative to it."""
    columns, rows = (
        slice(max(int((c - reach) * SUPERSAMPLING), 0), int((c + reach) * SUPERSAMPLING)) for c in centre
    )
    x, y = coordinates()
    return rows, columns, x[:, columns] - np.float32(centre[0]), y[rows] - np.float32(centre[1])


def white_noise(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Independent N(0, 1), float32."""
    return rng.standard_normal(shape, dtype=np.float32)


def smooth_noise(rng: np.random.Generator, scale: float | tuple[float, float]) -> Grid:
    """Noise of mean 0 and deviation about 1, correlated over about `scale` pixels (or scale_y, scale_x)."""
    scale_y, scale_x = scale if isinstance(scale, tuple) else (scale, scale)
    coarse = white_noise(rng, int(SIDE / scale_y) + 4, int(SIDE / scale_x) + 4)
    box = (1.0, 1.0, 1.0 + SIDE / scale_x, 1.0 + SIDE / scale_y)
    fine = Image.fromarray(coarse * np.float32(1.3))  # about what the interpolation takes off
    return np.asarray(fine.resize((CANVAS, CANVAS), Image.Resampling.BICUBIC, box=box))


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


def hairlines(
    rng: np.random.Generator,
    count: range,
    *,
    length: tuple[float, float],
    strength: tuple[float, float],
    wiggle: float,
) -> Grid:
    """The finest lines that the canvas holds, anywhere on it: 0 beside them, one of `strength` on each."""
    sheet = Image.new("F", (CANVAS, CANVAS))
    for _ in range(int(rng.integers(count.start, count.stop))):
        start = (rng.uniform(0, SIDE), rng.uniform(0, SIDE))
        line = curve(rng, start, rng.uniform(0, 2 * np.pi), rng.uniform(*length), wiggle=wiggle)
        path = [(float(x) * SUPERSAMPLING, float(y) * SUPERSAMPLING) for x, y in line]
        ImageDraw.Draw(sheet).line(path, fill=rng.uniform(*strength), width=1)
    return np.asarray(sheet)


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


def rgb(red: float, green: float, blue: float) -> Colours:
    """One colour, (3, 1, 1) float32."""
    return np.array([red, green, blue], np.float32)[:, None, None]


def mix(under: Colours, over: Colours, alpha: Grid) -> Colours:
    """`over` laid on `under` with opacity `alpha` in [0, 1]."""
    return under + (over - under) * alpha


def lay(
    good: Colours, changed: Colours, alpha: Grid, *, within: np.ndarray | None = None
) -> tuple[Colours, np.ndarray]:
    """`changed` over `good` with opacity `alpha`, `within` a region, and the region where it lies.

    Where it would be all but transparent it is left off, so that the region is exact.
    """
    region = alpha > 0.1
    if within is not None:
        region &= within
    return mix(good, changed, np.where(region, alpha, np.float32(0))), region


def finish(
    rng: np.random.Generator, picture: Colours, region: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What the camera delivers: the picture (SIDE, SIDE, 3) and its mask (SIDE, SIDE), uint8.

    A pixel of the mask is 255 where any of its subpixels lies in `region` (CANVAS, CANVAS) bool, else 0.
    """
    offsets = [slice(offset, None, SUPERSAMPLING) for offset in range(SUPERSAMPLING)]
    corners = [(rows, columns) for rows in offsets for columns in offsets]
    pixels = sum(picture[:, rows, columns] for rows, columns in corners) / np.float32(len(corners))
    pixels = pixels + np.float32(0.006) * white_noise(rng, 3, SIDE, SIDE)  # of the sensor
    levels = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if region is not None:
        mask[np.any([region[rows, columns] for rows, columns in corners], axis=0)] = 255
    return np.ascontiguousarray(np.moveaxis(levels, 0, -1)), mask
