"""The aligned object: a turned aluminium flange with a bronze bushing, a seal and six socket screws.

Each part differs a little, as real ones do: where it lies, how the light falls, how the surface is turned,
which way the sockets of its screws point, and how worn it is. `Flange.render` is a function of the numbers
drawn in `draw` alone, so a part can be rendered again with one thing wrong and all else equal.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .marks import (
    CANVAS,
    SIDE,
    SUPERSAMPLING,
    Grid,
    coordinates,
    curve,
    mix,
    smooth_noise,
    smoothstep,
    white_noise,
)

OUTER, FACE, GROOVE, SEAL, HUB, BUSHING, BORE = 112.0, 107.5, 65.0, 4.6, 55.0, 44.0, 30.0
SEAL_RADIUS = 60.0
SCREWS, SCREW_CIRCLE, SCREW_HEAD, COUNTERBORE = 6, 86.0, 11.5, 14.5

_ALUMINIUM, _STEEL, _BRONZE = (0.70, 0.715, 0.73), (0.55, 0.56, 0.58), (0.80, 0.585, 0.30)
_RUBBER, _SCREW_COLOUR, _BELT = (0.62, 0.115, 0.075), (0.335, 0.34, 0.36), (0.135, 0.15, 0.165)


@dataclass(frozen=True)
class Flange:
    """One part as it lies under the camera."""

    centre: tuple[float, float]
    light: float  # the azimuth it comes from, radians
    exposure: np.ndarray  # (3,) gain of each channel
    sockets: np.ndarray  # (SCREWS,) rotation of each hexagon, radians
    code: np.ndarray  # (9, 9) bool, the etched data matrix
    seed: int  # of surface noise and wear

    @staticmethod
    def draw(rng: np.random.Generator) -> "Flange":
        """A part at random."""
        return Flange(
            centre=(SIDE / 2 + rng.uniform(-1.6, 1.6), SIDE / 2 + rng.uniform(-1.6, 1.6)),
            light=np.deg2rad(-122 + 9 * rng.standard_normal()),
            exposure=(1 + 0.035 * rng.standard_normal()) * (1 + 0.008 * rng.standard_normal(3)),
            sockets=rng.uniform(0, np.pi / 3, SCREWS),
            code=rng.random((9, 9)) < 0.5,
            seed=int(rng.integers(2**31)),
        )

    def screw(self, index: int) -> tuple[float, float]:
        """Where the centre of a screw is, x and y in pixels."""
        angle = np.pi / 6 + index * 2 * np.pi / SCREWS
        return (
            self.centre[0] + SCREW_CIRCLE * float(np.cos(angle)),
            self.centre[1] + SCREW_CIRCLE * float(np.sin(angle)),
        )

    def polar(self) -> tuple[Grid, Grid, Grid]:
        """Radius about the part's centre (pixels), and the cosine and sine of the angle from the light."""
        x, y = coordinates()
        dx, dy = x - np.float32(self.centre[0]), y - np.float32(self.centre[1])
        r = np.sqrt(dx * dx + dy * dy)
        cosine, sine = np.float32(np.cos(self.light)), np.float32(np.sin(self.light))
        return r, (dx * cosine + dy * sine) / r, (dy * cosine - dx * sine) / r

    def render(
        self,
        *,
        missing: int | None = None,
        askew: tuple[int, float, float] | None = None,
        seal_shift: Grid | None = None,
    ) -> np.ndarray:
        """The picture (CANVAS, CANVAS, 3) float32 in [0, 1].

        missing: a screw that is not there; askew: a screw that sits off its place by x and y pixels;
        seal_shift: how far out of its groove the seal lies, pixels.
        """
        rng = np.random.default_rng(self.seed)
        r, away, across = self.polar()
        body = self._body(rng, r, away, across)
        self._paint_seal(body, r, away, seal_shift)
        picture = mix(self._belt(rng, r, away), body, smoothstep(OUTER + 0.4, OUTER - 0.4, r))
        self._etch(picture, r)
        for index in range(SCREWS):
            centre = self.screw(index)
            if index == missing:
                _paint_hole(picture, centre, self.light)
            else:
                shift = askew[1:] if askew is not None and askew[0] == index else (0.0, 0.0)
                _paint_screw(picture, centre, shift, float(self.sockets[index]), self.light)
        vignette = 1 - np.float32(0.16 / 180**2) * r * r
        picture *= (vignette * (1 + self._wear(rng)))[..., None]
        picture *= self.exposure.astype(np.float32)
        return picture

    def _belt(self, rng: np.random.Generator, r: Grid, away: Grid) -> np.ndarray:
        """The rubber belt it lies on, with the part's shadow."""
        x, y = coordinates()
        grain = np.float32(0.05) * smooth_noise(rng, 1.5) + np.float32(0.06) * smooth_noise(rng, 5.0)
        ribs = np.float32(0.05) * np.sin((x + y) * np.float32(2 * np.pi / 8))
        shadow = np.float32(0.62) * smoothstep(OUTER + 12, OUTER - 3, r + 7 * away)
        return ((1 + grain + ribs) * (1 - shadow))[..., None] * np.asarray(_BELT, np.float32)

    def _body(self, rng: np.random.Generator, r: Grid, away: Grid, across: Grid) -> np.ndarray:
        """Everything turned on the lathe: materials and slopes by radius, lit as turned metal is."""
        rings = np.float32(0.6) * white_noise(rng, CANVAS) + np.float32(0.4) * np.repeat(
            white_noise(rng, CANVAS // 4), 4
        )
        turned = rings[(r * np.float32(2.2)).astype(np.int32)]
        turned *= np.float32(0.034) * (np.float32(0.8) + np.float32(0.35) * smooth_noise(rng, 24.0))
        turned += np.float32(0.02) * smooth_noise(rng, 30.0)
        radius = (r * np.float32(8)).astype(np.int32)
        colour, slope, gloss = (np.take(table, radius, axis=0, mode="clip") for table in _PROFILE)
        # Turned metal shines along two bows, where the tiny grooves lie square to the light; a second, weaker
        # lamp stands a little to the side.
        second = np.float32(np.cos(0.35 + np.pi / 2)) * away + np.float32(np.sin(0.35 + np.pi / 2)) * across
        bows = np.exp(-np.square(across / np.float32(0.30)))
        bows += np.float32(0.5) * np.exp(-np.square((away - second) / np.float32(0.45)))
        tilt = 1 / np.sqrt(1 + slope * slope)
        diffuse = np.maximum(np.float32(0.80) - np.float32(0.62) * slope * away, np.float32(0.05))
        bright = tilt * (np.float32(0.88) * diffuse + np.float32(0.42) * gloss * bows) * (1 + turned * gloss)
        metal = colour * bright[..., None]
        depth = np.float32(0.04) + np.float32(0.11) * smoothstep(BORE - 12, BORE, r) * (1 - away)
        bore = depth[..., None] * np.asarray((0.75, 0.85, 1.0), np.float32)
        return mix(metal, bore, smoothstep(BORE + 0.4, BORE - 0.4, r))

    def _paint_seal(self, picture: np.ndarray, r: Grid, away: Grid, shift: Grid | None) -> None:
        """The rubber ring in its groove, in place."""
        rows, columns, _, _ = _window(self.centre, SEAL_RADIUS + 14)
        r, away = r[rows, columns], away[rows, columns]
        offset = np.float32(0) if shift is None else shift[rows, columns]
        side = (r - np.float32(SEAL_RADIUS) - offset) / np.float32(SEAL)  # −1 … 1 across the ring
        height = np.sqrt(np.clip(1 - side * side, np.float32(0.06), 1))
        slope = -side / height
        diffuse = np.clip((np.float32(0.75) - np.float32(0.55) * slope * away) * height, 0.12, 1.4)
        ridge = np.float32(0.20) * np.exp(-np.square((slope + np.float32(0.55) * away) / np.float32(0.30)))
        rubber = np.asarray(_RUBBER, np.float32) * diffuse[..., None] + ridge[..., None]
        alpha = smoothstep(1.06, 0.94, np.abs(side))
        picture[rows, columns] = mix(picture[rows, columns], rubber, alpha)

    def _etch(self, picture: np.ndarray, r: Grid) -> None:
        """The graduation at the rim and the data matrix, etched by laser, dark and matt, in place."""
        rim = (r > 101) & (r < 107)
        rows, columns = np.nonzero(rim)
        x, y = coordinates()
        angle = np.arctan2(
            y[rows, 0] - np.float32(self.centre[1]), x[0, columns] - np.float32(self.centre[0])
        )
        pitch = np.float32(2 * np.pi / 72)
        tick = np.rint(angle / pitch)
        beside = np.abs(angle - tick * pitch) * r[rim]
        inner = np.where(np.mod(tick, 6) == 0, np.float32(101.5), np.float32(103.3))
        etched = smoothstep(0.75, 0.35, beside) * smoothstep(-0.4, 0.4, r[rim] - inner)
        picture[rim] *= (1 - np.float32(0.55) * etched * smoothstep(106.6, 106.0, r[rim]))[:, None]

        cell, cells = 1.6, len(self.code)
        place = (self.centre[0] + 83.0, self.centre[1])
        rows, columns, x, y = _window(place, cell * cells / 2)
        column, row = (np.clip((c / cell + cells / 2).astype(np.int32), 0, cells - 1) for c in (x, y))
        code = self.code.copy()
        code[:, 0] = code[-1, :] = True  # the solid edges that a reader looks for
        picture[rows, columns] *= (1 - np.float32(0.5) * code[row, column])[..., None]

    def _wear(self, rng: np.random.Generator) -> Grid:
        """Hairlines that every part has and nobody minds, as a relative change of brightness."""
        sheet = Image.new("F", (CANVAS, CANVAS))
        for _ in range(int(rng.integers(2, 5))):
            start = (rng.uniform(40, 216), rng.uniform(40, 216))
            line = curve(rng, start, rng.uniform(0, 2 * np.pi), rng.uniform(8, 26), wiggle=0.03)
            path = [(float(x) * SUPERSAMPLING, float(y) * SUPERSAMPLING) for x, y in line]
            ImageDraw.Draw(sheet).line(path, fill=rng.uniform(-0.05, 0.05), width=1)
        return np.asarray(sheet)


def _profile() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour (1024, 3), slope and gloss (1024,) every eighth of a pixel of radius."""
    r = np.arange(1024, dtype=np.float32) / np.float32(8)
    colour = np.empty((1024, 3), np.float32)
    slope, gloss = np.zeros(1024, np.float32), np.ones(1024, np.float32)
    colour[:] = _ALUMINIUM
    colour[r < HUB] = _STEEL
    colour[r < BUSHING] = _BRONZE
    slope[r > FACE] = -1.0
    slope[(r > HUB - 2.2) & (r < HUB)] = -0.9
    slope[(r > BUSHING - 0.9) & (r < BUSHING + 0.9)] = 0.9
    slope[(r > BORE) & (r < BORE + 2.6)] = 0.9
    slope[(r > GROOVE) & (r < GROOVE + 1.4)] = 0.8
    groove = (r > HUB) & (r < GROOVE)
    colour[groove], gloss[groove] = (0.10, 0.10, 0.11), 0.1
    seam = (r > BUSHING - 0.35) & (r < BUSHING + 0.35)
    colour[seam] = colour[seam] * np.float32(0.45)
    step = (r > 96.6) & (r < 97.4)  # a fine turned step
    colour[step] = colour[step] * np.float32(0.8)
    return colour, slope, gloss


_PROFILE = _profile()


def _window(centre: tuple[float, float], reach: float) -> tuple[slice, slice, Grid, Grid]:
    """The part of the canvas within `reach` of a centre, and x and y there relative to it."""
    columns, rows = (
        slice(max(int((c - reach) * SUPERSAMPLING), 0), int((c + reach) * SUPERSAMPLING)) for c in centre
    )
    x, y = coordinates()
    return rows, columns, x[:, columns] - np.float32(centre[0]), y[rows] - np.float32(centre[1])


def _paint_counterbore(patch: np.ndarray, r: Grid, away: Grid) -> np.ndarray:
    """A recess: its wall is dark on the side of the light and catches it on the other."""
    wall = np.float32(0.22) - np.float32(0.14) * away
    wall = wall[..., None] * np.asarray((0.95, 0.98, 1.0), np.float32)
    patch = mix(patch, wall, smoothstep(COUNTERBORE + 0.4, COUNTERBORE - 0.4, r))
    rim = np.exp(-(((r - np.float32(COUNTERBORE)) / np.float32(0.7)) ** 2)) * np.maximum(-away, 0)
    return patch + np.float32(0.16) * rim[..., None]


def _paint_screw(
    picture: np.ndarray, centre: tuple[float, float], shift: tuple[float, ...], turn: float, light: float
) -> None:
    """A cap screw with its hexagon, in place; `shift` moves the head in its recess."""
    rows, columns, x, y = _window(centre, COUNTERBORE + 6)
    away = np.cos(np.arctan2(y, x) - np.float32(light))
    patch = _paint_counterbore(picture[rows, columns], np.hypot(x, y), away)
    x, y = x - np.float32(shift[0]), y - np.float32(shift[1])
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    away = np.cos(angle - np.float32(light))
    if any(shift):  # it stands out and throws a shadow
        sx, sy = 2.2 * float(np.cos(light)), 2.2 * float(np.sin(light))
        thrown = np.hypot(x + np.float32(sx), y + np.float32(sy))
        patch = patch * (1 - np.float32(0.55) * smoothstep(SCREW_HEAD + 2, SCREW_HEAD - 1, thrown))[..., None]
    knurl = np.float32(0.10) * np.sin(angle * 30 + np.float32(turn * 5)) * smoothstep(10.2, 11.0, r)
    edge = smoothstep(9.6, SCREW_HEAD, r)
    light_on = np.float32(0.92) + np.float32(0.75) * edge * away + knurl
    sheen = np.float32(0.22) * np.exp(-((np.sin(angle - np.float32(light + 0.2)) / np.float32(0.4)) ** 2))
    head = (light_on + sheen * (1 - edge))[..., None] * np.asarray(_SCREW_COLOUR, np.float32)
    axes = [np.float32(turn + k * np.pi / 3) for k in range(3)]
    hexagon = np.max([np.abs(x * np.cos(a) + y * np.sin(a)) for a in axes], axis=0)
    chamfer = smoothstep(6.3, 5.6, hexagon)
    head = head * (1 + np.float32(0.5) * (chamfer * -away))[..., None]
    floor = np.float32(0.055) + np.float32(0.07) * np.clip(-(x * np.cos(light) + y * np.sin(light)) / 5, 0, 1)
    socket = floor.astype(np.float32)[..., None] * np.ones(3, np.float32)
    head = mix(head, socket, smoothstep(5.3, 4.7, hexagon))
    picture[rows, columns] = mix(patch, head, smoothstep(SCREW_HEAD + 0.35, SCREW_HEAD - 0.35, r))


def _paint_hole(picture: np.ndarray, centre: tuple[float, float], light: float) -> None:
    """The recess and thread where a screw should be, in place."""
    rows, columns, x, y = _window(centre, COUNTERBORE + 6)
    r = np.hypot(x, y)
    away = np.cos(np.arctan2(y, x) - np.float32(light))
    patch = _paint_counterbore(picture[rows, columns], r, away)
    floor = (np.float32(0.50) + np.float32(0.04) * np.sin(r * 5))[..., None] * np.asarray(_ALUMINIUM, np.float32)
    patch = mix(patch, floor, smoothstep(12.4, 11.6, r))
    thread = np.float32(0.09) + np.float32(0.09) * np.sin(r * np.float32(2.6)) * smoothstep(1.5, 6.0, r)
    thread = np.maximum(thread - np.float32(0.04) * away, np.float32(0.02))
    patch = mix(patch, thread[..., None] * np.ones(3, np.float32), smoothstep(7.4, 6.6, r))
    picture[rows, columns] = patch
