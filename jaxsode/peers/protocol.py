"""What a method is that stands beside the detector: settings that fit, and a model that scores."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from jaxsode.backbones.protocol import Backbone
from jaxsode.errors import ArgumentError
from jaxsode.pictures import checked

Bar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Opens a progress bar: what is done, of how many; gives what to call with each few that are."""


@runtime_checkable
class Model(Protocol):
    """A method that was fitted."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures."""
        ...

    def anomaly_map(self, pictures: Any, /) -> jax.Array:
        """The anomaly score at each pixel; higher is more anomalous.

        Args:
            pictures: (N, height, width, 3 or 1) of the size that it was fitted on, uint8 or float in [0, 1].

        Returns:
            (N, height, width) float32; NaN at least where a pixel is not finite.

        Raises:
            ArgumentError: pictures of another shape or type.
        """
        ...

    def page(self) -> dict[str, Any]:
        """What stands in the results beside the numbers: the settings and what came of them, for JSON."""
        ...


@runtime_checkable
class Peer(Protocol):
    """The settings of a method. A frozen dataclass, which is checked when it is made; `str` names it."""

    def page(self) -> dict[str, Any]:
        """The settings, as JSON holds them."""
        ...

    def keeps(self, pictures: int, *, numbers: int, pixels: int) -> int:
        """Bytes of host memory that its model keeps of good pictures.

        Args:
            pictures: N.
            numbers: of the backbone's features of one picture, Σ h·w·C over the layers in use.
            pixels: of one picture, height · width · C.
        """
        ...

    def fit(self, batches: Iterable[Any], backbone: Backbone, /, *, bar: Bar | None = None) -> Model:
        """Fit on good pictures.

        Args:
            batches: of pictures, as `Detector.fit` takes them; gone through once.
            backbone: see `Backbone`.
            bar: opens progress bars, for what is done besides going through the pictures.

        Raises:
            ArgumentError: a setting that doesn't fit the pictures.
            DataError: no pictures.
            NumericalError: features that are not finite.
        """
        ...


@contextmanager
def no_bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows nothing."""
    yield lambda done: None


def of_size(pictures: Any, size: tuple[int, int]) -> np.ndarray | jax.Array:
    """Pictures (N, height, width, 3 or 1) that can be scored; ArgumentError where they are of another size
    or kind."""
    array = checked(pictures)
    if array.shape[1:3] != size:
        here, fitted = (f"{height} × {width}" for height, width in (array.shape[1:3], size))
        raise ArgumentError(f"pictures are {here} and the model was fitted on {fitted}: resize them")
    return array
