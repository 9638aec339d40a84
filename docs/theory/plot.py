"""The filter of ../theory.md: what of C⁻¹ a linear student has still to learn after n steps.

    python docs/theory/plot.py

writes filter.svg beside this file; it needs the extra `bench`.
"""

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
STEPS = {0: "n = 0: C⁻¹ itself", 1: "1", 10: "10", 100: "100", 1000: "1000"}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxsode",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def remaining(values: np.ndarray, steps: int) -> np.ndarray:
    """(1 − ηλ)ⁿ/(ηλ), the student's lack in the direction of an eigenvalue, against ηλ."""
    return (1 - values) ** steps / values


def main() -> None:
    values = np.geomspace(1e-4, 1 - 1e-6, 400)
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(6, 3.6))
        for (steps, label), shade in zip(STEPS.items(), np.linspace(0.85, 0.1, len(STEPS)), strict=True):
            axes.loglog(values, remaining(values, steps), label=label, color=mpl.colormaps["viridis"](shade))
        axes.set(xlim=(1e-4, 1), ylim=(1e-1, 1.2e4), xlabel="ηλ", ylabel="(1 − ηλ)ⁿ / ηλ")
        axes.legend(frameon=False)
        figure.savefig(HERE / "filter.svg", metadata={"Date": None}, bbox_inches="tight", transparent=False)
        plt.close(figure)


if __name__ == "__main__":
    main()
