"""Heat maps beside their pictures, in the paper's colours or in even ones."""

from pathlib import Path

import numpy as np
from einops import rearrange
from scipy import ndimage

CLAMP = 10.0
"""Distances are drawn from 0 to this value, as in the paper; never rescaled from picture to picture."""

_GREEN = (0, 255, 0)
_GREY = 128
_GAP = 4


def jet(x: np.ndarray) -> np.ndarray:
    """The map of the paper's figures: blue, cyan, yellow, red.

    Args:
        x: (…) in [0, 1]; clamped.

    Returns:
        (…, 3) uint8.
    """
    x = np.clip(x, 0, 1)[..., None]
    centres = np.array([0.75, 0.5, 0.25])
    return _bytes(1.5 - 4 * np.abs(x - centres))


def cubehelix(x: np.ndarray) -> np.ndarray:
    """A perceptual map: brightness rises evenly from black to white while the hue turns (Green, 2011).

    Args:
        x: (…) in [0, 1]; clamped.

    Returns:
        (…, 3) uint8.
    """
    x = np.clip(x, 0, 1)[..., None]
    # Green's defaults: start 0.5, −1.5 rotations, hue 1; the rows turn his two axes into red, green, blue.
    angle = 2 * np.pi * (0.5 / 3 + 1 - 1.5 * x)
    amplitude = x * (1 - x) / 2
    cosine = np.array([-0.14861, -0.29227, 1.97294])
    sine = np.array([1.78277, -0.90649, 0.0])
    return _bytes(x + amplitude * (cosine * np.cos(angle) + sine * np.sin(angle)))


COLOUR_MAPS = {"jet": jet, "cubehelix": cubehelix}


def panel(
    picture: np.ndarray, anomaly_map: np.ndarray, mask: np.ndarray | None, *, colours: str = "jet"
) -> np.ndarray:
    """Picture, heat map, and the picture with the outline of the truth in green, side by side (Figure 5).

    Args:
        picture: (height, width, 3 or 1) uint8.
        anomaly_map: (height, width), in units of the Mahalanobis distance; grey where it is NaN.
        mask: (height, width) uint8, a defect where above 127; None for a good picture.
        colours: one of COLOUR_MAPS.

    Returns:
        (height, 3 · width + 2 · gap, 3) uint8.
    """
    return beside(
        np.broadcast_to(picture, (*picture.shape[:2], 3)),
        heat_map(anomaly_map, colours=colours),
        outlined(picture, mask),
    )


def heat_map(anomaly_map: np.ndarray, *, colours: str = "jet") -> np.ndarray:
    """Distances from 0 to `CLAMP` in colours.

    Args:
        anomaly_map: (height, width), in units of the Mahalanobis distance; grey where it is NaN.
        colours: one of COLOUR_MAPS.

    Returns:
        (height, width, 3) uint8.
    """
    judged = ~np.isnan(anomaly_map)
    heat = COLOUR_MAPS[colours](np.where(judged, anomaly_map, 0) / CLAMP)
    heat[~judged] = _GREY
    return heat


def outlined(picture: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """A picture with the outline of the truth in green.

    Args:
        picture: (height, width, 3 or 1) uint8.
        mask: (height, width) uint8, a defect where above 127; None for a good picture.

    Returns:
        (height, width, 3) uint8.
    """
    made = np.broadcast_to(picture, (*picture.shape[:2], 3)).copy()
    if mask is not None:
        truth = mask > 127
        made[np.asarray(ndimage.binary_dilation(truth, np.ones((3, 3))), bool) & ~truth] = _GREEN
    return made


def beside(*tiles: np.ndarray) -> np.ndarray:
    """Pictures of one size in a row.

    Args:
        tiles: (height, width, 3) uint8, each.

    Returns:
        (height, n · width + (n − 1) · gap, 3) uint8.
    """
    row = np.pad(np.stack(tiles), ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=255)
    return rearrange(row, "tile h w c -> h (tile w) c")[:, :-_GAP]


def write_panel(path: Path, panel: np.ndarray) -> None:
    """Write a panel, (height, width, 3) uint8, as PNG, making the folder."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(panel).save(path, compress_level=3)


def _bytes(colour: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(colour, 0, 1)).astype(np.uint8)
