"""The TFDS builder: encoded pictures and masks, byte for byte as they came, in array_record files.

This and `prepared.py`, which imports it late, are all that knows TensorFlow Datasets. TensorFlow itself is
not needed: an `Image` feature that is given encoded bytes stores them as they are; they are read back with
decoding skipped, and decoded by Pillow.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from .dataset import Card, Record

SPLIT = "pictures"  # one, in order: ours are lists of indices into it


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does nothing: ours lie in no bucket, and with each look TFDS leaves an empty temporary folder."""


class Pictures(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Stores records of any data set in their order, and keeps the list of examples as metadata."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, card: Card, *, records: Callable[[], Iterable[Record]], **settings: Any):
        """`records` gives what is to be stored; `settings` are TFDS's own."""
        self.name = card.name  # pyright: ignore[reportAttributeAccessIssue]  # TFDS has one class a data set
        self._card = card
        self._records = records
        self._metadata = tfds.core.MetadataDict(examples=[])
        super().__init__(**settings)

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description=self._card.description,
            homepage=self._card.homepage,
            features=tfds.features.FeaturesDict(
                {
                    "name": tfds.features.Text(),
                    "group": tfds.features.Text(),
                    "kind": tfds.features.Text(),
                    "part": tfds.features.Text(),
                    "defective": tfds.features.Scalar(dtype=np.bool_),
                    "picture": tfds.features.Image(shape=(None, None, self._card.channels)),
                    "mask": tfds.features.Image(shape=(None, None, 1)),
                }
            ),
            metadata=self._metadata,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        del dl_manager  # nothing is downloaded
        return {SPLIT: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        listed = []
        for key, record in enumerate(self._records()):
            listed.append(asdict(record.example))
            yield key, {**listed[-1], "picture": record.picture, "mask": record.mask}
        self._metadata["examples"] = listed

    def _log_download_bytes(self) -> None:
        """Says nothing: a library doesn't print."""

    def _log_download_done(self) -> None:
        """Says nothing: a library doesn't print."""
