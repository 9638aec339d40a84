"""Pictures and masks that are published as two files each, under one key."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from jaxsode.errors import DataError

from .decode import check_pair
from .files import Files

K = TypeVar("K", bound=tuple[str | int, ...])


def paired(
    files: Files, found: Iterable[tuple[K, bool, str]], *, wanted: Callable[[K, bool], str]
) -> dict[K, tuple[str, str]]:
    """The picture's and the mask's file of every key, in the order of the keys.

    Args:
        files: where they lie.
        found: for each file its key, whether it is a mask, and its name.
        wanted: the name that a key's picture (False) or mask (True) is published under, for messages.

    Returns:
        By key, the picture's name and the mask's; empty where nothing was found.

    Raises:
        DataError: two files of one key, or a picture or mask without the other.
    """
    pictures: dict[K, str] = {}
    masks: dict[K, str] = {}
    for key, is_mask, name in found:
        other = (masks if is_mask else pictures).setdefault(key, name)
        if other != name:
            raise DataError(f"{files.path} has both {other} and {name}: remove one of them")
    for key in sorted(pictures.keys() ^ masks.keys()) if pictures else ():
        missing, present = ("mask", pictures[key]) if key in pictures else ("picture", masks[key])
        raise DataError(
            f"{files.path} has {present} but no {missing} {wanted(key, missing == 'mask')}: add it, or "
            "remove the other"
        )
    return {key: (pictures[key], masks[key]) for key in sorted(pictures)}


def read_pair(files: Files, picture: str, mask: str, *, channels: int) -> tuple[bytes, bytes, bool]:
    """Both files' bytes, once they have been decoded and found to fit, and whether the picture is defective.

    Args:
        files: where they lie.
        picture, mask: their names.
        channels: C of the picture.

    Raises:
        DataError: see `check_pair`.
    """
    both = files.read(picture), files.read(mask)
    where = (f"{picture} in {files.path}", f"{mask} in {files.path}")
    return *both, check_pair(*both, channels=channels, where=where)
