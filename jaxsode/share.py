"""ε as a share of the mean embedded variance: free of scale, so that one number serves every backbone."""

import math
import re
from dataclasses import dataclass
from typing import Any, Self

import jax
import numpy as np

from jaxsode.errors import ArgumentError

_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*%\s*", re.IGNORECASE)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Share:
    """A percentage of v̄, the mean over locations and dimensions of the diagonal of C: ε = percent/100 · v̄.

    A pytree with one leaf.

    Attributes:
        percent: above 0, finite.

    Raises:
        ArgumentError: it isn't.
    """

    percent: Any

    @classmethod
    def of(cls, percent: Any) -> Self:
        """The share of a number, checked.

        Args:
            percent: above 0, finite.

        Raises:
            ArgumentError: it isn't.
        """
        number = float(percent)
        if not (math.isfinite(number) and float(np.finfo(np.float32).tiny) <= number <= 1e6):
            raise ArgumentError(
                f"epsilon = {number}% is no share: choose one above 0 %, such as 5% of the mean variance"
            )
        return cls(number)

    @classmethod
    def parsed(cls, text: str) -> Self:
        """The share that a text such as "5%" or "0.25 %" says.

        Args:
            text: a number and a percent sign.

        Raises:
            ArgumentError: it says none.
        """
        if (found := _FORM.fullmatch(text)) is None:
            raise ArgumentError(f"epsilon = {text!r} is neither a number nor a share: give 0.01, 5% or auto")
        return cls.of(float(found[1]))

    def __str__(self) -> str:
        return f"{float(self.percent)!r}".removesuffix(".0") + "%"
