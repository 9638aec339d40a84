"""A detector's export: the function in each format, model.json, and examples that start from a file."""

import inspect
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import util
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jaxsode
from jaxsode import errors, preparation
from jaxsode.datasets import decode, reading
from jaxsode.errors import ArgumentError, NumericalError
from jaxsode.export import check, stablehlo
from jaxsode.export.check import Difference
from jaxsode.inspection import Inspector
from jaxsode.judging import Judge
from jaxsode.preparation import Preparation
from jaxsode.report import write_json

SCHEMA = 1
Format = Literal["onnx", "stablehlo"]
FORMATS: tuple[Format, ...] = ("onnx", "stablehlo")
EXAMPLES = Path(__file__).parent / "examples"
DECODING = (errors, preparation, reading, decode)


def check_installed(formats: Sequence[str]) -> None:
    """Refuse a format whose libraries are missing, before anything is computed.

    Args:
        formats: of FORMATS.

    Raises:
        ArgumentError: one is.
    """
    lacking = [name for name in ("onnx", "onnxruntime") if util.find_spec(name) is None]
    if "onnx" in formats and lacking:
        raise ArgumentError(
            f"ONNX needs {' and '.join(lacking)}: pip install 'jaxsode[onnx]', or give --formats stablehlo"
        )


def halved(inspector: Inspector) -> Inspector:
    """The same with its precision rounded to float16, computed with in float32 as before.

    Args:
        inspector: see `Inspector`.

    Raises:
        NumericalError: a number of it is beyond float16.
    """

    def rounded(x: Any) -> Any:
        short = np.asarray(x).astype(np.float16)
        if not np.isfinite(short).all():
            raise NumericalError("the precision has numbers beyond float16's 65504: export it in float32")
        return jnp.asarray(short.astype(np.asarray(x).dtype))

    with np.errstate(over="ignore"):
        precision = jax.tree.map(rounded, inspector.detector.precision)
    return replace(inspector, detector=replace(inspector.detector, precision=precision))


def export(
    inspector: Inspector,
    folder: Path,
    *,
    formats: Sequence[Format] = FORMATS,
    half: bool = False,
    platforms: Sequence[str] = ("cpu", "cuda"),
    inline: int | None = None,
) -> dict[str, Any]:
    """Write it, and compare what was written with the detector.

    Args:
        inspector: a detector with its threshold, or none, and what is ignored.
        folder: that is not there yet.
        formats: of FORMATS.
        half: whether the precision is kept as float16: half the file, at the price that `effect` tells.
        platforms: that StableHLO is lowered for beside the one that runs here, which checks it; see
            `jaxsode.export.stablehlo`.
        inline: see `jaxsode.export.graph.INLINE`; None is that.

    Returns:
        What model.json has.

    Raises:
        ArgumentError: no format, an unknown platform, or what the detector does has no form in ONNX here.
        NumericalError: what was written doesn't give the detector's maps to `check.TOLERANCE`.
        OSError: it can't be written.
    """
    if not formats:
        raise ArgumentError(f"there is no format to export: give {' or '.join(FORMATS)}")
    check_installed(formats)
    if "stablehlo" in formats and not platforms:
        raise ArgumentError(f"StableHLO needs a platform: give some of {', '.join(stablehlo.PLATFORMS)}")
    platforms = tuple(dict.fromkeys((jax.export.default_export_platform(), *platforms)))
    batches = list(check.batches(inspector.detector.size))
    kept = halved(inspector) if half else inspector
    judge = Judge.of(kept)
    if half:
        judge = replace(judge, precision=jax.tree.map(lambda x: x.astype(jnp.float16), judge.precision))
    page = _page(inspector, half)
    folder.mkdir()
    differences: dict[str, Difference] = {}
    if "stablehlo" in formats:
        path = folder / "model.stablehlo"
        stablehlo.write(path, judge, platforms=platforms)
        differences["stablehlo"] = check.compared(check.of_stablehlo(path), kept, batches)
        page["formats"]["stablehlo"] = {"platforms": list(platforms), "arrays": "model.npz"}
    if "onnx" in formats:
        from jaxsode.export import graph, onnx_model

        path = folder / "model.onnx"
        picture = jax.ShapeDtypeStruct((*judge.size, 3), np.uint8)
        told = {name: page[name] for name in ("jaxsode", "threshold", "alpha")}
        about = {name: str(value) for name, value in told.items() if value is not None}
        inline = graph.INLINE if inline is None else inline
        onnx_model.write(path, lambda judge, x: judge(x), judge, picture, about=about, inline=inline)
        differences["onnx"] = check.compared(check.of_onnx(path), kept, batches)
        page["formats"]["onnx"] = {"opset": graph.OPSET}
    for name, difference in differences.items():
        check.check(difference, name)
        page["formats"][name]["difference"] = asdict(difference)
    if half:
        page["effect"] = asdict(check.compared(_in_memory(kept), inspector, batches))
    write_json(folder / "model.json", page)
    for name in ("prepare", *(f"score_{name}" for name in formats)):
        shutil.copyfile(EXAMPLES / f"{name}.py", folder / f"{name}.py")
    copy_decoding(folder / "decoding")
    return page


def copy_decoding(folder: Path) -> None:
    """This package's own reading of files, as a package by itself, which needs numpy and pillow alone.

    Args:
        folder: that is not there yet.

    Raises:
        OSError: it can't be written.
    """
    folder.mkdir()
    about = '"""How jaxsode reads pictures: a copy, for its examples."""\n'
    (folder / "__init__.py").write_text(about, encoding="utf-8")
    for module in DECODING:
        text = Path(inspect.getfile(module)).read_text(encoding="utf-8")
        text = text.replace("from jaxsode.", "from .")
        (folder / Path(inspect.getfile(module)).name).write_text(text, encoding="utf-8")


def _page(inspector: Inspector, half: bool) -> dict[str, Any]:
    """What a reader of the files has to know."""
    detector, calibration = inspector.detector, inspector.calibration
    prepared = detector.preparation or Preparation(upright=True)
    alpha = None if calibration is None else float(np.float32(calibration.level))
    return {
        "schema": SCHEMA,
        "jaxsode": jaxsode.__version__,
        "backbone": detector.backbone.name,
        "size": list(detector.size),
        "k": int(detector.W.shape[1]),
        "pictures": int(detector.count),
        "preparation": prepared.page(),
        "threshold": None if calibration is None else calibration.threshold,
        # The level that the pictures attain, as the model's float32 has it: p ≤ alpha is then the decision,
        # in float32 and in float64.
        "alpha": alpha,
        "scores": None if calibration is None else calibration.pictures,
        "precision": "float16" if half else str(jax.tree.leaves(detector.precision)[0].dtype),
        "inputs": {"pictures": ["batch", *detector.size, 3]},
        "outputs": {
            "map": ["batch", *detector.size],
            "score": ["batch"],
            **({} if calibration is None else {"p_value": ["batch"], "defective": ["batch"]}),
        },
        "formats": {},
    }


def _in_memory(inspector: Inspector) -> check.Judging:
    def judging(batch: np.ndarray) -> dict[str, Any]:
        found = inspector(batch)
        p_values = None if found.p_values is None else found.p_values.astype(np.float32)
        decided = {"p_value": p_values, "defective": found.defective}
        return {"map": found.maps, "score": found.scores, **decided}

    return judging
