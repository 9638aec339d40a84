"""The command runs with every backbone there is."""

import json

import pytest

from jaxsode.backbones import BACKBONES
from jaxsode.commands.run import main


@pytest.mark.slow  # ten compilations, and the demo's pictures drawn once
def test_the_demo_runs_with_every_backbone(tmp_path, capsys):
    for name in BACKBONES:
        out = tmp_path / name
        arguments = ["--dataset", "demo", "--backbone", name, "--weights", "random", "--category", "object"]
        assert main([*arguments, "--maps", "none", "--no-save-detector", "--output", str(out)]) == 0
        assert "random weights: the numbers mean nothing" in capsys.readouterr().err
        result = json.loads((out / "metrics.json").read_text())
        assert result["weights"]["note"] == "random weights: the numbers mean nothing"
        assert 0 <= result["folds"][0]["pixel_auroc"]["pooled"] <= 1
