"""ResNet-18 with ImageNet weights on a real picture, against features computed by another framework."""

import jax
import numpy as np

from jaxsode.backbones import registry


def test_features_of_a_real_picture(real_data):
    weights = next((real_data / "weights").glob("resnet18_*_folded.npz"))
    with np.load(weights) as file:
        tensors = {
            name.replace(".weight", ".kernel"): t.transpose(2, 3, 1, 0) if t.ndim == 4 else t
            for name, t in file.items()
        }
    backbone = registry.with_parameters(registry.create("resnet18"), tensors)
    with np.load(real_data / "reference" / "fold1_k100.npz") as reference:
        grey = reference["resized"].astype(np.float32) / 255
        expected = [reference[key][0] for key in ("layer1_stride8", "layer2_stride4", "layer3_stride2")]

    maps = jax.jit(lambda backbone, x: backbone(x))(backbone, np.repeat(grey[..., None], 3, axis=-1))

    assert [m.shape for m in maps] == [(1, 176, 64, 64), (1, 88, 32, 128), (1, 44, 16, 256)]
    for ours, theirs, step in zip(maps, expected, (8, 4, 2), strict=True):
        error = np.linalg.norm(ours[0, ::step, ::step] - theirs) / np.linalg.norm(theirs)
        assert error <= 1e-4
