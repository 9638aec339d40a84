"""The texture: a 2/2 twill, petrol warp over a sand-coloured weft, photographed from above.

No two pictures show the same piece of cloth: where the weave begins, how it lies, how evenly the yarns are
spun and dyed and how the light falls all differ. `Fabric.render` is a function of the numbers drawn in `draw`
alone, so a piece can be rendered again with one thing wrong and all else equal.
"""

from dataclasses import dataclass

import numpy as np

from .marks import (
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
)

PITCH = 6.6  # pixels from yarn to yarn
YARNS = 64  # more than cross any picture

WARP, WEFT, GROUND = rgb(0.105, 0.33, 0.37), rgb(0.80, 0.715, 0.565), rgb(0.030, 0.036, 0.040)


@dataclass(frozen=True)
class Fabric:
    """One piece of cloth as it lies under the camera."""

    offset: tuple[float, float]  # of the weave, pixels
    turn: float  # radians
    light: tuple[float, float]  # the slope of the light across the picture, x and y
    exposure: np.ndarray  # (3,) gain of each channel
    seed: int  # of the yarns

    @staticmethod
    def draw(rng: np.random.Generator) -> "Fabric":
        """A piece at random."""
        return Fabric(
            offset=(rng.uniform(0, 4 * PITCH) + 8 * PITCH, rng.uniform(0, 4 * PITCH) + 8 * PITCH),
            turn=np.deg2rad(1.2 * rng.standard_normal()),
            light=(0.05 * rng.standard_normal(), 0.05 * rng.standard_normal()),
            exposure=(1 + 0.035 * rng.standard_normal()) * (1 + 0.008 * rng.standard_normal(3)),
            seed=int(rng.integers(2**31)),
        )

    def weave(self) -> tuple[Grid, Grid]:
        """Position across the warp and across the weft, in pixels, before the yarns' own wandering."""
        x, y = coordinates()
        cosine, sine = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        u = x * cosine + y * sine + np.float32(self.offset[0])
        v = y * cosine - x * sine + np.float32(self.offset[1])
        return u, v

    def render(self, *, moved: tuple[Grid, Grid] | None = None, missing: Grid | None = None) -> Colours:
        """The picture (3, CANVAS, CANVAS) float32 in [0, 1].

        moved: how far the yarns lie from where they should, pixels across warp and weft;
        missing: true where the weft is gone.
        """
        rng = np.random.default_rng(self.seed)
        u, v = self.weave()
        u = u + np.float32(0.55) * smooth_noise(rng, (45.0, PITCH))
        v = v + np.float32(0.55) * smooth_noise(rng, (PITCH, 45.0))
        if moved is not None:
            u, v = u + moved[0], v + moved[1]
        u, v = u / np.float32(PITCH), v / np.float32(PITCH)  # from here on in yarns
        warp, weft = np.floor(u), np.floor(v)
        in_warp, in_weft = u - warp, v - weft  # 0 … 1 across a yarn
        warp, weft = warp.astype(np.int32), weft.astype(np.int32)
        phase = (warp + weft) & 3
        warp_up = phase < 2
        across = np.where(warp_up, in_warp, in_weft) - np.float32(0.5)
        along = np.where(warp_up, v, u)
        afloat = (np.where(warp_up, in_weft, in_warp) + (phase & 1).astype(np.float32)) / 2  # 0 … 1
        yarn = np.where(warp_up, warp, weft + YARNS)

        tone = np.float32(0.05) * white_noise(rng, 2 * YARNS)
        twist = rng.uniform(0, 2 * np.pi, 2 * YARNS).astype(np.float32)
        rounded = np.cos(np.float32(np.pi * 0.94) * across)
        crown = np.sin(np.float32(np.pi) * afloat)
        bright = np.float32(0.30) + np.float32(0.78) * rounded
        bright *= np.float32(0.70) + np.float32(0.34) * crown
        bright *= np.float32(1.05) - np.float32(0.30) * across - np.float32(0.10) * afloat
        strands = along * np.float32(2 * np.pi * 2.3) + across * 5 + np.take(twist, yarn, mode="wrap")
        bright *= 1 + np.float32(0.075) * np.sin(strands)
        bright *= 1 + np.take(tone, yarn, mode="wrap") + np.float32(0.045) * smooth_noise(rng, 9.0)
        bright *= 1 + np.float32(0.05) * smooth_noise(rng, 0.9)
        picture = mix(WEFT, WARP, warp_up.astype(np.float32)) * bright
        if missing is not None:  # one looks past the warp into the cloth
            beneath = GROUND + WARP * (np.float32(0.75) * smoothstep(0.80, 0.25, np.abs(in_warp * 2 - 1)))
            picture = np.where(missing & ~warp_up, beneath, picture)
        x, y = coordinates()
        slope = np.float32(self.light[0]) * (x / SIDE - np.float32(0.5)) * 2
        slope = slope + np.float32(self.light[1]) * (y / SIDE - np.float32(0.5)) * 2
        picture = picture * (1 + slope + np.float32(0.03) * smooth_noise(rng, 70.0))
        fuzz = hairlines(rng, range(2, 6), length=(6, 18), strength=(0.03, 0.09), wiggle=0.25)
        return (picture + fuzz) * self.exposure.astype(np.float32)[:, None, None]
