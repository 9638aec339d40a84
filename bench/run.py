"""python -m bench.run SUITE: measure, and leave what was found as JSON under bench/results/."""

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# Before anything imports JAX: PyTorch and the children that measure memory share the device with it.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

SUITES = {
    "inverse": "HWk³ against HWF³: k × k matrices of 64 × 64 locations",
    "fit": "from pictures to a fitted detector, whole and by stage, and its peak memory",
    "score": "from pictures to anomaly maps, whole and by stage; latency; peak memory",
    "start": "from a process's start to its first map, programs compiled and kept",
    "study": "time and ROC against k for each embedding, on a data set",
    "memory": "peak against the number of pictures and against their size",
    "scaling": "1, 2, 4, 8 devices: agreement, memory of each, time",
    "metrics": "ROC and PRO of 10⁷ scores",
    "backbones": "channels, parameters, operations and rate of every backbone",
}
ALL = tuple(suite for suite in SUITES if suite != "study")
QUICK = Path("runs") / "bench"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(arguments).parse_args(arguments)
    if options.suite == "all":
        return _all(arguments[1:])
    from bench.errors import BenchError
    from bench.record import FOLDER, Result
    from jaxsode.errors import JaxsodeError

    suite = importlib.import_module(f"bench.{options.suite}")
    if options.quick:
        suite.quick(options)
    asked = {name: _plain(value) for name, value in vars(options).items() if name not in ("suite", "results")}
    result = Result(options.suite, asked, options.results or (QUICK if options.quick else FOLDER))
    strict = not (options.quick or options.allow_noisy)
    try:
        result.begin(strict=strict, quick=options.quick)
        suite.run(options, result)
        path = result.end(strict=strict, quick=options.quick)
    except (BenchError, JaxsodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    from bench import table

    print(table.markdown(table.read(path)))
    print(path)
    return 0


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Knows all suites, and the options of the one that is named: no other is imported."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    suites = parser.add_subparsers(dest="suite", required=True, metavar="SUITE")
    for name, says in SUITES.items():
        one = suites.add_parser(name, help=says, description=says)
        _common(one)
        if name in arguments:
            importlib.import_module(f"bench.{name}").add_options(one)
    _common(suites.add_parser("all", help=f"{', '.join(ALL)}: one after the other, each with its defaults"))
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run? Into runs/bench/")
    parser.add_argument("--rounds", type=int, default=5, help="of each timing, at least 5")
    parser.add_argument("--minutes", type=float, default=6.0, help="after which nothing new is begun")
    parser.add_argument(
        "--allow-noisy",
        action="store_true",
        help="measure on a busy machine, or code that is no commit's; tables mark the result",
    )
    parser.add_argument("--results", type=Path, help="folder of the JSON")


def _all(arguments: Sequence[str]) -> int:
    """Each in a process of its own, so that none leaves memory or threads to the next."""
    failed = [
        suite
        for suite in ALL
        if subprocess.run([sys.executable, "-m", "bench.run", suite, *arguments], check=False).returncode
    ]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _plain(value: object) -> object:
    """As JSON; of a file its name alone, for results are shown to others."""
    return value.name if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


if __name__ == "__main__":
    sys.exit(main())
