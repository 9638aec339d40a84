"""The detector: a backbone, a method and the statistics of good pictures. Fit, then score any picture.

Memory while fitting by the paper's method, whatever the number of pictures: 4·H·W·k² bytes for the scatter;
4·H·W·k for each of the `fitting.GROUP` pictures embedded before an update, and what the backbone needs for
one batch; when all are in, beside the scatter 2·H·W·k·(k + 1) for the moments that are kept, half of each, or
else 2·H·W·k·(k + 32) for the whitener, half of each matrix and some zeros. Memory while scoring: the
whitener, and one batch. On a CPU with machine code the network's kernels are held a second time
(`backbones.packing`), the smaller ones four times as large.
"""

import warnings
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxsode import checkpoint, format1, hosts, kernels
from jaxsode.algebra import leave_group_out, leave_one_out, over_grid
from jaxsode.algebra.precision import FULL_RANK, OF_MOMENTS, Triangle, weight
from jaxsode.backbones.packing import Network
from jaxsode.backbones.protocol import Backbone
from jaxsode.choice import Choice, Sample, choose
from jaxsode.errors import ArgumentError, DataError, NumericalError
from jaxsode.fitting import (
    NO_PICTURES,
    FeatureMaps,
    accumulate,
    are_shared,
    collect,
    each_embedded,
    embed,
    embed_pictures,
    embedded,
    extract_,
    factorise,
    grid_of,
    of_backbone,
    precision_of,
    resolved,
    scaled,
    spec_of,
)
from jaxsode.layout import gathered, row_blocks
from jaxsode.meshes import ROWS, check_mesh, dealt_out, over_rows, relaxed, rows_of, set_aside
from jaxsode.method import Method
from jaxsode.overall import Overall, epsilon_of, of_state, variances
from jaxsode.pictures import FolderBatches, checked, counted, own, padded
from jaxsode.preparation import Preparation
from jaxsode.saving import Saved, fingerprint, network_arrays, overall_arrays, page_of
from jaxsode.scoring import anomaly_maps, distances
from jaxsode.share import Share
from jaxsode.statistics import (
    STATISTICS,
    Packed,
    Pictures,
    by_columns,
    matrices_of,
    merged,
    named,
    of_named,
    pack_up,
    pictures_of,
    statistic_of,
    unkept,
)

_MOST_LOST = 1e-3
_GROUPS = "there are {} groups and {} pictures: give each picture's"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Detector:
    """A fitted detector. A pytree: it goes through jit, sharding and a program of your own as it is.

    Two that differ in their pictures, ε or seed alone stack, and share one compilation.

    Attributes:
        backbone: pictures → feature maps, see `jaxsode.backbones.protocol.Backbone`.
        W: (F, k) the embedding.
        mean: (H, W, k) μ.
        precision: of each location, or one for all; see `jaxsode.algebra.precision`.
        count: () int32, N, how many pictures it was fitted on.
        method: how, its embedding by name.
        statistics: what it was made from, see `jaxsode.statistics`; None if it can score alone.
        size: (height, width) of the pictures.
        overall: what the precision was made with that is of all locations, see `jaxsode.overall.Overall`;
            None where it takes nothing of it, as the paper's doesn't.
        choice: what ε, or the shrinkage, was chosen by, where the method left it open, see
            `jaxsode.choice.Choice`.
        preparation: how files became its pictures, where that is known; scores are right only for pictures
            that are prepared alike.
    """

    backbone: Backbone
    W: jax.Array
    mean: jax.Array
    precision: Any
    count: jax.Array
    method: Method
    statistics: Any
    size: tuple[int, int] = field(metadata={"static": True})
    overall: Overall | None = None
    choice: Choice | None = None
    preparation: Preparation | None = field(default=None, metadata={"static": True})

    @classmethod
    @set_aside
    def fit(
        cls,
        batches: Iterable[Any],
        backbone: Backbone,
        method: Method | None = None,
        *,
        mesh: Mesh | None = None,
        keep_moments: bool = True,
        pictures: int | None = None,
        preparation: Preparation | None = None,
        **old: Any,
    ) -> Self:
        """Fit on good pictures, in one pass.

        Args:
            batches: of pictures, (N, height, width, 3 or 1), uint8 or float in [0, 1]; or objects that have
                `pictures` and `valid`, as `jaxsode.datasets` gives them. None may exceed the first in number;
                smaller ones are padded.
            backbone: see `jaxsode.load_backbone`, or one of your own.
            method: what to fit; by default the paper's with k = 100.
            mesh: of devices. Its axis `locations` shards the detector over the rows of the grid, its axis
                `pictures` the backbone's work over each batch; either may be missing.
            keep_moments: whether to keep what `update`, `merge`, `remove`, `with_epsilon` and `leave_one_out`
                need.
            pictures: N, where it is known but `batches` doesn't tell: full rank and eigenvectors then take
                the cheaper way.
            preparation: how files became these pictures, see `Detector`; `jaxsode.pictures.batches` tells.
            old: k, embedding, epsilon, seed, sigma and W, which are a `Method`'s now; they go with the next
                release.

        Returns:
            The fitted detector.

        Raises:
            ArgumentError: a setting out of range, or pictures of different sizes.
            DataError: no pictures.
            NumericalError: the covariance at some location can't be factorised.
        """
        method = _method(method, old)
        _check_given(backbone, mesh, pictures)
        pictures = counted(batches) if pictures is None else pictures
        if preparation is None and isinstance(batches, FolderBatches):
            preparation = batches.preparation
        ready = padded(batches)
        first = next(ready, None)
        if first is None:
            raise DataError(NO_PICTURES)
        size = (first[0].shape[1], first[0].shape[2])
        every = ((dealt_out(relaxed(pixels), mesh), valid) for pixels, valid in chain([first], ready))
        if method.scale != "none":
            features = ((extract_(backbone, pixels), valid) for pixels, valid in every)
            fitted = cls.fit_features(
                features,
                backbone,
                method,
                size=size,
                mesh=mesh,
                keep_moments=keep_moments,
                pictures=pictures,
            )
            return replace(fitted, preparation=preparation)
        method = of_backbone(method, backbone)
        W = method.matrix(sum(backbone.channels))
        # No feature maps of a whole batch are held.
        embedded = ((embed_pictures(backbone, W, pixels, method), valid) for pixels, valid in every)
        fitted = cls._of_embedded(embedded, backbone, W, method, size, mesh, keep_moments, pictures)
        return replace(fitted, preparation=preparation)

    @classmethod
    @set_aside
    def fit_features(
        cls,
        batches: Iterable[tuple[FeatureMaps, int]],
        backbone: Backbone,
        method: Method | None = None,
        *,
        size: tuple[int, int],
        mesh: Mesh | None = None,
        keep_moments: bool = True,
        pictures: int | None = None,
        **old: Any,
    ) -> Self:
        """Fit on feature maps that were extracted before, as `fit` does on pictures.

        Args:
            batches: pairs of feature maps, as `extract` gives them, and how many of their first rows count.
                All batches have as many rows.
            backbone: that made them.
            size: (height, width) of the pictures.
            method, mesh, keep_moments, pictures, old: see `fit`.

        Returns:
            The fitted detector.

        Raises:
            ArgumentError, DataError, NumericalError: see `fit`.
        """
        method = _method(method, old)
        _check_given(backbone, mesh, pictures)
        method = of_backbone(method, backbone)
        W = method.matrix(sum(backbone.channels))
        W, batches = scaled(W, ((tuple(map(own, maps)), valid) for maps, valid in batches), method)
        embedded = each_embedded(W, batches, method)
        return cls._of_embedded(embedded, backbone, W, method, size, mesh, keep_moments, pictures)

    @classmethod
    def _of_embedded(
        cls,
        embedded: Iterable[tuple[jax.Array, int]],
        backbone: Backbone,
        W: jax.Array,
        method: Method,
        size: tuple[int, int],
        mesh: Mesh | None,
        keep_moments: bool,
        pictures: int | None,
    ) -> Self:
        """Fitted on embedded features, with W as it embedded them; the method is of the backbone's layers."""
        method, needs = resolved(method, sum(backbone.channels), pictures)
        sharding = over_rows(mesh) if mesh is not None and ROWS in mesh.axis_names else None
        sample = Sample(0 if method.seed is None else int(method.seed)) if method.automatic else None
        if sample is not None:
            embedded = sample.watched(embedded)
        if needs == "pictures":
            state: Any = collect(embedded, sharding=sharding)
        else:
            state = accumulate(embedded, statistic=STATISTICS[needs], sharding=sharding)
        choice = None
        if sample is not None:
            method, choice = choose(sample, method)
        fitted = cls.of_statistics(state, backbone, W, method, size=size, keep_moments=keep_moments)
        return replace(fitted, choice=choice)

    @classmethod
    @set_aside
    def of_statistics(
        cls,
        state: Any,
        backbone: Backbone,
        W: jax.Array,
        method: Method | None = None,
        *,
        size: tuple[int, int],
        keep_moments: bool = True,
        overall: Overall | None = None,
    ) -> Self:
        """The detector of statistics that `jaxsode.fitting` gathered, here or in parts that were merged.

        Args:
            state: of a kind that the method's precision is made from, moments on the grid as a rule. A
                scatter of moments is used up. Packed, as a detector keeps them, they stay.
            backbone: that it was gathered with.
            W: likewise, (F, k).
            method: see `fit`; what its embedding was, for the record. Full rank is made from what there is.
            size: (height, width) of the pictures.
            keep_moments: see `fit`.
            overall: of all locations; of the state where it is None.

        Returns:
            The fitted detector.

        Raises:
            ArgumentError: the backbone's layers aren't the method's, or the state isn't of its k, or the
                method leaves ε or its shrinkage to a choice.
            NumericalError: the covariance at some location can't be factorised.
        """
        method = of_backbone(_method(method, {}), backbone)
        if method.automatic:
            raise ArgumentError(
                "'auto' is chosen from the pictures while they are fitted on, and here are none: give "
                "numbers, or epsilon as a share, or fit again"
            )
        if method.precision == FULL_RANK:
            method = method.recorded(precision="dual" if isinstance(state, Pictures) else "local")
        F = sum(backbone.channels)
        k = (state.origin if isinstance(state, Packed) else jax.tree.leaves(state)[-1]).shape[-1]
        if W.shape != (F, k) or method.size(F) != k:
            raise ArgumentError(
                f"the statistics are of k = {k}, W is {_by(W.shape)}, the method of k = {method.size(F)} and "
                f"the backbone of {F} features: give those that belong together"
            )
        count = _count(state, backbone, size)
        overall = of_state(state, method) if overall is None else overall
        spec_of(state, method)  # before anything is given up
        statistics = None
        if keep_moments:
            statistics, state = pack_up(state)
        mean, precision = precision_of(state, method, overall)
        return cls(backbone, W, mean, precision, count, method.recorded(), statistics, size, overall)

    # Of moments alone, as it was called when there was nothing else.
    of_moments = of_statistics

    @property
    def epsilon(self) -> float:
        """ε as the precision has it; the method may have a share of the mean variance in its place."""
        return float(epsilon_of(self.method, self.overall))

    @property
    def whitener(self) -> jax.Array:
        """(H, W, k, k) M of each location, lower triangular; with eigenvectors (H, W, k, F). A copy.

        Raises:
            AttributeError: the precision is of another form.
        """
        precision = self.precision
        return matrices_of(precision) if isinstance(precision, Triangle) else precision.matrix

    @property
    def settings(self) -> SimpleNamespace:
        """What `method`, `size` and `count` say, under its former names; it goes with the next release."""
        warnings.warn("Detector.settings is now .method, .size and .count", DeprecationWarning, stacklevel=2)
        m = self.method
        return SimpleNamespace(
            size=self.size,
            embedding=m.embedding,
            epsilon=self.epsilon,
            sigma=m.sigma,
            seed=None if m.seed is None else int(m.seed),
            pictures=int(self.count),
        )

    @set_aside
    def anomaly_map(self, pictures: Any, *, ignored: np.ndarray | None = None) -> jax.Array:
        """The Mahalanobis distance at each pixel, upsampled and smoothed (§4).

        Args:
            pictures: (N, height, width, 3 or 1) of the size that the detector was fitted on, uint8 or float
                in [0, 1]. Each N is compiled once: keep it the same from call to call.
            ignored: (height, width) bool, True where nothing matters: what is there adds nothing to the map
                elsewhere, see `jaxsode.algebra.distance.anomaly_map_without`.

        Returns:
            (N, height, width) float32, ≥ 0; NaN at least where a pixel is not finite, or where one of an
            array of JAX's, which isn't waited for, lies outside [0, 1]; and where it is ignored.

        Raises:
            ArgumentError: pictures of another shape or type, or floats outside [0, 1]; or `ignored` is not
                of the pictures' size, or leaves nothing.
        """
        m, pictures = self.method, self._checked(pictures)
        fitted = self.W, self.mean, self.precision
        network = Network.of(self.backbone, fitted, pictures)
        with kernels.evaluated(network.here):
            return _score_pictures(
                *jax.tree.map(relaxed, (network, *fitted)),
                pictures,
                self._judging(ignored),
                self.size,
                m.sigma,
                m.pooling,
                m.align,
                are_shared(pictures),
            )

    @set_aside
    def anomaly_map_of_features(
        self, feature_maps: FeatureMaps, *, ignored: np.ndarray | None = None
    ) -> jax.Array:
        """`anomaly_map` of feature maps that `extract` gave before.

        Args:
            feature_maps: a (N, h, w, C) array for each scale.
            ignored: see `anomaly_map`.

        Returns:
            (N, height, width) float32.
        """
        return self._relaxed()._maps(tuple(map(own, feature_maps)), self._judging(ignored))

    @set_aside
    def update(self, batches: Iterable[Any]) -> Self:
        """The detector fitted on these good pictures as well, exactly.

        Args:
            batches: as for `fit`.

        Returns:
            A new detector; this one stays as it is.

        Raises:
            ArgumentError: it was fitted without keeping its moments, or pictures of another size.
            DataError, NumericalError: see `fit`.
        """
        self = self._relaxed()
        state = self._state("update")
        if isinstance(state, Pictures):
            new = Pictures(jnp.concatenate([state.z, collect(self._embedded(batches)).z], axis=2))
        else:
            new = accumulate(
                self._embedded(batches),
                statistic=statistic_of(state),
                state=unkept(state),
                sharding=rows_of(self.mean),
            )
        return self._of_state(new)

    @set_aside
    def remove(self, batches: Iterable[Any]) -> Self:
        """The detector as if it had not been fitted on these pictures: an exact down-date, no refit.

        Args:
            batches: as for `fit`, of pictures that it was fitted on.

        Returns:
            A new detector; this one stays as it is.

        Raises:
            ArgumentError: it was fitted without keeping its moments, or keeps the pictures themselves, or no
                picture would be left.
            NumericalError: it shows that the pictures were never in; or they stood so far out that rounding
                loses more than a thousandth of ε.
            DataError: no pictures.
        """
        self = self._relaxed()
        state = self._state("remove")
        if isinstance(state, Pictures):
            raise ArgumentError(
                f"precision {self.method.precision!r} keeps no sums that pictures can be taken out of: "
                "fit again without them"
            )
        statistic = statistic_of(state)
        part = accumulate(self._embedded(batches), statistic=statistic, sharding=rows_of(self.mean))
        gone = int(_count(part, self.backbone, self.size))
        if gone >= int(self.count):
            raise ArgumentError(
                f"{gone} pictures can't be removed from {int(self.count)}: leave at least one"
            )
        before = unkept(state)
        after = jax.jit(statistic.remove)(before, part)
        overall = of_state(after, self.method)
        epsilon = epsilon_of(self.method, overall)
        if (lost := float(_lost(before, after, epsilon))) > _MOST_LOST:
            raise NumericalError(
                f"what is left would be {lost:.1g} off, so far out of scale were the pictures removed: fit "
                "again without them"
            )
        return self._of_state(after, overall=overall)

    @classmethod
    @set_aside
    def merge(cls, a: "Detector", b: "Detector") -> "Detector":
        """The detector fitted on the pictures of both, exactly. It takes as much as a fit, and no more.

        Args:
            a, b: fitted by one method, with the same W, backbone, size and layers, on different pictures.

        Returns:
            A new detector.

        Raises:
            ArgumentError: they were not fitted alike, or without keeping their moments.
            NumericalError: see `fit`.
        """
        for one in (a, b):
            if not isinstance(one, Detector):
                raise ArgumentError(f"a {type(one).__name__} can't be merged: give two detectors")
        _check_alike(a, b)
        a, b = a._relaxed(), b._relaxed()
        first, second = a._state("merge"), b._state("merge")
        a = replace(a, preparation=a.preparation or b.preparation)
        if isinstance(first, Pictures) and isinstance(second, Pictures):
            return a._of_state(Pictures(jnp.concatenate([first.z, second.z], axis=2)))
        # Where one was cheaper from its pictures and the other from its moments, sums are what both have.
        precision = "local" if a.method.precision == "dual" else a.method.precision
        return a._of_state(merged(first, second), a.method.recorded(precision=precision))

    @set_aside
    def with_epsilon(self, epsilon: float | str | Share) -> Self:
        """The detector of the same pictures with another ε.

        Args:
            epsilon: ε > 0, or a share such as "5%".

        Returns:
            A new detector.

        Raises:
            ArgumentError: ε out of range, or the detector was fitted without keeping its moments.
            NumericalError: see `fit`.
        """
        self, method = self._relaxed(), replace(self.method, epsilon=epsilon)
        state = self._state("with_epsilon")
        state = state if isinstance(state, Packed) else unkept(state)
        return replace(self._of_state(state, method), choice=None)

    def leave_one_out(self, batches: Iterable[Any]) -> np.ndarray:
        """`anomaly_map` of the pictures it was fitted on, each as if it had not been.

        Exact, without a refit: see `jaxsode.algebra.leave_one_out`.

        Args:
            batches: of those pictures, as for `fit`.

        Returns:
            (N, height, width) float32, in order. `leave_one_out_maps` gives them batch by batch.

        Raises:
            DataError: no pictures.
            ArgumentError, NumericalError: see `leave_one_out_maps`.
        """
        maps = list(self.leave_one_out_maps(batches))
        if not maps:
            raise DataError("there are no pictures: give those that the detector was fitted on")
        return np.concatenate(maps)

    @set_aside
    def leave_one_out_maps(
        self,
        batches: Iterable[Any],
        *,
        groups: Sequence[Hashable] | None = None,
        ignored: np.ndarray | None = None,
    ) -> Iterator[np.ndarray]:
        """`leave_one_out`, a batch at a time. It holds a second whitener, 2·H·W·k·(k + 32) bytes.

        Args:
            batches: of pictures that it was fitted on, as for `fit`.
            groups, ignored: see `leave_one_out_of_features`.

        Yields:
            (B, height, width) float32, in order; for each batch where there are no groups.

        Raises:
            ArgumentError, NumericalError: see `leave_one_out_of_features`.
        """
        self = self._relaxed()
        yield from self.leave_one_out_of_features(
            (
                (extract_(self.backbone, self._checked(pictures)), valid)
                for pictures, valid in padded(batches)
            ),
            groups=groups,
            ignored=ignored,
        )

    @set_aside
    def leave_one_out_of_features(
        self,
        batches: Iterable[tuple[FeatureMaps, int]],
        *,
        groups: Sequence[Hashable] | None = None,
        ignored: np.ndarray | None = None,
    ) -> Iterator[np.ndarray]:
        """`leave_one_out_maps` of feature maps that were extracted before.

        Args:
            batches: pairs of feature maps, a (B, h, w, C) array for each scale, and how many rows count.
            groups: of each picture, in their order; those of one group are left out together, exactly too
                (`jaxsode.algebra.leave_group_out`). They wait for the last of them, 4·H·W·k bytes each, and
                each size of group takes a whitener, of which two are held.
            ignored: see `anomaly_map`.

        Yields:
            (B, height, width) float32, in order: of the rows of a batch that count; with groups of those
            that are complete.

        Raises:
            ArgumentError: the precision isn't "local" or "shrunk", the detector was fitted without keeping
                its moments, or on one picture alone, or a group is all of it, or the groups are not as many
                as the pictures.
            NumericalError: a picture that it wasn't fitted on, or one that has a location's spread for
                itself, so that nothing is left of the distance in float32.
        """
        self = self._relaxed()
        state = self._state("leave_one_out")
        if not isinstance(state, Packed) or self.method.precision not in OF_MOMENTS:
            raise ArgumentError(
                f"leave-one-out is of the precision 'local' or 'shrunk', not {self.method.precision!r}: fit "
                "with one of them"
            )
        if int(self.count) < 2:
            raise ArgumentError("leave-one-out of a single picture leaves nothing: fit on at least two")
        judging = self._judging(ignored)
        embedded = ((self._embed(tuple(map(own, maps))), valid) for maps, valid in batches)
        if groups is not None and len(set(groups)) < len(groups):
            yield from self._left_out_together(embedded, list(groups), judging)
            return
        whitener, weights = self._left_out_whitener(state, 1)
        done = 0
        for z, valid in embedded:
            if groups is not None and done + valid > len(groups):
                raise ArgumentError(_GROUPS.format(len(groups), "more"))
            with kernels.evaluated(kernels.is_here(z, self.mean, whitener)):
                distance = _left_out(z, self.mean, self.count, whitener, self._alpha, weights)
            yield self._left_out_maps(distance, range(done, done + valid), judging)
            done += valid
        if groups is not None and done < len(groups):
            raise ArgumentError(_GROUPS.format(len(groups), done))

    @set_aside
    def save(self, path: str | Path) -> None:
        """Write the detector into a new folder, all of it or nothing.

        With its moments, of which the precision is made again when it is loaded; without them, its precision.
        On several hosts, which must share the folder's file system, each calls it and writes the rows that it
        holds; what fails on one fails on all.

        Args:
            path: a folder that does not exist yet, the same on all hosts; `~` is the home folder.

        Raises:
            ArgumentError: the path is none.
            CheckpointError: the folder exists or can't be written, or another host gives another one.
        """
        self = self._relaxed()
        state = self.statistics
        kind, rows, whole = named(self.precision if state is None else state)
        if state is None:
            (rows if self.mean.ndim == 3 else whole)["mean"] = self.mean
        page = page_of(
            self.backbone,
            self.method,
            size=self.size,
            count=int(self.count),
            kind=kind,
            moments=state is not None,
            rows={name: (array.shape, str(array.dtype)) for name, array in rows.items()},
            overall=self.overall,
            choice=self.choice,
            preparation=self.preparation,
        )
        blocks = row_blocks(rows)
        with checkpoint.Writer(path) as writer:
            for start, block in blocks:
                writer.rows(start, block)
            writer.whole(whole | network_arrays(self.backbone, self.W) | overall_arrays(self.overall))
            writer.finish(page)

    @classmethod
    @set_aside
    def load(
        cls,
        path: str | Path,
        *,
        backbone: Backbone | None = None,
        mesh: Mesh | None = None,
        keep_moments: bool = True,
    ) -> "Detector":
        """Read a detector that `save` wrote. It scores as the saved one did, bit for bit on the same machine.

        With moments it takes 2·H·W·k·(2k + 33) bytes for a moment, whether they are kept or not: the whitener
        is made beside them. On several hosts each of the mesh's calls it, and what fails on one fails on all.

        Args:
            path: the folder; `~` is the home folder.
            backbone: one of the same structure as the saved one, if it is not of this package; its arrays are
                replaced by the saved ones.
            mesh: to load onto: its axis `locations` shards the detector over the rows of the grid; without
                one each of its devices has all of it.
            keep_moments: whether to keep them, where they were saved.

        Returns:
            The detector.

        Raises:
            CheckpointError: no detector there, a damaged one, one of an unknown format, or one with a
                backbone that this package doesn't know.
            ArgumentError: the path, the mesh or `backbone` is none, or the grid's rows don't divide evenly
                among the devices.
        """
        check_mesh(mesh)
        with hosts.in_step(jax.local_devices() if mesh is None else list(mesh.devices.flat)):
            path = checkpoint.folder_at(path)
            if checkpoint.read_page(path).get("format") == 1:
                return cls(**format1.read(path, backbone, mesh))
            saved = Saved.open(path, backbone)
            arrays = saved.on_device(mesh)
        mean = arrays.pop("mean", None)
        shared = (saved.backbone, saved.W)
        if saved.moments:
            state = of_named(saved.kind, arrays)
            options = {"size": saved.size, "keep_moments": keep_moments, "overall": saved.overall}
            made = cls.of_statistics(state, *shared, saved.method, **options)
            return replace(made, choice=saved.choice, preparation=saved.preparation)
        assert mean is not None
        count = jax.device_put(np.int32(saved.count))
        precision = of_named(saved.kind, arrays)
        of_all = (saved.overall, saved.choice, saved.preparation)
        return cls(*shared, mean, precision, count, saved.method, None, saved.size, *of_all)

    def _relaxed(self) -> Self:
        """The same, its arrays on meshes whose axes are left to XLA, wherever a caller put them."""
        return jax.tree.map(relaxed, self)

    def _checked(self, pictures: Any) -> np.ndarray | jax.Array:
        pictures = relaxed(checked(pictures))
        if pictures.shape[1:3] != self.size:
            raise ArgumentError(
                f"pictures are {_by(pictures.shape[1:3])} and the detector was fitted on {_by(self.size)}: "
                "resize them"
            )
        return pictures

    def _embedded(self, batches: Iterable[Any]) -> Iterator[tuple[jax.Array, int]]:
        for pictures, valid in padded(batches):
            yield embed_pictures(self.backbone, self.W, self._checked(pictures), self.method), valid

    def _maps(self, maps: FeatureMaps, judging: jax.Array | None) -> jax.Array:
        m = self.method
        with kernels.evaluated(kernels.is_here(self.W, self.mean, self.precision, maps)):
            return _score(
                self.W, self.mean, self.precision, maps, judging, self.size, m.sigma, m.pooling, m.align
            )

    def _judging(self, ignored: Any) -> jax.Array | None:
        """`ignored`, checked, on the device."""
        if ignored is None:
            return None
        array = np.asarray(ignored)
        if array.dtype != bool or array.shape != self.size:
            raise ArgumentError(
                f"what is ignored is {array.dtype} of {_by(array.shape)}: give bool of the pictures' "
                f"{_by(self.size)}"
            )
        if array.all():
            raise ArgumentError("what is ignored is all of the picture: leave something to judge")
        return jnp.asarray(array)

    def _embed(self, maps: FeatureMaps) -> jax.Array:
        return embed(self.W, maps, pooling=self.method.pooling, align=self.method.align)

    def _state(self, what: str) -> Any:
        if self.statistics is None:
            raise ArgumentError(
                f"{what} needs the moments, which this detector was fitted or saved without: fit it with "
                "keep_moments=True"
            )
        return self.statistics

    @property
    def _alpha(self) -> Any:
        return 0.0 if self.method.shrinkage is None else self.method.shrinkage

    def _left_out_maps(
        self, distance: jax.Array, places: Sequence[int], judging: jax.Array | None
    ) -> np.ndarray:
        """The maps of the first distances (B, H, W); `places` says whose they are."""
        maps, wrong = _maps_if_finite(distance, judging, self.size, self.method.sigma)
        if bad := np.argwhere(gathered(wrong)[: len(places)]).tolist():
            picture, i, j = bad[0]
            raise NumericalError(
                f"picture {places[picture]} has no leave-one-out distance at location ({i}, {j}): it was not "
                "fitted on, or it stands so far out there, or k is so near to the number of pictures, that "
                "rounding leaves nothing; check it, raise epsilon, or choose a smaller k"
            )
        return gathered(maps)[: len(places)]

    def _left_out_together(
        self, embedded: Iterable[tuple[jax.Array, int]], groups: list[Hashable], judging: jax.Array | None
    ) -> Iterator[np.ndarray]:
        """Maps in the pictures' order, each as soon as its group and all before it are complete."""
        sizes = Counter(groups)
        if (largest := max(sizes.values())) >= int(self.count):
            raise ArgumentError(
                f"a group of {largest} leaves nothing of {int(self.count)} pictures: make smaller groups"
            )
        waiting: dict[Hashable, list[tuple[int, np.ndarray]]] = {}
        ready: dict[int, np.ndarray] = {}
        whiteners: dict[int, tuple[Triangle, jax.Array | None]] = {}
        seen = given = 0
        for z, valid in embedded:
            if seen + valid > len(groups):
                raise ArgumentError(_GROUPS.format(len(groups), "more"))
            for picture in np.asarray(gathered(z))[:valid]:
                group = groups[seen]
                members = waiting.setdefault(group, [])
                members.append((seen, picture))
                seen += 1
                if (m := len(members)) < sizes[group]:
                    continue
                places = [place for place, _ in waiting.pop(group)]
                if m not in whiteners:
                    while len(whiteners) > 1:
                        whiteners.pop(next(iter(whiteners)))
                    whiteners[m] = self._left_out_whitener(self.statistics, m)
                together = jnp.asarray(np.stack([one for _, one in members]))
                distance = _left_out_together(together, self.mean, self.count, whiteners[m][0], self._alpha)
                if (weights := whiteners[m][1]) is not None:
                    distance = distance * weights[None]
                ready |= dict(zip(places, self._left_out_maps(distance, places, judging), strict=True))
            done = []
            while given in ready:
                done.append(ready.pop(given))
                given += 1
            if done:
                yield np.stack(done)
        if seen < len(groups):
            raise ArgumentError(_GROUPS.format(len(groups), seen))

    def _left_out_whitener(self, state: Packed, members: int) -> tuple[Triangle, jax.Array | None]:
        """Where so many are left out together: of `distance` on the grid, and what each location's distances
        are multiplied by."""
        method, overall = self.method, self.overall
        weights = None
        if overall is not None and bool(method.variance_weight):
            of_one = over_grid(weight, in_axes=(0, None, None))
            weights = of_one(variances(state), overall.variance, method.variance_weight)
        blend = None

        def added(what: Any) -> Any:
            if members == 1:
                return leave_one_out.shrunk(what, self.count)
            return leave_group_out.added(what, self.count, members)

        if overall is not None and overall.covariance is not None:
            blend = (method.shrinkage, added(overall.covariance))
        epsilon = added(epsilon_of(method, overall)).astype(self.mean.dtype)
        return factorise(state, epsilon, blend=blend), weights

    def _of_state(self, state: Any, method: Method | None = None, *, overall: Overall | None = None) -> Self:
        method = self.method if method is None else method
        options = {"size": self.size, "overall": overall}
        made = type(self).of_statistics(state, self.backbone, self.W, method, **options)
        return replace(made, choice=self.choice, preparation=self.preparation)


@jax.jit
def _lost(before: Any, after: Any, epsilon: jax.Array) -> jax.Array:
    """What rounding of the sums before leaves in C + εI after, relative to its smallest eigenvalue, ε."""
    count = after.count if after.count.ndim + 2 == after.scatter.ndim else jnp.sum(after.count)
    largest = jnp.max(jnp.diagonal(before.scatter, axis1=-2, axis2=-1), axis=-1)
    return jnp.max(largest / (count.astype(largest.dtype) * epsilon)) * jnp.finfo(largest.dtype).eps


@jax.jit(static_argnums=(5, 6, 7, 8))
def _score(
    W: jax.Array,
    mean: jax.Array,
    precision: Any,
    maps: FeatureMaps,
    ignored: jax.Array | None,
    size: tuple[int, int],
    sigma: float,
    pooling: int | tuple[int, ...] = 1,
    align: str = "nearest",
) -> jax.Array:
    z = embed(W, maps, pooling=pooling, align=align)
    return anomaly_maps(distances(z, mean, precision), size, sigma, ignored)


@jax.jit(static_argnums=(6, 7, 8, 9, 10))
def _score_pictures(
    network: Network,
    W: jax.Array,
    mean: jax.Array,
    precision: Any,
    pictures: jax.Array,
    ignored: jax.Array | None,
    size: tuple[int, int],
    sigma: float,
    pooling: int | tuple[int, ...],
    align: str,
    shared: bool,
) -> jax.Array:
    z = embedded(network.backbone, W, pictures, shared=shared, pooling=pooling, align=align)
    return anomaly_maps(distances(z, mean, precision), size, sigma, ignored)


@jax.jit
def _left_out(
    z: jax.Array, mean: jax.Array, count: jax.Array, whitener: Triangle, shrinkage: Any, weights: Any
) -> jax.Array:
    inside = distances(z, mean, whitener)
    corrected = partial(leave_one_out.corrected, shrinkage=shrinkage)
    of_one = over_grid(lambda d: corrected(d, count))
    distance = jax.vmap(of_one)(inside)
    return distance if weights is None else distance * weights[None]


@jax.jit
def _left_out_together(
    z: jax.Array, mean: jax.Array, count: jax.Array, whitener: Triangle, shrinkage: Any
) -> jax.Array:
    of_one = over_grid(partial(leave_group_out.distances, shrinkage=shrinkage), in_axes=(0, 0, None, 0))
    distance = by_columns(
        lambda z, mean, some: of_one(z, mean, count, some.matrix), jnp.moveaxis(z, 0, 2), mean, whitener
    )
    return jnp.moveaxis(distance, 2, 0)


@jax.jit(static_argnums=(2, 3))
def _maps_if_finite(
    distance: jax.Array, ignored: jax.Array | None, size: tuple[int, int], sigma: float
) -> tuple[jax.Array, jax.Array]:
    return anomaly_maps(distance, size, sigma, ignored), ~jnp.isfinite(distance)


def _method(method: Method | None, old: dict[str, Any]) -> Method:
    if method is not None and not isinstance(method, Method):
        asked = f"k={method}" if isinstance(method, int) and not isinstance(method, bool) else "…"
        raise ArgumentError(f"the method is {method!r}, which is none: give Method({asked})")
    if not old:
        return Method() if method is None else method
    known = {"k", "embedding", "epsilon", "seed", "sigma", "W"}
    if unknown := sorted(set(old) - known):
        raise TypeError(f"fit got an unexpected keyword argument {unknown[0]!r}")
    if method is not None:
        raise ArgumentError(f"{', '.join(sorted(old))} beside a method: give them to the Method")
    warnings.warn(
        f"{', '.join(sorted(old))}: give them as Method(…), the third argument",
        DeprecationWarning,
        stacklevel=4,
    )
    if (W := old.pop("W", None)) is not None:
        if "embedding" in old:
            raise ArgumentError("both W and an embedding: give one of them")
        old["embedding"] = W
    return Method(**old)


def _check_given(backbone: Any, mesh: Any, pictures: Any) -> None:
    """Before anything is computed: what would fail only far inside of it, by another name."""
    if isinstance(backbone, str):
        raise ArgumentError(f"the backbone is a name, {backbone!r}: give load_backbone({backbone!r})")
    wanted = ("name", "strides", "channels", "normalisation")
    lacking = [name for name in wanted if not hasattr(backbone, name)]
    if lacking or not callable(backbone):
        lack = f"without {', '.join(lacking)}" if lacking else "that can't be called"
        raise ArgumentError(
            f"the backbone is a {type(backbone).__name__} {lack}: give one of load_backbone, or one of your "
            "own as jaxsode.backbones.Backbone says"
        )
    check_mesh(mesh)
    if pictures is None:
        return
    if isinstance(pictures, bool) or not isinstance(pictures, int | np.integer) or pictures < 1:
        raise ArgumentError(f"pictures is {pictures!r}: give how many there are, or leave it out")


def _count(state: Any, backbone: Backbone, size: tuple[int, int]) -> jax.Array:
    """N of a state, () int32."""
    if isinstance(state, Pictures) or state.count.ndim:
        return jax.device_put(np.int32(pictures_of(state)))
    H, W = grid_of(backbone, size)
    return state.count // (H * W)


def _check_alike(a: Detector, b: Detector) -> None:
    differing = [
        name
        for name, one, other in (
            ("size", a.size, b.size),
            ("layers", a.method.layers, b.method.layers),
            ("embedding", a.method.embedding, b.method.embedding),
            ("k", a.method.k, b.method.k),
            ("precision", _asked(a.method), _asked(b.method)),
            *(
                (name, _rounded(getattr(a.method, name)), _rounded(getattr(b.method, name)))
                for name in ("epsilon", "shrinkage", "variance_weight")
            ),
            *(
                (name, getattr(a.method, name), getattr(b.method, name))
                for name in ("pooling", "align", "scale")
            ),
            ("sigma", a.method.sigma, b.method.sigma),
            ("preparation", a.preparation or b.preparation, b.preparation or a.preparation),
            ("W", _bytes(a.W), _bytes(b.W)),
            ("backbone", fingerprint(a.backbone), fingerprint(b.backbone)),
        )
        if one != other
    ]
    if differing:
        raise ArgumentError(
            f"the detectors differ in {', '.join(differing)}: merge only what was fitted alike, with one W "
            "and one backbone"
        )


def _asked(method: Method) -> str:
    """The precision; local and dual of all features are one, made in two ways."""
    full_rank = method.embedding == "identity" and method.precision in ("local", "dual")
    return FULL_RANK if full_rank else method.precision


def _rounded(value: Any) -> Any:
    """A number, a share or None, alike however it was written."""
    if isinstance(value, Share):
        return "share", np.float32(value.percent)
    return None if value is None else np.float32(value)


def _bytes(array: jax.Array) -> bytes:
    return np.asarray(array).tobytes()


def _by(size: tuple[int, ...]) -> str:
    return f"{size[0]} × {size[1]}"
