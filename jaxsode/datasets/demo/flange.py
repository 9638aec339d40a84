"""The aligned object: a turned aluminium flange with a bronze bushing, a seal and six socket screws.

Each part differs a little, as real ones do: where it lies, how the light falls, how the surface is turned,
which way the sockets of its screws point, and how worn it is. `Flange.render` is a function of the numbers
drawn in `draw` alone, so a part can be rendered again with one thing wrong and all else equal.
"""

from dataclasses import dataclass

import numpy as np

from .marks import (
    CANVAS,
    SIDE,
    Colours,
    Grid,
    coordinates,
    hairlines,
    mix,
    rgb,
    smooth_noise,
    smoothstep,
    white_noise,
    window,
)
from .screws import paint_hole, paint_screw

OUTER, FACE, GROOVE, SEAL, HUB, BUSHING, BORE = 112.0, 107.5, 65.0, 4.6, 55.0, 44.0, 30.0
SEAL_RADIUS = 60.0
SCREWS, SCREW_CIRCLE = 6, 86.0

_ALUMINIUM, _STEEL, _BRONZE = rgb(0.70, 0.715, 0.73), rgb(0.55, 0.56, 0.58), rgb(0.80, 0.585, 0.30)
_GROOVE, _RUBBER = rgb(0.10, 0.10, 0.11), rgb(0.62, 0.115, 0.075)
_BELT, _SHADE = rgb(0.135, 0.15, 0.165), rgb(0.92, 0.97, 1.0)


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
    ) -> Colours:
        """The picture (3, CANVAS, CANVAS) float32 in [0, 1].

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
                paint_hole(picture, centre, self.light)
            else:
                shift = askew[1:] if askew is not None and askew[0] == index else (0.0, 0.0)
                paint_screw(picture, centre, shift, float(self.sockets[index]), self.light)
        vignette = 1 - np.float32(0.16 / 180**2) * r * r
        wear = hairlines(rng, range(2, 5), length=(8, 26), strength=(-0.05, 0.05), wiggle=0.03)
        return picture * (vignette * (1 + wear)) * self.exposure.astype(np.float32)[:, None, None]

    def _belt(self, rng: np.random.Generator, r: Grid, away: Grid) -> Colours:
        """The rubber belt it lies on, with the part's shadow."""
        x, y = coordinates()
        grain = np.float32(0.05) * smooth_noise(rng, 1.5) + np.float32(0.06) * smooth_noise(rng, 5.0)
        ribs = np.float32(0.05) * np.sin((x + y) * np.float32(2 * np.pi / 8))
        shadow = np.float32(0.62) * smoothstep(OUTER + 12, OUTER - 3, r + 7 * away)
        return _BELT * ((1 + grain + ribs) * (1 - shadow))

    def _body(self, rng: np.random.Generator, r: Grid, away: Grid, across: Grid) -> Colours:
        """Everything turned on the lathe: materials and slopes by radius, lit as turned metal is."""
        rings = np.float32(0.6) * white_noise(rng, CANVAS) + np.float32(0.4) * np.repeat(
            white_noise(rng, CANVAS // 4), 4
        )
        turned = rings[(r * np.float32(2.2)).astype(np.int32)]
        turned *= np.float32(0.034) * (np.float32(0.8) + np.float32(0.35) * smooth_noise(rng, 24.0))
        turned += np.float32(0.02) * smooth_noise(rng, 30.0)
        radius = (r * np.float32(8)).astype(np.int32)
        colour, slope, gloss = (np.take(table, radius, axis=-1, mode="clip") for table in _PROFILE)
        # Turned metal shines along two bows, where the tiny grooves lie square to the light; a second, weaker
        # lamp stands a little to the side.
        second = np.float32(np.cos(1.1)) * across - np.float32(np.sin(1.1)) * away
        bows = np.exp(-np.square(across / np.float32(0.30)))
        bows += np.float32(0.4) * np.exp(-np.square(second / np.float32(0.22)))
        tilt = 1 / np.sqrt(1 + slope * slope)
        diffuse = np.maximum(np.float32(0.80) - np.float32(0.62) * slope * away, np.float32(0.05))
        bright = tilt * (np.float32(0.88) * diffuse + np.float32(0.42) * gloss * bows) * (1 + turned * gloss)
        colour *= bright
        rows, columns, _, _ = window(self.centre, BORE + 2)
        r, away = r[rows, columns], away[rows, columns]
        depth = np.float32(0.04) + np.float32(0.11) * smoothstep(BORE - 12, BORE, r) * (1 - away)
        inside = smoothstep(BORE + 0.4, BORE - 0.4, r)
        colour[:, rows, columns] = mix(colour[:, rows, columns], depth * _SHADE, inside)
        return colour

    def _paint_seal(self, picture: Colours, r: Grid, away: Grid, shift: Grid | None) -> None:
        """The rubber ring in its groove, in place."""
        rows, columns, _, _ = window(self.centre, SEAL_RADIUS + 14)
        r, away = r[rows, columns], away[rows, columns]
        offset = np.float32(0) if shift is None else shift[rows, columns]
        side = (r - np.float32(SEAL_RADIUS) - offset) / np.float32(SEAL)  # −1 … 1 across the ring
        height = np.sqrt(np.clip(1 - side * side, np.float32(0.06), 1))
        slope = -side / height
        diffuse = np.clip((np.float32(0.75) - np.float32(0.55) * slope * away) * height, 0.12, 1.4)
        ridge = np.float32(0.20) * np.exp(-np.square((slope + np.float32(0.55) * away) / np.float32(0.30)))
        alpha = smoothstep(1.06, 0.94, np.abs(side))
        picture[:, rows, columns] = mix(picture[:, rows, columns], _RUBBER * diffuse + ridge, alpha)

    def _etch(self, picture: Colours, r: Grid) -> None:
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
        picture[:, rim] *= 1 - np.float32(0.55) * etched * smoothstep(106.6, 106.0, r[rim])

        cell, cells = 1.6, len(self.code)
        place = (self.centre[0] + 83.0, self.centre[1])
        rows, columns, x, y = window(place, cell * cells / 2)
        column, row = (np.clip((c / cell + cells / 2).astype(np.int32), 0, cells - 1) for c in (x, y))
        code = self.code.copy()
        code[:, 0] = code[-1, :] = True  # the solid edges that a reader looks for
        picture[:, rows, columns] *= 1 - np.float32(0.5) * code[row, column]


def _profile() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colour (3, 1024), slope and gloss (1024,) every eighth of a pixel of radius."""
    r = np.arange(1024, dtype=np.float32) / np.float32(8)
    colour = np.repeat(_ALUMINIUM[:, 0], 1024, axis=1)
    slope, gloss = np.zeros(1024, np.float32), np.ones(1024, np.float32)
    colour[:, r < GROOVE] = _GROOVE[:, 0]
    gloss[(r > HUB) & (r < GROOVE)] = 0.1
    colour[:, r < HUB] = _STEEL[:, 0]
    colour[:, r < BUSHING] = _BRONZE[:, 0]
    slope[r > FACE] = -1.0
    slope[(r > GROOVE) & (r < GROOVE + 1.4)] = 0.8
    slope[(r > HUB - 2.2) & (r < HUB)] = -0.9
    slope[(r > BUSHING - 0.9) & (r < BUSHING + 0.9)] = 0.9
    slope[(r > BORE) & (r < BORE + 2.6)] = 0.9
    colour[:, (r > BUSHING - 0.35) & (r < BUSHING + 0.35)] *= np.float32(0.45)
    colour[:, (r > 96.6) & (r < 97.4)] *= np.float32(0.8)  # a fine turned step
    return colour, slope, gloss


_PROFILE = _profile()
