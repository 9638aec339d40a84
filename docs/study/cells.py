"""python docs/study/cells.py CELLS --data NAME=PATH … --weights NAME=PATH: the study's CSVs as cells.

What the study measured is what a row of `reproduce` asks for where data, method and weights are the same: it
is taken over as it was printed, to the last digit, and the cell names the file. Data and weights are read for
the key alone.
"""

import csv
import sys
from pathlib import Path

from jaxsode.reproduce import compute, rows
from jaxsode.reproduce.at_hand import AtHand
from jaxsode.reproduce.cells import Cells

HERE = Path(__file__).parent
FILES = {"mvtec_ad": "screw.csv", "kolektor": "kolektor.csv"}
TARGETS = ("table1", "figure2", "table2", "table3", "table5", "beyond")
SETTING = ("embedding", "k", "seed", "precision", "epsilon", "sigma", "layers", "pooling", "align", "scale")
SETTING += ("shrinkage", "variance_weight", "backbone", "size", "fit_on", "picture_score", "fold")


def main(arguments: list[str]) -> None:
    """Put the cells there that the CSVs hold."""
    folder, *options = arguments
    given: dict[str, dict[str, str]] = {"--data": {}, "--weights": {}}
    for option, value in zip(options[::2], options[1::2], strict=True):
        name, _, path = value.partition("=")
        given[option][name] = path
    cells = Cells(Path(folder))
    at_hand = AtHand({n: Path(p) for n, p in given["--data"].items()}, given["--weights"])
    known = {
        dataset: {
            tuple(_text(line[n]) for n in SETTING): line for line in csv.DictReader((HERE / file).open())
        }
        for dataset, file in FILES.items()
    }
    taken = 0
    for target in map(rows.read, (name for name in TARGETS if name in rows.places())):
        columns = compute.columns_of(target, at_hand, compute=True)
        for wanted in (w for each in compute.all_wanted(target, columns, at_hand).values() for w in each):
            lines = known.get(wanted.plan.dataset, {})
            about = {
                "backbone": wanted.plan.backbone,
                "picture_score": wanted.plan.picture_score,
                "fold": wanted.split,
            }
            line = lines.get(tuple(_text((about | wanted.part()["method"]).get(n)) for n in SETTING))
            if (
                line is None
                or wanted.row.keep
                or wanted.row.test_every != 1
                or wanted.column.without
                or wanted.plan.layers
                or cells.get(key := wanted.key(at_hand))
            ):
                continue
            value = {n: float(line[n]) for n in line if n[:3] in ("pro", "pix", "ima")}
            scores = {m: {a: value[f"{m}.{a}"] for a in ("pooled", "paper")} for m in ("pixel_auroc", "pro")}
            scores |= {"image_auroc": value["image_auroc"]}
            if line["chosen_epsilon"]:
                scores |= {
                    "choice": {
                        "epsilon": line["chosen_epsilon"],
                        "shrinkage": line["chosen_shrinkage"] or None,
                    }
                }
            numbers = {n: int(line[n]) for n in ("train", "test")}
            cells.put(key, numbers | {"scores": scores, "record": f"docs/study/{FILES[wanted.plan.dataset]}"})
            taken += 1
    print(f"{taken} cells")


def _text(value: object) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return "" if value is None else str(value).replace(".0%", "%")


if __name__ == "__main__":
    main(sys.argv[1:])
