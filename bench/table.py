"""python -m bench.table FILE…: the JSON of a suite as Markdown, and nothing that is not in the JSON."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.quiet import noise

Row = Mapping[str, Any]
Column = tuple[str, Callable[[Row], str]]


def read(path: Path) -> dict[str, Any]:
    """The content of a result's file."""
    return json.loads(path.read_text(encoding="utf-8"))


def markdown(content: Mapping[str, Any]) -> str:
    """A heading, the table, what was derived from it, what was left out, and what it ran on."""
    columns = COLUMNS[content["suite"]]
    lines = [f"### {heading(content)}", ""]
    if noisy := noise(content["environment"]):
        lines += [f"**Not by the bench's rule**: {'; '.join(noisy)}.", ""]
    lines += ["| " + " | ".join(heading for heading, _ in columns) + " |"]
    lines += ["| " + " | ".join("---" for _ in columns) + " |"]
    rows = content["derived"].get("summary", content["rows"])
    if content["suite"] == "inverse":
        rows = sorted(rows, key=lambda row: row["k"])
    elif content["suite"] == "study":
        rows = sorted(rows, key=lambda row: (row["embedding"], row["k"]))
    lines += ["| " + " | ".join(cell(row) for _, cell in columns) + " |" for row in rows]
    lines += [""]
    for name, value in content["derived"].items():
        if name != "summary":
            lines += [f"- {name}: {_inline(value)}"]
    if content["agreement"]:
        worst = max(content["agreement"], key=lambda found: found["relative_error"] / found["tolerance"])
        lines += [
            f"- agreement checked {len(content['agreement'])} times; the largest difference for its "
            f"tolerance: {worst['what']}, {worst['relative_error']:.1e}"
        ]
    lines += [f"- left out: {left['what']}: {left['why']}" for left in content["left_out"]]
    lines += [f"- {_surroundings(content['environment'])}"]
    return "\n".join(lines) + "\n"


def main(paths: Sequence[str]) -> int:
    """Print the tables of these files, each with the plot that lies beside it."""
    for path in map(Path, paths):
        print(markdown(read(path)))
        plot = path.with_suffix(".svg")
        if plot.exists():
            print(f"![{path.stem}]({plot.name})\n")
    return 0


def heading(content: Mapping[str, Any]) -> str:
    """Suite, date and device."""
    return f"{content['suite']}, {content['date'][:10]}, {_device(content['environment'])}"


def _device(environment: Mapping[str, Any]) -> str:
    if environment["platform"] == "cpu":
        return f"{environment['machine']['processor']}, {environment['threads']['usable_cores']} cores"
    return environment["device"]


def _surroundings(environment: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in environment["versions"].items() if v)
    commit = (environment["commit"] or "unknown")[:8] + (
        "+" if (environment["commit"] or "").endswith("+") else ""
    )
    load = environment["load_average"]
    busy = "" if load is None else f"; load average at the start {load:.1f}"
    return f"{environment['dtype']}; {versions}; commit {commit}{busy}"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(
            f"{key} ({_inline(inner)})" if isinstance(inner, dict) else f"{key} {_inline(inner)}"
            for key, inner in value.items()
        )
    return _number(value)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def text(key: str) -> Callable[[Row], str]:
    """A field as it is; lists with × between."""

    def cell(row: Row) -> str:
        value = row.get(key)
        if value is None:
            return "–"
        return " × ".join(map(str, value)) if isinstance(value, list) else _number(value)

    return cell


def milliseconds(key: str) -> Callable[[Row], str]:
    """A field in seconds, as milliseconds."""
    return lambda row: "–" if row.get(key) is None else f"{1e3 * row[key]:.4g}"


def percent(key: str) -> Callable[[Row], str]:
    """A fraction."""
    return lambda row: "–" if row.get(key) is None else f"{100 * row[key]:.1f} %"


def gigabytes(key: str) -> Callable[[Row], str]:
    """A field in bytes."""
    return lambda row: "–" if row.get(key) is None else f"{row[key] / 1e9:.2f}"


def plus_minus(key: str) -> Callable[[Row], str]:
    """A mean and its deviation over seeds."""

    def cell(row: Row) -> str:
        if row.get(key) is None:
            return "–"
        deviation = row.get(f"{key}.std")
        return f"{row[key]:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")

    return cell


def spread(row: Row) -> str:
    """Quartiles over the median."""
    timing = row["timing"]
    low, high = (quartile / timing["median_s"] - 1 for quartile in timing["quartiles_s"])
    return f"{100 * low:+.0f} … {100 * high:+.0f} %"


def compilation(row: Row) -> str:
    """Seconds that XLA compiled before the first result."""
    return f"{row['timing']['compile_s']:.1f}"


def stages(row: Row) -> str:
    """Milliseconds by stage, and how many cores worked, where that is known."""
    cores = row.get("stages_cores", {})
    told = {name: f" (×{cores[name]:.1f})" if name in cores else "" for name in row["stages_s"]}
    return ", ".join(f"{name} {1e3 * row['stages_s'][name]:.3g}{told[name]}" for name in told) or "–"


SETTING: tuple[Column, ...] = (
    ("backbone", text("backbone")),
    ("size", text("size")),
    ("k", text("k")),
    ("", text("implementation")),
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "inverse": (
        ("k", text("k")),
        ("method", text("method")),
        ("gives", text("gives")),
        ("ms for the grid", milliseconds("grid_s")),
        ("quartiles", spread),
        ("matrices run", text("matrices")),
        ("of bandwidth", percent("of_bandwidth")),
        ("of matmul", percent("of_matmul")),
        ("compile s", compilation),
    ),
    "fit": (
        *SETTING,
        ("pictures", text("pictures")),
        ("fit s", text("fit_s")),
        ("quartiles", spread),
        ("compile s", compilation),
        ("peak GB", gigabytes("peak_bytes")),
        ("of it before GB", gigabytes("before_bytes")),
        ("stages, ms a picture; factorisation ms in all", stages),
    ),
    "score": (
        *SETTING[:3],
        ("pooling", lambda row: str(row.get("pooling", 1))),
        SETTING[3],
        ("batch", text("batch")),
        ("pictures / s", text("pictures_per_s")),
        ("quartiles", spread),
        ("latency ms p50", milliseconds("latency_p50_s")),
        ("p90", milliseconds("latency_p90_s")),
        ("p99", milliseconds("latency_p99_s")),
        ("peak GB", gigabytes("peak_bytes")),
        ("stages, ms a picture", stages),
    ),
    "start": (
        *SETTING[:3],
        ("saved", text("saved")),
        ("programs", text("programs")),
        ("processes", text("processes")),
        ("s in all, median", text("total_s")),
        ("range", lambda row: " – ".join(f"{s:.2f}" for s in row["range_s"])),
        ("import", text("import_s")),
        ("load", text("load_s")),
        ("first map", text("map_s")),
    ),
    "study": (
        ("embedding", text("embedding")),
        ("k", text("k")),
        ("runs", text("runs")),
        ("fit and score s", text("fit_and_score_s")),
        ("fit s", text("fit_s")),
        ("score ms a picture", milliseconds("score_s_per_picture")),
        ("ROC pooled", plus_minus("pixel_auroc.pooled")),
        ("ROC paper", plus_minus("pixel_auroc.paper")),
        ("PRO pooled", plus_minus("pro.pooled")),
        ("PRO paper", plus_minus("pro.paper")),
        ("picture ROC", plus_minus("image_auroc")),
    ),
    "memory": (
        ("task", text("task")),
        *SETTING,
        ("pictures", text("pictures")),
        ("peak GB", gigabytes("peak_bytes")),
        ("of it before GB", gigabytes("before_bytes")),
        ("once, s", text("once_s")),
    ),
    "scaling": (
        ("devices", text("devices")),
        ("mesh (pictures × locations)", text("mesh")),
        ("relative error", text("relative_error")),
        ("state of a device GB", gigabytes("state_bytes_per_device")),
        ("peak of a device GB", gigabytes("device_peak_bytes")),
        ("peak of the process GB", gigabytes("process_peak_bytes")),
        ("fit s", text("fit_s")),
        ("pictures / s", text("pictures_per_s")),
    ),
    "backbones": (
        ("backbone", text("backbone")),
        ("channels", text("channels")),
        ("F", text("features")),
        ("strides", text("strides")),
        ("parameters", text("parameters")),
        ("GFLOP a picture", text("gflop")),
        ("batch", text("batch")),
        ("pictures / s", text("pictures_per_s")),
        ("quartiles", spread),
        ("compile s", compilation),
    ),
    "metrics": (
        ("metric", text("metric")),
        ("", text("implementation")),
        ("scores", text("scores")),
        ("s", text("seconds")),
        ("quartiles", spread),
        ("value", text("value")),
    ),
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
