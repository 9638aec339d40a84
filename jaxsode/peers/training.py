"""A network trained on pictures by Adam until held-out ones say stop; from where it was interrupted, exactly.

Step s takes the pictures that lie there in an endless row of permutations, each drawn from the seed and its
number: what a step does depends on nothing but the state before it. So a training that is resumed ends as one
that never stopped, bit for bit on the same machine.
"""

import logging
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from jaxsode.errors import ArgumentError, CheckpointError, NumericalError
from jaxsode.peers.protocol import Bar

Loss = Callable[[Any, Any, jax.Array], jax.Array]
"""(what is trained, what is not, pictures) → (), a function of a module: it is compiled once."""


@dataclass(frozen=True)
class Training:
    """How long and how fast.

    Attributes:
        steps: at most, ≥ 1.
        every: steps between two looks at the held-out pictures, after each of which a checkpoint is written.
        patience: looks without a new least loss after which it stops.
        batch_size: pictures a step.
        learning_rate, weight_decay: of Adam; the decay is added to the gradient.
        seed: of the pictures' order.
    """

    steps: int
    every: int
    patience: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    seed: int

    def batch(self, step: int, pictures: int) -> np.ndarray:
        """(batch_size,) indices of the pictures of a step, of so many."""
        places = range(step * self.batch_size, (step + 1) * self.batch_size)
        orders = {
            number: np.random.default_rng([self.seed, number]).permutation(pictures)
            for number in {place // pictures for place in places}
        }
        return np.array([orders[place // pictures][place % pictures] for place in places])


@dataclass(frozen=True)
class Trained:
    """What came of it.

    Attributes:
        params: those of the least loss on held-out pictures.
        curve: for each look its step, the mean loss of the steps since the last one, and that of the held-out
            pictures.
        stopped: whether patience ran out, before the last step.
    """

    params: Any
    curve: list[list[float]]
    stopped: bool


def train(
    loss: Loss,
    params: Any,
    fixed: Any,
    pictures: np.ndarray,
    held_out: np.ndarray,
    training: Training,
    *,
    what: str,
    bar: Bar,
    folder: Path | None = None,
) -> Trained:
    """Train until the held-out pictures' loss has not fallen for a while.

    Args:
        loss: see `Loss`; of held-out pictures it is taken one by one and averaged.
        params: to start from.
        fixed: what else the loss takes.
        pictures: (N, height, width, 3 or 1), N ≥ 1.
        held_out: (M, height, width, 3 or 1), others, M ≥ 1.
        training: see `Training`.
        what: the name of the network, for messages.
        bar: see `Bar`; counts steps.
        folder: of checkpoints; where it has some of this same training, it goes on from the last one.

    Returns:
        The trained network.

    Raises:
        ArgumentError: the folder's checkpoints are of another training.
        CheckpointError: they can't be read or written.
        NumericalError: the loss is not finite.
    """
    speed = training.learning_rate, training.weight_decay
    state = {"params": params, "best": params, "optimiser": _adam(*speed).init(params)}
    curve: list[list[float]] = []
    identity = asdict(training) | {"data": _checksum((params, fixed, pictures, held_out))}
    for name in ("steps", "patience"):  # a training may be asked to go on for longer
        del identity[name]
    with bar(what, training.steps) as done, _checkpoints(folder, what) as checkpoints:
        if checkpoints is not None:
            state, curve = checkpoints.last(state, identity)
        step = int(curve[-1][0]) if curve else 0
        done(step)
        losses: list[float] = []
        while step < training.steps and not _patience_lost(curve, training.patience):
            batch = pictures[training.batch(step, len(pictures))]
            state["params"], state["optimiser"], value = _update(
                loss, *speed, state["params"], state["optimiser"], fixed, batch
            )
            step += 1
            losses.append(_finite(float(value), what, step))
            done(1)
            if step % training.every and step < training.steps:
                continue
            of_others = np.mean([float(_loss(loss, state["params"], fixed, p[None])) for p in held_out])
            curve.append([step, float(np.mean(losses)), _finite(float(of_others), what, step)])
            losses.clear()
            if _since_least(curve) == 0:
                state["best"] = state["params"]
            if checkpoints is not None:
                checkpoints.write(step, state, {"training": identity, "curve": curve})
    return Trained(state["best"], curve, stopped=step < training.steps)


def _since_least(curve: list[list[float]]) -> int:
    """Looks since that of the least loss."""
    return len(curve) - 1 - int(np.argmin([of_others for _, _, of_others in curve]))


def _patience_lost(curve: list[list[float]], patience: int) -> bool:
    return bool(curve) and _since_least(curve) >= patience


def _finite(value: float, what: str, step: int) -> float:
    if not math.isfinite(value):
        raise NumericalError(
            f"the loss of the {what} is {value} at step {step}: check the pictures, or train it more slowly"
        )
    return value


@partial(jax.jit, static_argnums=0)
def _loss(loss: Loss, params: Any, fixed: Any, pictures: jax.Array) -> jax.Array:
    return loss(params, fixed, pictures)


def _adam(rate: float, decay: float) -> optax.GradientTransformation:
    return optax.chain(optax.add_decayed_weights(decay), optax.adam(rate))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _update(
    loss: Loss, rate: float, decay: float, params: Any, state: Any, fixed: Any, pictures: jax.Array
) -> tuple[Any, Any, jax.Array]:
    value, gradient = jax.value_and_grad(loss)(params, fixed, pictures)
    with jax.numpy_dtype_promotion("standard"):  # optax counts steps in integers
        updates, state = _adam(rate, decay).update(gradient, state, params)
    return optax.apply_updates(params, updates), state, value


def _checksum(tree: Any) -> str:
    """Of the numbers and shapes of all arrays."""
    crc = 0
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        crc = zlib.crc32(f"{array.shape} {array.dtype}".encode(), crc)
        crc = zlib.crc32(array.reshape(-1).view(np.uint8).data, crc)
    return f"{crc:08x}"


_CAUSES = ("No space left on device", "Permission denied", "Read-only file system")


class _Checkpoints:
    """The last state of a training, in a folder."""

    def __init__(self, manager: Any, folder: Path):
        self._manager, self._folder = manager, folder

    def last(self, state: Any, identity: dict[str, Any]) -> tuple[Any, list[list[float]]]:
        """State and curve, or those given and none."""
        import orbax.checkpoint as ocp

        if (step := self._manager.latest_step()) is None:
            return state, []
        with self._folder_named("read"):
            page = self._manager.restore(step, args=ocp.args.Composite(page=ocp.args.JsonRestore()))["page"]
            if page["training"] != identity:
                raise ArgumentError(
                    f"{self._folder} has checkpoints of another training, by its settings or pictures: "
                    "name another folder, or delete it"
                )
            like = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
            found = self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like)))
            return found["state"], page["curve"]

    def write(self, step: int, state: Any, page: dict[str, Any]) -> None:
        import orbax.checkpoint as ocp

        with self._folder_named("written"):
            self._manager.save(
                step,
                args=ocp.args.Composite(state=ocp.args.StandardSave(state), page=ocp.args.JsonSave(page)),
            )

    @contextmanager
    def _folder_named(self, done: str) -> Iterator[None]:
        logger = logging.getLogger("absl")  # Orbax tells it the stack of what it raises as well
        logger.addFilter(_not_of_orbax)
        try:
            yield
        except ArgumentError:
            raise
        except Exception as error:  # Orbax and TensorStore raise what they like for a full disk or damage
            first = (str(error).splitlines() or [type(error).__name__])[0][:120]
            first = next((cause for cause in _CAUSES if cause in str(error)), first)
            raise CheckpointError(
                f"checkpoints in {self._folder} can't be {done}: make room, or name another folder ({first})"
            ) from error
        finally:
            logger.removeFilter(_not_of_orbax)


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in Path(record.pathname).parts


@contextmanager
def _checkpoints(folder: Path | None, what: str) -> Iterator[_Checkpoints | None]:
    if folder is None:
        yield None
        return
    import orbax.checkpoint as ocp

    folder = Path(folder).absolute() / what.replace(" ", "-")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{folder} can't be made for checkpoints: name another folder ({error.strerror})"
        ) from error
    options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
    with ocp.CheckpointManager(folder, options=options, item_names=("state", "page")) as manager:
        yield _Checkpoints(manager, folder)
