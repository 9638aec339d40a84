"""Shapes in signatures, where jaxtyping is there to read them.

The algebra needs jax alone. With jaxtyping installed its annotations are real (and the tests check them);
without it they are only words.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Key, Shaped
else:
    try:
        from jaxtyping import Array, Bool, Float, Int, Key, Shaped
    except ImportError:

        class _Words:
            def __class_getitem__(cls, item: Any) -> Any:
                return Any

        Array = Any
        Bool = Float = Int = Key = Shaped = _Words

__all__ = ["Array", "Bool", "Float", "Int", "Key", "Shaped"]
