"""The tables and curves of "Beyond the paper's setting" in ../results.md, from the CSVs beside this file.

    python docs/study/report.py

prints the tables as Markdown and writes epsilon.svg and few.svg; it needs the extra `bench`. The CSVs are
what `jaxsode compare --csv RUN …` printed.
"""

import csv
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter
from scipy import stats

HERE = Path(__file__).parent
ROC, PRO, PICTURE = "pixel_auroc.paper", "pro.paper", "image_auroc"
METRICS = (PRO, PICTURE, ROC)
HEADS = {PRO: "PRO (paper)", PICTURE: "picture ROC", ROC: "ROC (paper)"}
SHARES = ("5%", "10%", "20%", "40%")
PAPER = {
    "k": "100",
    "embedding": "semi-orthogonal",
    "precision": "local",
    "backbone": "resnet18",
    "pooling": "1",
    "align": "nearest",
    "epsilon": "0.01",
    "scale": "none",
    "shrinkage": "",
    "variance_weight": "0.0",
    "fit_on": "",
}
POOLED = {"pooling": "3"}
AUTO = {"pooling": "3", "epsilon": "auto"}
SHARE = {"pooling": "3", "epsilon": "5%"}
ALIGNED = {"pooling": "3,1,1", "align": "bilinear"}


class Work:
    """A data set's runs: each setting's metrics and choices by seed, the mean over its folds."""

    def __init__(self, file):
        self.runs = defaultdict(lambda: defaultdict(list))
        with open(HERE / file) as lines:
            for row in csv.DictReader(lines):
                row["epsilon"] = row["epsilon"].replace(".0%", "%")
                key = tuple(row[name] for name in PAPER)
                self.runs[key][int(row["seed"])].append(row)

    def rows(self, **setting):
        """By seed, in the seeds' order, the rows of all folds."""
        found = self.runs[tuple((PAPER | setting)[name] for name in PAPER)]
        assert len(found) == 5, setting
        return [found[seed] for seed in sorted(found)]

    def metric(self, name, **setting):
        """One number a seed."""
        return np.array([np.mean([float(row[name]) for row in fold]) for fold in self.rows(**setting)])

    def chosen(self, column, **setting):
        """The range of what the likelihood chose, over seeds and folds."""
        said = [float(row[column].rstrip("%")) for fold in self.rows(**setting) for row in fold]
        low, high = min(said), max(said)
        return f"{low:.2g}" if low == high else f"{low:.2g}–{high:.2g}"


def number(x, sign=False):
    return f"{x:{'+' if sign else ''}.4f}".replace("0.", ".", 1).replace("-", "−")


def spread(x):
    return f"{number(x.mean())} ± {number(x.std(ddof=1))}"


def paired(x, reference):
    """The mean difference, and half its 95 % interval by Student's t."""
    d = x - reference
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
    return f"{number(d.mean(), sign=True)} ± {number(half)}"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    print("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines), end="\n\n")


def settings(work):
    rows = [("the paper's, ε = .01", {})]
    rows += [(f"ε = {e}", {"epsilon": e}) for e in (*SHARES, "auto")]
    rows += [("pooling 3, ε = .01", POOLED)]
    rows += [(f"pooling 3, ε = {e}", POOLED | {"epsilon": e}) for e in (*SHARES, "auto")]
    rows += [("pooling 3, ε = auto, layers scaled", AUTO | {"scale": "layer"})]
    rows += [(f"pooling 3,1,1, bilinear, ε = {e}", ALIGNED | {"epsilon": e}) for e in (*SHARES, "auto")]
    for gamma in ("0.1", "0.2"):
        rows += [
            (
                f"pooling 3, ε = {e}, γ = {number(float(gamma))[:2]}",
                POOLED | {"epsilon": e, "variance_weight": gamma},
            )
            for e in SHARES
        ]
    head = ["k = 100"] + [x for m in METRICS for x in (HEADS[m], "less the paper's")]
    table(head, [[name.replace("%", " %"), *compared(work, s, {})] for name, s in rows])


def compared(work, setting, reference):
    cells = []
    for m in METRICS:
        x, r = work.metric(m, **setting), work.metric(m, **reference)
        cells += [spread(x), "" if setting == reference else paired(x, r)]
    return cells


def elsewhere(works):
    rows = []
    for title, setting in (
        ("k = 25", {"k": "25"}),
        ("k = 50", {"k": "50"}),
        ("k = 200", {"k": "200"}),
        ("sampled, k = 100", {"embedding": "sampled"}),
        ("EfficientNet-Lite0, k = 100", {"backbone": "efficientnet_lite0"}),
    ):
        for name, work in works.items():
            rows.append([title, name, "the paper's", *compared(work, setting, setting)])
            rows.append(["", "", "pooling 3, ε = auto", *compared(work, AUTO | setting, setting)])
            if "backbone" in setting:
                rows.append(["", "", "pooling 3, ε = 5 %", *compared(work, SHARE | setting, setting)])
    table(["", "", ""] + [x for m in METRICS for x in (HEADS[m], "less the paper's")], rows)


def hindsight(works):
    rows = []
    for name, work in works.items():
        for backbone in ("resnet18", "efficientnet_lite0"):
            for pooling in ("1", "3"):
                shared = {"backbone": backbone, "pooling": pooling}
                cells = []
                for m in METRICS:
                    auto = work.metric(m, **shared, epsilon="auto").mean()
                    tried = {e: work.metric(m, **shared, epsilon=e).mean() for e in ("0.01", *SHARES)}
                    best = max(tried, key=tried.__getitem__)
                    cells += [
                        best.replace("0.01", ".01").replace("%", " %"),
                        number(auto - tried[best], sign=True),
                    ]
                    cells += [number(work.metric(m, **shared, epsilon="5%").mean() - tried[best], sign=True)]
                chosen = work.chosen("chosen_epsilon", **shared, epsilon="auto")
                rows.append([name, backbone, pooling, f"{chosen} %", *cells])
    head = ["", "", "pooling", "auto took"]
    table(head + [x for m in METRICS for x in (f"best ε, {HEADS[m]}", "auto loses", "5 % loses")], rows)


def means(works):
    candidates = (
        ("the paper's", {}),
        ("ε = 5 %", {"epsilon": "5%"}),
        ("ε = auto", {"epsilon": "auto"}),
        ("pooling 3, ε = 5 %", SHARE),
        ("pooling 3, ε = 10 %", POOLED | {"epsilon": "10%"}),
        ("pooling 3, ε = auto", AUTO),
        ("pooling 3, ε = auto, layers scaled", AUTO | {"scale": "layer"}),
        ("pooling 3,1,1, bilinear, ε = 5 %", ALIGNED | {"epsilon": "5%"}),
        ("pooling 3,1,1, bilinear, ε = auto", ALIGNED | {"epsilon": "auto"}),
        ("pooling 3, ε = 5 %, γ = .1", SHARE | {"variance_weight": "0.1"}),
        ("pooling 3, ε = 5 %, γ = .2", SHARE | {"variance_weight": "0.2"}),
    )
    rows = []
    for name, setting in candidates:
        cells = [name]
        for backbone in ("resnet18", "efficientnet_lite0"):
            for m in (PRO, PICTURE):
                try:
                    x = [work.metric(m, backbone=backbone, **setting).mean() for work in works.values()]
                    cells.append(number(np.mean(x)))
                except AssertionError:
                    cells.append("")
        rows.append(cells)
    table(
        ["mean of both works", "PRO, ResNet-18", "picture ROC", "PRO, EfficientNet-Lite0", "picture ROC"],
        rows,
    )


FEW = (
    ("the paper's, ε = .01", {}),
    ("ε = auto", {"epsilon": "auto"}),
    ("shrunk, ε and α auto", {"epsilon": "auto", "precision": "shrunk", "shrinkage": "auto"}),
    ("pooling 3, ε = 5 %", SHARE),
    ("pooling 3, ε = auto", AUTO),
    ("pooling 3, shrunk, ε and α auto", AUTO | {"precision": "shrunk", "shrinkage": "auto"}),
)


COUNTS = ("5", "10", "20", "50")


def at(work, metric, count, setting):
    """None where it wasn't run."""
    try:
        return work.metric(metric, fit_on=count, **setting)
    except AssertionError:
        return None


def few(works):
    for name, work in works.items():
        rows = []
        for title, setting in FEW:
            for m in (PRO, PICTURE):
                cells = [spread(x) if (x := at(work, m, n, setting)) is not None else "" for n in COUNTS]
                rows.append([title if m == PRO else "", HEADS[m], *cells])
        table([name, "", "N = 5", "10", "20", "50"], rows)


def few_choices(work):
    """α in hindsight against the one chosen, on features pooled, ε = 10 %."""
    shrunk = POOLED | {"epsilon": "10%", "precision": "shrunk"}
    rows = []
    for n in COUNTS:
        auto = {"fit_on": n, **shrunk, "shrinkage": "auto"}
        cells = [n, work.chosen("chosen_shrinkage", **auto)]
        for m in (PRO, PICTURE):
            tried = {"0": work.metric(m, fit_on=n, **POOLED, epsilon="10%").mean()}
            tried |= {
                a: work.metric(m, fit_on=n, **shrunk, shrinkage=a).mean()
                for a in ("0.1", "0.3", "0.6", "0.9")
            }
            best = max(tried, key=tried.__getitem__)
            cells += [f"{float(best):g}", number(work.metric(m, **auto).mean() - tried[best], sign=True)]
        rows.append(cells)
    table(["N", "α chosen", "best α, PRO (paper)", "auto loses", "best α, picture ROC", "auto loses"], rows)


def curves(works):
    figure, axes = plt.subplots(2, 2, figsize=(8, 5.4), sharex=True)
    x = [float(e[:-1]) for e in SHARES]
    for column, (name, work) in enumerate(works.items()):
        for row, m in enumerate((PRO, PICTURE)):
            axis = axes[row, column]
            for backbone, colour in (("resnet18", "C0"), ("efficientnet_lite0", "C1")):
                for pooling, style in (("1", "--"), ("3", "-")):
                    shared = {"backbone": backbone, "pooling": pooling}
                    y = [work.metric(m, **shared, epsilon=e) for e in SHARES]
                    axis.errorbar(
                        x,
                        [v.mean() for v in y],
                        [v.std(ddof=1) for v in y],
                        color=colour,
                        linestyle=style,
                        marker="o",
                        markersize=3,
                        label=f"{backbone}, pooling {pooling}",
                    )
                    auto = float(work.chosen("chosen_epsilon", **shared, epsilon="auto").split("–")[0])
                    axis.plot(
                        auto,
                        work.metric(m, **shared, epsilon="auto").mean(),
                        "*",
                        color=colour,
                        markersize=10,
                    )
            axis.set(xscale="log", title=name if row == 0 else None, ylabel=HEADS[m] if column == 0 else None)
            axis.set_xticks([*x, 2.5], [f"{t:g}" for t in [*x, 2.5]], minor=False)
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.grid(alpha=0.3)
        axes[1, column].set_xlabel("ε, % of the mean embedded variance; ★ auto")
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(HERE / "epsilon.svg", metadata={"Date": None})


def few_curves(works):
    figure, axes = plt.subplots(2, len(works), figsize=(4 * len(works), 5.4), sharex=True, squeeze=False)
    for column, (name, work) in enumerate(works.items()):
        for row, m in enumerate((PRO, PICTURE)):
            axis = axes[row, column]
            for title, setting in FEW:
                run = [n for n in COUNTS if at(work, m, n, setting) is not None]
                y = [at(work, m, n, setting) for n in run]
                axis.errorbar(
                    [int(n) for n in run],
                    [v.mean() for v in y],
                    [v.std(ddof=1) for v in y],
                    marker="o",
                    markersize=3,
                    label=title,
                )
            axis.set(xscale="log", title=name if row == 0 else None, ylabel=HEADS[m] if column == 0 else None)
            axis.set_xticks([5, 10, 20, 50], ["5", "10", "20", "50"], minor=False)
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.grid(alpha=0.3)
        axes[1, column].set_xlabel("pictures fitted on")
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(HERE / "few.svg", metadata={"Date": None})


if __name__ == "__main__":
    plt.rcParams |= {"svg.hashsalt": "jaxsode", "svg.fonttype": "none"}
    both = {"screw": Work("screw.csv"), "KolektorSDD": Work("kolektor.csv")}
    for name, work in both.items():
        print(f"{name}\n")
        settings(work)
    elsewhere(both)
    hindsight(both)
    means(both)
    few({"screw": Work("few.csv"), "KolektorSDD": Work("few-kolektor.csv")})
    few_choices(Work("few.csv"))
    curves(both)
    few_curves({"screw": Work("few.csv"), "KolektorSDD": Work("few-kolektor.csv")})
