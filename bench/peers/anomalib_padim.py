"""anomalib's PadimModel with our weights in its network; nothing of it is changed and nothing downloaded."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from anomalib.models.image.padim.torch_model import PadimModel  # pyright: ignore[reportMissingImports]

from bench.peers import torch_backbone
from bench.peers.torch_backbone import DEVICE, normalised
from bench.setting import EPSILON, Equivalent, Parts, Setting, Stage

STABILISED = 1e-5
"""What it adds to the diagonal beside its 0.01."""
BATCH_NORM_EPSILON = 1e-5
MARGIN = 24
"""Its filter mirrors without repeating the edge: a radius of 16, and what bilinear upsampling adds."""


def build(setting: Setting, parts: Parts) -> "AnomalibPadim":
    """See `bench.setting.build`."""
    setting.unpooled("anomalib")
    return AnomalibPadim(setting, parts)


class AnomalibPadim:
    """See `bench.setting.Implementation`."""

    def __init__(self, setting: Setting, parts: Parts):
        self.setting = setting
        torch.manual_seed(0)  # of the features that it chooses
        layers = ["layer1", "layer2", "layer3"]
        made = PadimModel(setting.backbone, layers, pre_trained=False, n_features=setting.k)
        self.model = made.to(DEVICE).eval()
        network = self.model.feature_extractor.feature_extractor
        network.load_state_dict(_unfolded(parts.tensors, network.state_dict()))
        chosen = self.model.idx.cpu().numpy()
        W = np.zeros((self.model.n_features_original, setting.k), np.float32)
        W[chosen, np.arange(setting.k)] = 1
        # It divides by N − 1: C N / (N − 1) + εI = N / (N − 1) · (C + ε (N − 1) / N · I).
        self.equivalent = Equivalent(
            W=W,
            epsilon=lambda n: (EPSILON + STABILISED) * (n - 1) / n,
            scale=lambda n: ((n - 1) / n) ** 0.5,
            margin=MARGIN,
        )

    @torch.inference_mode()
    def fit(self, batches: Iterable[np.ndarray]) -> PadimModel:
        model = self._unfitted().train()
        for pictures in batches:
            model(normalised(pictures))
        model.fit()
        return model.eval()

    @torch.inference_mode()
    def score(self, model: PadimModel, pictures: np.ndarray) -> torch.Tensor:
        return model(normalised(pictures)).anomaly_map[:, 0]

    def fetch(self, maps: torch.Tensor) -> np.ndarray:
        return maps.cpu().numpy()

    def wait(self, value: Any) -> Any:
        return torch_backbone.wait(value)

    @torch.inference_mode()
    def blank(self) -> PadimModel:
        model = self._unfitted()
        x = normalised(np.zeros((1, *self.setting.size, 3), np.uint8))
        locations = model.feature_extractor(x)["layer1"].shape[-2:].numel()
        k = self.setting.k
        model.gaussian.mean = torch.ones((k, locations), device=DEVICE)
        model.gaussian.inv_covariance = torch.ones((locations, k, k), device=DEVICE)
        return model.eval()

    @torch.inference_mode()
    def fit_stages(self, batches: Sequence[np.ndarray]) -> dict[str, Stage]:
        model = self._unfitted()
        extract, rows = model.feature_extractor, len(batches[0])
        maps = extract(normalised(batches[0]))
        z = torch.vstack([model.generate_embedding(extract(normalised(batch))) for batch in batches])
        return {
            "CNN": _stage(lambda: extract(normalised(batches[0])), rows),
            "embedding": _stage(lambda: model.generate_embedding(maps), rows),
            "moments and factorisation": _stage(lambda: model.gaussian.fit(z), 0),
        }

    @torch.inference_mode()
    def score_stages(self, model: PadimModel, pictures: np.ndarray) -> dict[str, Stage]:
        rows, generator = len(pictures), model.anomaly_map_generator
        maps = model.feature_extractor(normalised(pictures))
        z = model.generate_embedding(maps)
        statistics = [model.gaussian.mean, model.gaussian.inv_covariance]
        d = generator.compute_distance(z, statistics)
        return {
            "CNN": _stage(lambda: model.feature_extractor(normalised(pictures)), rows),
            "embedding": _stage(lambda: model.generate_embedding(maps), rows),
            "distance": _stage(lambda: generator.compute_distance(z, statistics), rows),
            "map": _stage(
                lambda: generator.smooth_anomaly_map(generator.up_sample(d, self.setting.size)), rows
            ),
        }

    def device_peak(self) -> int | None:
        return torch_backbone.device_peak()

    def _unfitted(self) -> PadimModel:
        """The model, its statistics dropped. There is only one: a model fitted before is no more."""
        self.model.gaussian = type(self.model.gaussian)()
        return self.model


def _unfolded(tensors: Mapping[str, np.ndarray], wanted: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Our kernels and biases for convolutions without bias and batch norms that only add it."""
    made = {}
    for name, tensor in wanted.items():
        path, _, leaf = name.rpartition(".")
        conv = path.replace("downsample.0", "downsample").replace("downsample.1", "downsample")
        conv = conv if "downsample" in conv else conv.replace("bn", "conv")
        if tensor.ndim == 4:
            kernel = tensors[f"{conv}.kernel"].transpose(3, 2, 0, 1)
            made[name] = torch.from_numpy(np.ascontiguousarray(kernel))
        elif leaf == "bias":
            made[name] = torch.tensor(tensors[f"{conv}.bias"])
        elif leaf == "running_var":
            made[name] = torch.full_like(tensor, 1 - BATCH_NORM_EPSILON)
        elif leaf == "weight":
            made[name] = torch.ones_like(tensor)
        else:  # running_mean, num_batches_tracked
            made[name] = torch.zeros_like(tensor)
    return made


def _stage(call: Any, pictures: int) -> Stage:
    return Stage(torch.inference_mode()(call), pictures)
