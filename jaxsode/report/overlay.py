"""A heat map over its picture, on one fixed scale, with the threshold as a contour."""

import numpy as np
from scipy import ndimage

from jaxsode.report.panels import COLOUR_MAPS

TOP = 4.0
"""Distances are drawn from 0 to TOP · √k, whatever the picture: √k is the distance of one that is as far from
the mean as good ones are on the average."""

_LIGHT, _DARK = (255, 255, 255), (0, 0, 0)
_GREY = 128


def heat(anomaly_map: np.ndarray, k: int, *, colours: str = "jet") -> np.ndarray:
    """A map's colours.

    Args:
        anomaly_map: (height, width) distances; grey where NaN.
        k: embedding size, of the scale.
        colours: one of `COLOUR_MAPS`.

    Returns:
        (height, width, 3) uint8.
    """
    judged = ~np.isnan(anomaly_map)
    drawn = COLOUR_MAPS[colours](np.where(judged, anomaly_map, 0) / (TOP * np.sqrt(k)))
    drawn[~judged] = _GREY
    return drawn


def overlay(
    picture: np.ndarray,
    anomaly_map: np.ndarray,
    k: int,
    *,
    threshold: float | None = None,
    above: np.ndarray | None = None,
    colours: str = "jet",
) -> np.ndarray:
    """The picture with its heat map over it, half and half.

    Args:
        picture: (height, width, 3 or 1) uint8.
        anomaly_map: (height, width) distances; what is NaN isn't judged, and greyed.
        k: embedding size, of the scale.
        threshold: what is above it is outlined, white within black; None outlines nothing.
        above: (height, width) bool, what is outlined where it is known already, as of a map that was resized.
        colours: one of `COLOUR_MAPS`.

    Returns:
        (height, width, 3) uint8.
    """
    picture = np.broadcast_to(picture, (*picture.shape[:2], 3))
    drawn = ((picture.astype(np.uint16) + heat(anomaly_map, k, colours=colours)) // 2).astype(np.uint8)
    if above is None and threshold is not None:
        above = np.nan_to_num(anomaly_map, nan=-1.0) > threshold
    if above is not None:
        square = np.ones((3, 3))
        edge = np.asarray(ndimage.binary_dilation(above, square), bool) & ~above
        around = np.asarray(ndimage.binary_dilation(edge, square), bool) & ~edge & ~above
        drawn[around], drawn[edge] = _DARK, _LIGHT
    return drawn
