"""Pictures and masks read where they lie, when they are asked for: nothing is copied into the cache."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaxsode.errors import DataError

from .decode import check_pair
from .files import Files


@dataclass(frozen=True)
class Place:
    """Where a picture and its mask lie."""

    files: Files
    picture: str
    mask: str = ""  # where there is none


class Encoded(Mapping[str, bytes]):
    """A record whose files are read when they are asked for."""

    def __init__(self, **readers: Callable[[], bytes]):
        self._readers = readers

    def __getitem__(self, key: str) -> bytes:
        return self._readers[key]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)


class InPlace:
    """Records of files where they lie. A mask is checked against its picture before it is given.

    Args:
        places: of the pictures, in the examples' order.
        channels: C of the pictures.
    """

    def __init__(self, places: Sequence[Place], *, channels: int):
        self._places, self._channels = tuple(places), channels

    def __getitem__(self, index: int, /) -> Mapping[str, bytes]:
        place = self._places[index]
        return Encoded(
            picture=lambda: place.files.read(place.picture),
            mask=lambda: self._mask(place) if place.mask else b"",
        )

    def _mask(self, place: Place) -> bytes:
        mask = place.files.read(place.mask)
        where = (f"{place.picture} in {place.files.path}", f"{place.mask} in {place.files.path}")
        if not check_pair(place.files.read(place.picture), mask, channels=self._channels, where=where):
            raise DataError(f"{where[1]} marks nothing as defective: get it again, or remove the picture")
        return mask
