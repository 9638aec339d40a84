"""Fitting and scoring on more machines than one, by Ray: exactly what one machine would give.

The caller reads the files and deals them out in chunks; each worker, a Ray actor, decodes, holds one backbone
and one partial state of the moments. Partial states are merged in a tree. A worker that dies is replaced, and
every chunk that it had is done again by whoever is free: its part went with it, so that none counts twice.

Ray is an extra: `pip install jaxsode[ray]`.
"""

import io
import tarfile
import tempfile
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsode import backbones
from jaxsode.backbones.protocol import Backbone
from jaxsode.datasets import Dataset
from jaxsode.datasets.decode import open_picture
from jaxsode.detector import Detector
from jaxsode.errors import ArgumentError, JaxsodeError
from jaxsode.fitting import accumulate, embed, extract_, of_backbone, resolved
from jaxsode.inspection import Inspector
from jaxsode.method import Method
from jaxsode.preparation import Preparation
from jaxsode.statistics import STATISTICS, Statistic

LOCAL = "local"
"""The address of a Ray that is started here, and ends with the command."""

CHUNK = 32
"""Pictures dealt out at once."""

_DEATHS = 20  # of workers, after which it is no accident


@dataclass(frozen=True)
class Files:
    """Encoded pictures, and how they are prepared.

    Attributes:
        encoded: the files' bytes, in order.
        channels: 1 or 3 of the prepared pictures.
        size: (height, width) of them.
        preparation: see `Preparation`.
        batch_size: pictures computed at once.
    """

    encoded: tuple[bytes, ...]
    channels: int
    size: tuple[int, int]
    preparation: Preparation
    batch_size: int

    def batches(self) -> Iterator[tuple[np.ndarray, int]]:
        """(B, height, width, C) uint8, the last one padded, and how many of it count."""
        B = self.batch_size
        for start in range(0, len(self.encoded), B):
            rows = [self._decoded(one) for one in self.encoded[start : start + B]]
            yield np.stack(rows + [rows[-1]] * (B - len(rows))), len(rows)

    def _decoded(self, encoded: bytes) -> np.ndarray:
        where = "a picture that was dealt out"
        image = open_picture(encoded, channels=self.channels, where=where, preparation=self.preparation)
        pixels = self.preparation.resized(image, self.size)
        return pixels if self.channels == 3 else pixels[..., None]


@dataclass(frozen=True, eq=False)
class Prepared:
    """Pictures that are decoded already.

    Attributes:
        pictures: (n, height, width, C) uint8, computed at once.
    """

    pictures: np.ndarray

    def batches(self) -> Iterator[tuple[np.ndarray, int]]:
        """(n, height, width, C) uint8, all of them, and n."""
        yield self.pictures, len(self.pictures)


class Chunks(Sequence[Files]):
    """Pictures of a data set in chunks, whose files are read when a chunk is asked for.

    Args:
        dataset: of them.
        parts: for each chunk its pictures, as indices into `dataset.examples`.
        size: (height, width) that they are resized to.
        batch_size: pictures computed at once.
    """

    def __init__(
        self, dataset: Dataset, parts: Sequence[Sequence[int]], *, size: tuple[int, int], batch_size: int
    ):
        self._dataset = dataset
        self._parts = parts
        self._options = (dataset.channels, size, dataset.preparation, batch_size)

    def __len__(self) -> int:
        return len(self._parts)

    def __getitem__(self, which: Any, /) -> Any:
        encoded = tuple(self._dataset.records[index]["picture"] for index in self._parts[which])
        return Files(encoded, *self._options)


class Workers:
    """A context in which Ray's workers are at hand.

    Args:
        address: of a running Ray, or `LOCAL` to start one here.
        number: how many workers; by default one for each CPU that Ray has.

    Raises:
        ArgumentError: Ray isn't installed, or isn't to be reached, or the number is below 1.
    """

    def __init__(self, address: str = LOCAL, number: int | None = None):
        if number is not None and number < 1:
            raise ArgumentError(f"--ray-workers {number} must be at least 1")
        self._ray = _ray()
        self._address = address
        self._number = number

    def __enter__(self) -> "Workers":
        where: dict[str, Any] = {"include_dashboard": False} if self._address == LOCAL else {}
        if self._address != LOCAL:
            where["address"] = self._address
        elif self._number is not None:
            where["num_cpus"] = self._number
        try:
            with warnings.catch_warnings():
                # Ray's own processes are begun by fork and exec at once, which JAX's threads don't mind.
                warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
                self._ray.init(log_to_driver=False, logging_level="ERROR", **where)
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            says = (str(error).splitlines() or [""])[0]
            raise ArgumentError(
                f"no Ray at {self._address} ({says}): start one, or leave its address away"
            ) from error
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        self.number = cpus if self._number is None else self._number
        if not 1 <= self.number <= cpus:
            self._ray.shutdown()
            raise ArgumentError(
                f"Ray has {cpus} CPUs, one for each worker: --ray-workers {self.number} can't be had, ask "
                "for fewer"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def fit(
        self,
        chunks: Sequence[Files],
        backbone: Backbone,
        method: Method,
        *,
        size: tuple[int, int],
        pictures: int,
        progress: Callable[[int], None],
    ) -> Detector:
        """`Detector.fit` of all pictures.

        Args:
            chunks: of them.
            backbone: one of this package's.
            method: see `Method`; nothing of it may be "auto", nor scale the layers, which want all pictures.
            size: (height, width) of the pictures.
            pictures: N.
            progress: called with how many pictures were just done.

        Raises:
            ArgumentError: the method wants all pictures at one place.
            JaxsodeError: see `Detector.fit`.
        """
        method = of_backbone(method, backbone)
        if method.automatic or method.scale != "none":
            raise ArgumentError(
                "'auto' and --scale want all pictures at one place: give --epsilon as a share, 5%, and no "
                "--scale, or leave --ray away"
            )
        F = sum(backbone.channels)
        method, needs = resolved(method, F, pictures)
        if needs == "pictures":
            raise ArgumentError(f"precision {method.precision!r} keeps no sums to merge: choose another")
        spec = self._ray.put(_spec(backbone))
        pool = _Pool(self._ray, self.number, _Partial, (spec, method, needs))
        for count in pool.gathered(chunks):
            progress(count)
        state = pool.merged()
        W = method.matrix(F)
        return Detector.of_statistics(state, backbone, W, method, size=size)

    def maps(
        self,
        detector: Detector,
        chunks: Iterable[Files | Prepared],
        *,
        ignored: np.ndarray | None,
        groups: Sequence[Sequence[int]] | None = None,
    ) -> Iterator[np.ndarray]:
        """Anomaly maps, in the pictures' order.

        Args:
            detector: sent to each worker.
            chunks: of pictures; they are asked for as workers become free.
            ignored: see `Inspector`.
            groups: of each chunk's pictures: then the maps are those of fitted pictures, each group left out;
                a group lies in one chunk. None scores new ones.

        Yields:
            (n, height, width) float32 for each chunk.

        Raises:
            JaxsodeError: see `Detector.anomaly_map`, `Detector.leave_one_out_maps`.
        """
        with tempfile.TemporaryDirectory() as folder:
            detector.save(Path(folder) / "detector")
            packed = io.BytesIO()
            with tarfile.TarFile(fileobj=packed, mode="w") as tar:
                tar.add(Path(folder) / "detector", "detector")
        sent = self._ray.put(packed.getvalue())
        pool = _Pool(self._ray, self.number, _Scorer, (sent, ignored, groups is not None))
        given = ((chunk, None if groups is None else groups[i]) for i, chunk in enumerate(chunks))
        yield from pool.in_order(given)


class _Pool:
    """Workers that chunks are dealt out to."""

    def __init__(self, ray: ModuleType, number: int, kind: type, arguments: tuple[Any, ...]):
        self._ray = ray
        self._make = lambda: ray.remote(kind).options(num_cpus=1, max_restarts=0).remote(*arguments)
        self._workers = [self._make() for _ in range(number)]
        self._has: list[set[int]] = [set() for _ in range(number)]
        self._chunks: Any = {}
        self._deaths = 0

    def gathered(self, chunks: Sequence[Files]) -> Iterator[int]:
        """Deal out chunks that workers add to their part; yields how many pictures each has, once."""
        self._chunks = chunks
        told: set[int] = set()
        for i, count in self._dealt(deque(range(len(chunks)))):
            if i not in told:
                told.add(i)
                yield count

    def merged(self) -> Any:
        """The parts of all workers, merged in a tree; what dies on the way is gathered again."""
        while True:
            left = set(range(len(self._chunks))) - set().union(*self._has)
            for _ in self._dealt(deque(sorted(left))):
                pass
            holders = [w for w, has in enumerate(self._has) if has]
            if len(holders) == 1:
                try:
                    part = self._ray.get(self._workers[holders[0]].part.remote())
                except self._died as _:
                    self._lost(holders[0])
                    continue
                return jax.tree.map(jnp.asarray, part)
            for a, b in zip(holders[::2], holders[1::2], strict=False):
                self._join(a, b)

    def _join(self, a: int, b: int) -> None:
        """Worker b's part into worker a's; of one that dies the chunks are nobody's then."""
        try:
            part = self._ray.get(self._workers[b].part.remote())
        except self._died as _:
            self._lost(b)
            return
        try:
            self._ray.get(self._workers[a].merge.remote(part))
        except self._died as _:
            self._lost(a)
            return
        self._has[a] |= self._has[b]
        self._has[b] = set()
        try:
            self._ray.get(self._workers[b].clear.remote())
        except self._died as _:
            self._lost(b)

    def in_order(self, chunks: Iterable[Any]) -> Iterator[Any]:
        """Results in the chunks' order, a few chunks ahead."""
        source = enumerate(chunks)
        waiting: deque[int] = deque()
        done: dict[int, Any] = {}
        running: dict[Any, tuple[int, int]] = {}
        free = list(range(len(self._workers)))
        given, more = 0, True
        while True:
            while free and (waiting or (more and len(done) + len(running) < 2 * len(self._workers))):
                if not waiting:
                    following = next(source, None)
                    if following is None:
                        more = False
                        break
                    self._chunks[following[0]] = following[1]
                    waiting.append(following[0])
                w, i = free.pop(), waiting.popleft()
                running[self._workers[w].do.remote(self._chunks[i])] = (w, i)
            while given in done:
                yield done.pop(given)
                given += 1
            if not running:
                if not more and not waiting and not done:
                    return
                continue
            for ref in self._ray.wait(list(running), num_returns=1)[0]:
                w, i = running.pop(ref)
                try:
                    done[i] = self._result(ref)
                    del self._chunks[i]
                except self._died as _:
                    self._lost(w)
                    waiting.appendleft(i)
                free.append(w)

    def _dealt(self, waiting: deque[int]) -> Iterator[tuple[int, int]]:
        running: dict[Any, tuple[int, int]] = {}
        free = list(range(len(self._workers)))
        while waiting or running:
            while free and waiting:
                w, i = free.pop(), waiting.popleft()
                running[self._workers[w].do.remote(self._chunks[i])] = (w, i)
            for ref in self._ray.wait(list(running), num_returns=1)[0]:
                w, i = running.pop(ref)
                try:
                    count = self._result(ref)
                except self._died as _:
                    waiting.extend([i, *self._lost(w)])
                else:
                    self._has[w].add(i)
                    yield i, count
                free.append(w)

    def _result(self, ref: Any) -> Any:
        result = self._ray.get(ref)
        if isinstance(result, JaxsodeError):
            raise result
        return result

    @property
    def _died(self) -> tuple[type[BaseException], ...]:
        errors = self._ray.exceptions
        return (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
        )

    def _lost(self, w: int) -> list[int]:
        """Replace a worker; gives the chunks that went with it."""
        self._deaths += 1
        if self._deaths > _DEATHS:
            raise ArgumentError(
                f"{self._deaths} of Ray's workers died: look at its logs; a worker may want more memory"
            )
        lost, self._has[w] = sorted(self._has[w]), set()
        self._workers[w] = self._make()
        return lost


class _Partial:
    """A worker that fits: one backbone, one part of the moments."""

    def __init__(self, spec: dict[str, Any], method: Method, needs: Any):
        self._backbone = _backbone(spec)
        self._method = method
        self._statistic: Statistic = STATISTICS[needs]
        self._W = method.matrix(sum(self._backbone.channels))
        self._state: Any = None

    def do(self, files: Files) -> int | JaxsodeError:
        """Add pictures; gives how many, or what is wrong with them."""
        options = {"pooling": self._method.pooling, "align": self._method.align}
        try:
            # Whole before it is added: an error in the middle adds nothing.
            batches = list(files.batches())
        except JaxsodeError as error:
            return error
        embedded = (
            (embed(self._W, extract_(self._backbone, pictures), **options), valid)
            for pictures, valid in batches
        )
        state = accumulate(embedded, statistic=self._statistic, state=self._state)
        self._state = jax.block_until_ready(state)
        return len(files.encoded)

    def part(self) -> Any:
        """Its part, as NumPy arrays."""
        return jax.tree.map(np.asarray, self._state)

    def merge(self, other: Any) -> None:
        """Add another's part to its own."""
        self._state = self._statistic.merge(self._state, jax.tree.map(jnp.asarray, other))

    def clear(self) -> None:
        """Forget its part, which another one has."""
        self._state = None


class _Scorer:
    """A worker that scores: one detector."""

    def __init__(self, packed: bytes, ignored: np.ndarray | None, left_out: bool):
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.TarFile(fileobj=io.BytesIO(packed)) as tar:
                tar.extractall(folder, filter="data")
            detector = Detector.load(Path(folder) / "detector", keep_moments=left_out)
        self._inspector = Inspector(detector, ignored=ignored)

    def do(self, given: tuple[Files | Prepared, Sequence[int] | None]) -> np.ndarray | JaxsodeError:
        """The maps of pictures, or what is wrong with them."""
        files, groups = given
        detector, ignored = self._inspector.detector, self._inspector.ignored
        try:
            if groups is None:
                maps = [self._inspector(pictures).maps[:valid] for pictures, valid in files.batches()]
            else:
                batches = (pictures[:valid] for pictures, valid in files.batches())
                maps = list(detector.leave_one_out_maps(batches, groups=groups, ignored=ignored))
        except JaxsodeError as error:
            return error
        return np.concatenate(maps)


def chunked(groups: Sequence[int], size: int = CHUNK) -> list[list[int]]:
    """Places of pictures in chunks of about a size, each group in one.

    Args:
        groups: of each picture.
        size: of a chunk; a group that is larger makes a larger one.

    Returns:
        The places, ascending in each chunk.
    """
    members: dict[int, list[int]] = {}
    for place, group in enumerate(groups):
        members.setdefault(group, []).append(place)
    chunks: list[list[int]] = [[]]
    for places in members.values():
        if chunks[-1] and len(chunks[-1]) + len(places) > size:
            chunks.append([])
        chunks[-1] += places
    return [sorted(chunk) for chunk in chunks if chunk]


def _spec(backbone: Backbone) -> dict[str, Any]:
    return {
        "name": backbone.name,
        "layers": getattr(backbone, "layers", None),
        "dtype": str(jnp.dtype(getattr(backbone, "dtype", jnp.float32))),
        "tensors": {name: np.asarray(leaf) for name, leaf in backbones.parameters(backbone).items()},
    }


def _backbone(spec: dict[str, Any]) -> Backbone:
    made = backbones.create(spec["name"], layers=spec["layers"], dtype=jnp.dtype(spec["dtype"]))
    return backbones.with_parameters(made, spec["tensors"])


def _ray() -> ModuleType:
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.exceptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ArgumentError("--ray wants the package ray: pip install 'jaxsode[ray]'") from error
    return ray
