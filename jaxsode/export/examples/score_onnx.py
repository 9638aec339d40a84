"""Score pictures by the exported detector: python score_onnx.py PICTURE …

Needs onnxruntime, numpy and pillow; neither jax nor jaxsode.
"""

from pathlib import Path

import onnxruntime
from prepare import main

session = onnxruntime.InferenceSession(
    Path(__file__).parent / "model.onnx", providers=["CPUExecutionProvider"]
)
outputs = [output.name for output in session.get_outputs()]
main(lambda pictures: dict(zip(outputs, session.run(outputs, {"pictures": pictures}), strict=True)))
