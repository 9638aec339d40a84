"""jaxsode update: a detector fitted on more good pictures, exactly, without a refit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from jaxsode import calibration
from jaxsode.commands import loading
from jaxsode.commands.detectors import Fitted, check_new, check_ours, existing, made
from jaxsode.commands.exits import check_device, exit_code
from jaxsode.commands.progress import Shown
from jaxsode.detector import Detector
from jaxsode.home import expanded, readable


@dataclass(frozen=True)
class Update:
    """Fit a detector on more good pictures: the result is that of a fit on all of them.

    Its threshold and page go, for they were another state's: jaxsode calibrate makes a threshold.
    """

    detector: Annotated[Path, tyro.conf.Positional]
    """Folder that jaxsode fit left. It is replaced, once the new one is whole."""
    good: Annotated[Path, tyro.conf.Positional]
    """Folder of good pictures that it was not fitted on."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the new detector, which isn't there yet; the old one stays then."""
    batch_size: int = 8
    """Pictures computed at once."""


def main(arguments: Sequence[str] | None = None, *, prog: str = "jaxsode update") -> int:
    """Run the command; returns its exit code, see `exit_code`."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    return exit_code(lambda: update(tyro.cli(Update, prog=prog, args=arguments), console))


def update(asked: Update, console: Console) -> None:
    """Do what the command does.

    Args:
        asked: what was asked for.
        console: for progress and what is said.

    Raises:
        JaxsodeError: a mistake of the user's. The detector stays as it is then.
    """
    check_device()
    folder = existing(asked.detector)
    fitted = Fitted.read(folder)
    if asked.output is None:
        check_ours(folder)
    else:
        check_new(expanded(asked.output))
    before, _ = calibration.read(folder)
    masked = before is not None and before.ignored is not None
    detector = Detector.load(folder)
    with Shown(console) as shown:
        dataset = loading.as_detectors(detector, asked.good, shown, console=console)
        good = loading.good(dataset, what="all")
        fitted.refuse(good.pictures)
        features = good.features(detector.backbone, size=detector.size, batch_size=asked.batch_size)
        with shown.task("updating", len(good.indices)) as task:

            def counted():
                for batch in features.pictures(good.indices):
                    yield batch
                    task.advance(batch.valid)

            updated = detector.update(counted())
    record = fitted.joined(Fitted(good.pictures, (), {}))
    output = asked.output or folder
    with made(output, again=asked.output is None) as stage:
        updated.save(stage)
        record.write(stage)
    console.print(
        f"{readable(output)}: fitted on {int(updated.count)} pictures, without a threshold: jaxsode "
        "calibrate makes one",
        markup=False,
    )
    if masked:
        console.print("its --ignore-mask went with the threshold: give it to jaxsode calibrate", markup=False)
