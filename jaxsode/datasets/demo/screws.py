"""The flange's screws, painted onto it one by one: each socket points its own way."""

import numpy as np

from .marks import Colours, Grid, mix, rgb, smoothstep, window

SCREW_HEAD, COUNTERBORE = 11.5, 14.5

_STEEL, _FLOOR, _SHADE = rgb(0.335, 0.34, 0.36), rgb(0.70, 0.715, 0.73), rgb(0.92, 0.97, 1.0)


def _counterbore(patch: Colours, r: Grid, away: Grid) -> Colours:
    """A recess: its wall is dark on the side of the light and catches it on the other."""
    wall = _SHADE * (np.float32(0.22) - np.float32(0.14) * away)
    patch = mix(patch, wall, smoothstep(COUNTERBORE + 0.4, COUNTERBORE - 0.4, r))
    rim = np.exp(-np.square((r - np.float32(COUNTERBORE)) / np.float32(0.7)))
    return patch + np.float32(0.16) * rim * np.maximum(-away, 0)


def paint_screw(
    picture: Colours, centre: tuple[float, float], shift: tuple[float, ...], turn: float, light: float
) -> None:
    """A cap screw with its hexagon, in place; `shift` moves the head in its recess."""
    rows, columns, x, y = window(centre, COUNTERBORE + 6)
    light_x, light_y = np.float32(np.cos(light)), np.float32(np.sin(light))
    r = np.hypot(x, y)
    patch = _counterbore(picture[:, rows, columns], r, (x * light_x + y * light_y) / r)
    x, y = x - np.float32(shift[0]), y - np.float32(shift[1])
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    away, across = np.cos(angle - np.float32(light)), np.sin(angle - np.float32(light + 0.2))
    if any(shift):  # it stands out and throws a shadow
        thrown = np.hypot(x + np.float32(2.2) * light_x, y + np.float32(2.2) * light_y)
        patch = patch * (1 - np.float32(0.55) * smoothstep(SCREW_HEAD + 2, SCREW_HEAD - 1, thrown))
    edge = smoothstep(9.6, SCREW_HEAD, r)
    knurl = np.float32(0.10) * np.sin(angle * 30 + np.float32(turn * 5)) * smoothstep(10.2, 11.0, r)
    sheen = np.float32(0.22) * np.exp(-np.square(across / np.float32(0.4))) * (1 - edge)
    bright = np.float32(0.92) + np.float32(0.75) * edge * away + knurl + sheen
    sides = [np.float32(turn + side * np.pi / 3) for side in range(3)]
    hexagon = np.max([np.abs(x * np.cos(side) + y * np.sin(side)) for side in sides], axis=0)
    bright = bright * (1 - np.float32(0.5) * smoothstep(6.3, 5.6, hexagon) * away)
    floor = np.float32(0.055) + np.float32(0.07) * np.clip(-(x * light_x + y * light_y) / 5, 0, 1)
    head = mix(_STEEL * bright, _SHADE * floor, smoothstep(5.3, 4.7, hexagon))
    picture[:, rows, columns] = mix(patch, head, smoothstep(SCREW_HEAD + 0.35, SCREW_HEAD - 0.35, r))


def paint_hole(picture: Colours, centre: tuple[float, float], light: float) -> None:
    """The recess and thread where a screw should be, in place."""
    rows, columns, x, y = window(centre, COUNTERBORE + 6)
    r = np.hypot(x, y)
    away = (x * np.float32(np.cos(light)) + y * np.float32(np.sin(light))) / r
    patch = _counterbore(picture[:, rows, columns], r, away)
    floor = _FLOOR * (np.float32(0.50) + np.float32(0.04) * np.sin(r * 5))
    patch = mix(patch, floor, smoothstep(12.4, 11.6, r))
    thread = np.float32(0.09) + np.float32(0.09) * np.sin(r * np.float32(2.6)) * smoothstep(1.5, 6.0, r)
    thread = np.maximum(thread - np.float32(0.04) * away, np.float32(0.02))
    picture[:, rows, columns] = mix(patch, _SHADE * thread, smoothstep(7.4, 6.6, r))
