"""The command from end to end on a miniature data set: what it writes, and what it refuses."""

import functools
import json
import logging
import shutil
import weakref
import zipfile
from collections import Counter

import jax
import numpy as np
import pytest
from miniature import SMALL, is_complete, kolektor
from PIL import Image

from jaxsode import Detector, cli
from jaxsode.algebra.precision import EIGENVECTORS, PRECISIONS
from jaxsode.commands import run
from jaxsode.commands.run import main
from jaxsode.datasets import Dataset
from jaxsode.errors import ArgumentError
from jaxsode.experiment.decoded import Decoded
from jaxsode.experiment.evaluate import Experiment
from jaxsode.experiment.plan import Request, complete
from jaxsode.method import Method
from jaxsode.report import METRICS, flatten


@pytest.fixture
def data(tmp_path, monkeypatch):
    is_complete(monkeypatch)
    return kolektor(tmp_path / "data")


def _run(data, output, *more):
    return main([*SMALL, "--data-dir", str(data), "--output", str(output), *more])


def _result(folder):
    return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))


def test_what_a_run_leaves(data, tmp_path, capsys):
    assert _run(data, tmp_path / "out") == 0
    out = tmp_path / "out"
    result = _result(out)
    assert [fold["fold"] for fold in result["folds"]] == ["1", "2", "3"]
    for fold in result["folds"]:
        # fitted on the five good pictures of each of the two other units
        assert (fold["train"], fold["test"]) == (10, 6)
        values = [*fold["pixel_auroc"].values(), *fold["pro"].values(), fold["image_auroc"]]
        assert all(0 <= value <= 1 for value in values)
        # a black crack on grey noise: random features see that much
        assert fold["pixel_auroc"]["pooled"] > 0.9
    assert result["schema"] == 2
    for summary in (result["mean"], result["std"]):  # one shape everywhere
        assert list(flatten(summary)) == list(METRICS)
        assert {name: type(value) for name, value in summary.items()} == {
            name: type(result["folds"][0][name]) for name in summary
        }
    pooled = [fold["pixel_auroc"]["pooled"] for fold in result["folds"]]
    assert result["mean"]["pixel_auroc"]["pooled"] == pytest.approx(np.mean(pooled))
    assert result["std"]["pixel_auroc"]["pooled"] == pytest.approx(np.std(pooled, ddof=1))
    assert {"compile_s", "extract_s", "fit_s", "score_s", "pictures_per_s"} <= set(result["timing"])
    assert result["memory"]["process_peak"] > 0
    assert result["environment"]["versions"]["jax"] == jax.__version__
    assert result["config"]["epsilon"] == 0.01
    assert "mean nothing" in result["weights"]["note"]

    panels = sorted(path.relative_to(out).as_posix() for path in out.glob("maps/*/*.png"))
    assert len(panels) == 18
    assert panels[0] == "maps/1/kos02-Part0.png"
    panel = np.asarray(Image.open(out / panels[0]))
    assert panel.shape == (64, 3 * 32 + 2 * 4, 3)
    detector = Detector.load(out / "detector" / "1")
    assert int(detector.count) == 10

    printed = capsys.readouterr().err
    assert "± std" in printed
    assert "mean nothing" in printed


def test_the_same_seed_gives_the_same_numbers(data, tmp_path):
    results = []
    for name in ("a", "b"):
        assert _run(data, tmp_path / name, "--maps", "none", "--no-save-detector") == 0
        result = _result(tmp_path / name)
        for changing in ("timing", "memory"):
            del result[changing]
        results.append(result)
        assert not (tmp_path / name / "maps").exists()
        assert not (tmp_path / name / "detector").exists()
    assert results[0] == results[1]


def test_a_sweep_on_features_extracted_once(data, tmp_path):
    sweep = [
        "--k",
        "2",
        "8",
        "--seed",
        "0",
        "1",
        "--embedding",
        "semi-orthogonal",
        "identity",
        "--layers",
        "1",
    ]
    assert _run(data, tmp_path / "sweep", *sweep, "--fold", "1", "--maps", "defective") == 0
    summary = json.loads((tmp_path / "sweep" / "summary.json").read_text(encoding="utf-8"))
    assert summary["schema"] == 2
    summaries = summary["methods"]
    names = [f"semi-orthogonal-k{k}-seed{seed}" for k in (2, 8) for seed in (0, 1)] + ["identity"]
    assert sorted(p.name for p in (tmp_path / "sweep").iterdir()) == sorted([*names, *_SUMMARIES])
    assert [s["setting"]["k"] for s in summaries] == [2, 2, 8, 8, None]
    assert len(list((tmp_path / "sweep" / names[0] / "maps").rglob("*.png"))) == 1
    bare = ["--maps", "none", "--no-save-detector", "--category", "1", "--layers", "1", "--seed", "0", "1"]
    assert _run(data, tmp_path / "bare", *bare) == 0
    assert _result(tmp_path / "bare" / names[3])["folds"] == summaries[3]["folds"]
    # one of them alone, features not kept, is the same
    assert _run(data, tmp_path / "alone", "--k", "8", "--seed", "1", "--fold", "1", "--layers", "1") == 0
    assert _result(tmp_path / "alone")["folds"] == summaries[3]["folds"]


_SUMMARIES = [f"summary.{kind}" for kind in ("json", "csv", "md")]


def test_seeds_multiply_what_draws_and_nothing_else(data, tmp_path):
    """Each method of a plan has a name, and so a folder, of its own."""
    every = ["local", "global", "global-one-mean", "dual", "full-rank", *EIGENVECTORS]
    papers = functools.partial(Request, epsilon=("0.01",))
    plan = complete(papers(k=(4, 8), seed=(3, 5), precision=tuple(every), embedding=("identity",)))
    chosen = [
        f"identity-k{k}-{name}{seed}"
        for name in EIGENVECTORS
        for k in (4, 8)
        for seed in (("-seed3", "-seed5") if PRECISIONS[name].draws else ("",))
    ]
    assert any(name.endswith("seed5") for name in chosen)
    once = ["identity", *(f"identity-{name}" for name in every[1:5])]
    assert [str(method) for method in plan.methods] == [*once, *chosen]
    drawn = complete(papers(k=(4,), seed=(3, 5), precision=("local", "dual"), embedding=("sampled",)))
    assert [str(method) for method in drawn.methods] == [
        f"sampled-k4{name}-seed{seed}" for name in ("", "-dual") for seed in (3, 5)
    ]
    # and by the command: neither is lost
    asked = [
        "--embedding",
        "identity",
        "--precision",
        "eigenvectors-lower",
        "--seed",
        "0",
        "1",
        "--layers",
        "1",
    ]
    assert _run(data, tmp_path / "out", *asked, "--fold", "1", "--maps", "none", "--no-save-detector") == 0
    names = [f"identity-k8-eigenvectors-lower-seed{seed}" for seed in (0, 1)]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*names, *_SUMMARIES])


def test_two_methods_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(Method, "__str__", lambda method: "one")
    with pytest.raises(ArgumentError, match="two methods of this sweep are called one: run them apart"):
        complete(Request(seed=(0, 1)))


def test_a_run_leaves_no_listener(data, tmp_path):
    from jax._src import monitoring

    before = list(monitoring.get_event_duration_listeners())
    assert _run(data, tmp_path / "out", "--fold", "1", "--maps", "none", "--no-save-detector") == 0
    _run(data, tmp_path / "refused", "--fold", "7")
    assert monitoring.get_event_duration_listeners() == before


def test_a_users_home_folder(data, tmp_path, monkeypatch, capsys):
    """A shell leaves `--output=~/x` as it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    given = [*SMALL, "--fold", "1", "--maps", "none", "--no-save-detector"]
    assert main([*given, "--data-dir=~/data/KolektorSDD", "--output=~/out"]) == 0
    assert (tmp_path / "out" / "metrics.json").exists()
    assert not (tmp_path / "~").exists()
    capsys.readouterr()
    weights = ["--weights=~/none.pth", "--data-dir=~/data/KolektorSDD", "--output=~/x"]
    _refused(capsys, [*given, *weights], str(tmp_path / "none.pth"))
    _refused(capsys, [*given, "--output=~nobody-at-all/x"], "~nobody-at-all/x: no home folder is known")


def test_nothing_compiles_twice(data, tmp_path, caplog):
    """Three folds, an odd last batch in fitting and in scoring: each program is compiled once."""
    jax.clear_caches()
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        assert _run(data, tmp_path / "out", "--maps", "none", "--no-save-detector") == 0
    compiled = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Compiling")]
    # `stage` puts a NumPy array on the device, here the weights'; all else is computation.
    compiled = [message for message in compiled if "jit(stage)" not in message]
    for name in ("_extract", "embed", "_place", "_update_by", "_factorise", "_score"):
        assert sum(f"jit({name})" in message for message in compiled) == 1, (name, compiled)
    assert len(compiled) == len(set(compiled))


def test_block_by_block_gives_the_same_numbers(data, tmp_path, capsys):
    plain = ["--maps", "none", "--no-save-detector", "--fold", "1"]
    assert _run(data, tmp_path / "whole", *plain) == 0
    assert _run(data, tmp_path / "blocks", *plain, "--memory-gb", "0.00004") == 0
    whole, blocks = _result(tmp_path / "whole"), _result(tmp_path / "blocks")
    assert blocks["timing"]["blocks_s"] > 0 == whole["timing"]["blocks_s"]
    for name, value in flatten(whole["mean"]).items():
        assert abs(flatten(blocks["mean"])[name] - value) < 1e-4
    capsys.readouterr()
    assert _run(data, tmp_path / "saved", "--fold", "1", "--memory-gb", "0.00005") == 0
    assert _result(tmp_path / "saved")["timing"]["blocks_s"] > 0
    assert len(list((tmp_path / "saved" / "maps").rglob("*.png"))) == 6
    detector = Detector.load(tmp_path / "saved" / "detector" / "1")
    assert int(detector.count) == 10
    assert len(list((tmp_path / "saved" / "detector" / "1").glob("rows-*"))) > 1
    capsys.readouterr()
    given = [*SMALL, "--data-dir", str(data), "--output", str(tmp_path / "out"), "--memory-gb", "1e-9"]
    _refused(capsys, given, "can't hold one row")


@pytest.mark.parametrize("embedded", ["kept", "anew"])
@pytest.mark.parametrize("features", ["kept", "anew"])
@pytest.mark.parametrize("fold", ["1", "all"])
def test_in_blocks_each_picture_is_decoded_once(data, tmp_path, monkeypatch, fold, features, embedded):
    """Whether or not there is room for features or embedded ones, which then are made for every block."""
    if embedded == "anew":
        monkeypatch.setattr(run, "Experiment", functools.partial(Experiment, host_memory=0))
    if features == "anew":
        monkeypatch.setattr("jaxsode.experiment.features.free_memory", lambda: 0)
    decoded = _decodings(monkeypatch)
    assert _run(data, tmp_path / "out", "--fold", fold, "--memory-gb", "0.00005", "--no-save-detector") == 0
    assert _result(tmp_path / "out")["timing"]["blocks_s"] > 0
    assert max(decoded.values()) == 1


def _decodings(monkeypatch):
    """Counts how often each picture and mask is decoded."""
    decoded = Counter()

    def counted(kind):
        plain = getattr(Dataset, kind)

        def decode(self, index, *, size=None):
            decoded[kind, index] += 1
            return plain(self, index, size=size)

        monkeypatch.setattr(Dataset, kind, decode)

    counted("picture")
    counted("mask")
    return decoded


@pytest.mark.parametrize(
    "more",
    [["--fold", "1"], ["--fold", "all"], ["--k", "2", "8"], ["--memory-gb", "0.00005"]],
)
def test_each_test_picture_is_decoded_once_and_none_is_held(data, tmp_path, monkeypatch, more):
    """Streamed, with features that are kept, in a sweep, and block by block."""
    decoded, alive, most = _decodings(monkeypatch), weakref.WeakSet(), 0

    def watched(self, indices):
        nonlocal most
        for batch in batches_of(self, indices):
            alive.add(batch)
            most = max(most, len(alive))
            yield batch

    batches_of = Decoded.batches
    monkeypatch.setattr(Decoded, "batches", watched)
    assert _run(data, tmp_path / "out", *more) == 0
    tested = 6 if "1" in more else 18
    assert len(list((tmp_path / "out").rglob("*.png"))) == tested * (2 if "--k" in more else 1)
    assert max(decoded.values()) == 1
    assert most <= 3


def test_other_precisions_by_the_command(data, tmp_path):
    sweep = ["--precision", "global", "global-one-mean", "--embedding", "semi-orthogonal"]
    assert _run(data, tmp_path / "global", *sweep, "--fold", "1", "--maps", "none") == 0
    names = ["semi-orthogonal-k8-global-seed0", "semi-orthogonal-k8-global-one-mean-seed0"]
    assert {path.name for path in (tmp_path / "global").iterdir()} == {*names, *_SUMMARIES}
    rank = ["--embedding", "identity", "--precision", "eigenvectors-lower", "full-rank", "--layers", "1"]
    assert _run(data, tmp_path / "full", *rank, "--fold", "1", "--maps", "none") == 0
    loaded = Detector.load(tmp_path / "full" / "identity-k8-eigenvectors-lower-seed0" / "detector" / "1")
    assert loaded.precision.matrix.shape[2:] == (8, 64)


def test_the_commands(data, tmp_path, capsys):
    assert cli.main(["run", *SMALL, "--data-dir", str(data), "-o", str(tmp_path / "out"), "--fold", "1"]) == 0
    assert (tmp_path / "out" / "metrics.json").exists()
    capsys.readouterr()
    assert cli.main([]) == cli.main(["--help"]) == 0
    assert "convert" in capsys.readouterr().out
    assert cli.main(["fly"]) == 2
    assert (
        capsys.readouterr().err
        == f"error: there is no command 'fly': choose one of {', '.join(cli.COMMANDS)}\n"
    )
    assert cli.main(["convert", "resnet18", "--from", "/nowhere.pth", "--out", str(tmp_path / "x")]) == 2
    assert "/nowhere.pth" in capsys.readouterr().err


def _refused(capsys, arguments, *words):
    """Exit code 2 and one line that has these words."""
    try:
        code = main(arguments)
    except SystemExit as stop:  # the parser's own refusals
        code = stop.code
    assert code == 2
    printed = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert len(printed) == 1, printed
    for word in words:
        assert word in printed[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--k", "449"], ("--k 449", "448 features", "choose 1 ≤ k ≤ 448")),
        (["--k", "0"], ("--k 0 is below 1",)),
        (["--epsilon", "0"], ("--epsilon 0", "must be above 0")),
        (["--epsilon", "-1"], ("--epsilon -1", "must be above 0")),
        (["--fold", "4"], ("--fold 4", "choose 1, 2, 3 or all")),
        (["--backbone", "resnet19"], ("resnet19", "resnet18")),
        (["--layers", "7"], ("layers", "resnet18")),
        (["--size", "8", "8"], ("--size 8 8 is too small",)),
        (["--epsilon", "inf"], ("--epsilon inf", "must be above 0, and finite")),
        (["--epsilon", "5", "6x"], ("'6x' is neither a number nor a share: give 0.01, 5% or auto",)),
        (["--epsilon", "auto", "--precision", "global"], ("epsilon 'auto'", "give a number, or a share")),
        (["--pooling", "3,x"], ("--pooling 3,x is no window: give 3, or one for each layer, 3,1,1",)),
        (["--pooling", "3,1"], ("pooling 3,1 for 3 feature maps",)),
        (["--align", "cubic"], ("--align cubic is unknown: choose one of nearest, bilinear",)),
        (["--scale", "nonsense"], ("--scale nonsense is unknown: choose one of none, layer",)),
        (["--preset", "best"], ("--preset best is unknown: choose one of paper, recommended",)),
        (["--picture-score", "mean"], ("--picture-score mean is unknown: choose one of max, top1%",)),
        (["--shrinkage", "0.5"], ("--shrinkage is of the precision shrunk: add --precision shrunk",)),
        (["--variance-weight", "2"], ("variance_weight = 2.0 is not from 0 to 1",)),
        (["--sigma", "nan"], ("--sigma nan", "must be at least 0, and finite")),
        (["--memory-gb", "inf"], ("--memory-gb inf", "finite")),
        (["--seed", "-1"], ("--seed -1 is out of range",)),
        (["--seed", "4294967296"], ("--seed 4294967296 is out of range", "2³²")),
        (["--data-dir", "/nowhere"], ("/nowhere", "vicos.si")),
        (["--weights", "/nowhere.pth"], ("/nowhere.pth",)),
        (["--embedding", "nonsense"], ("--embedding nonsense is unknown", "semi-orthogonal, sampled")),
        (["--precision", "local", "nonsense"], ("--precision nonsense is unknown", "dual, full-rank")),
        (["--colours", "nonsense"], ("--colours nonsense is unknown", "jet, cubehelix")),
    ],
)
def test_bad_arguments(data, tmp_path, capsys, arguments, words):
    given = [*SMALL, "--data-dir", str(data), "--output", str(tmp_path / "out"), *arguments]
    _refused(capsys, given, *words)
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


def test_an_output_folder_that_holds_something(data, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    given = [*SMALL, "--data-dir", str(data), "--output", str(tmp_path / "out")]
    _refused(capsys, given, str(tmp_path / "out"), "holds something already")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    _refused(capsys, [*given[:-1], str(tmp_path / "file")], "is a file")


def test_an_empty_output_folder_is_taken(data, tmp_path):
    (tmp_path / "out").mkdir()
    assert _run(data, tmp_path / "out", "--fold", "1", "--maps", "none", "--no-save-detector") == 0
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["metrics.json"]


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _wrong_mask(path):
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: _truncate(d / "kos01" / "Part1.jpg"), ("Part1.jpg",)),
        (lambda d: (d / "kos01" / "Part1.jpg").write_bytes(b""), ("Part1.jpg",)),
        (lambda d: (d / "kos01" / "Part1_label.bmp").unlink(), ("Part1",)),
        (lambda d: _wrong_mask(d / "kos01" / "Part1_label.bmp"), ("Part1_label.bmp", "10")),
        (lambda d: shutil.rmtree(d / "kos05"), ("holds 12 of KolektorSDD's 18 pictures", "kos05")),
    ],
)
def test_bad_data(data, tmp_path, capsys, spoil, words):
    spoil(data)
    _refused(capsys, [*SMALL, "--data-dir", str(data), "--output", str(tmp_path / "out")], *words)
    assert not (tmp_path / "out").exists()


def test_a_zip_as_published_and_one_cut_short(data, tmp_path, capsys):
    whole = tmp_path / "KolektorSDD.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for path in sorted(data.rglob("*.*")):
            archive.write(path, path.relative_to(data.parent))
    plain = ["--maps", "none", "--no-save-detector", "--fold", "1"]
    assert _run(whole, tmp_path / "zip", *plain) == 0
    assert _run(data, tmp_path / "folder", *plain) == 0
    assert _result(tmp_path / "zip")["folds"] == _result(tmp_path / "folder")["folds"]
    capsys.readouterr()
    _truncate(whole)
    _refused(capsys, [*SMALL, "--data-dir", str(whole), "--output", str(tmp_path / "o")], "KolektorSDD.zip")


def test_weights_of_another_backbone(data, tmp_path, capsys):
    file = tmp_path / "other.npz"
    np.savez(file, **{"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)})
    given = [*SMALL, "--data-dir", str(data), "--output", str(tmp_path / "out"), "--weights", str(file)]
    _refused(capsys, given, "other.npz", "resnet18")
