"""Score pictures by the exported detector: python score_stablehlo.py PICTURE …

Needs jax, flatbuffers and pillow; not jaxsode.
"""

from pathlib import Path

import jax
import numpy as np
from jax import export
from prepare import main

here = Path(__file__).parent
with np.load(here / "model.npz") as file:
    arrays = [jax.device_put(file[name]) for name in file.files]
judge = jax.jit(export.deserialize(bytearray((here / "model.stablehlo").read_bytes())).call)
main(lambda pictures: judge(arrays, pictures))
