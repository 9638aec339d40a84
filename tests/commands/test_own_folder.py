"""The command on a folder of one's own: fitted pictures scored as if unseen, other methods, what is said."""

import csv
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from jaxsode import Detector, Method, load_backbone, metrics, pictures, report
from jaxsode.commands.compare import main as compare
from jaxsode.commands.run import main
from jaxsode.datasets import Split
from jaxsode.errors import ArgumentError
from jaxsode.experiment.plan import Request, complete
from jaxsode.metrics.pixels import Pixels
from jaxsode.peers import training

SIZE = (64, 32)


def _picture(seed, *, scratched=False):
    rng = np.random.default_rng(seed)
    pixels = rng.integers(90, 166, (*SIZE, 3), dtype=np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    if scratched:
        mask[20:32, 8:20] = 255
        pixels[mask > 0] = 0
    return Image.fromarray(pixels), Image.fromarray(mask)


@pytest.fixture
def own(tmp_path):
    for name in ("good", "bad", "masks"):
        (tmp_path / "own" / name).mkdir(parents=True)
    for i in range(9):
        _picture(i)[0].save(tmp_path / "own" / "good" / f"{i}.png")
    for i in range(3):
        picture, mask = _picture(50 + i, scratched=True)
        picture.save(tmp_path / "own" / "bad" / f"{i}.png")
        mask.save(tmp_path / "own" / "masks" / f"{i}.png")
    return tmp_path / "own"


def _run(own, output, *more, size=SIZE):
    arguments = ["--dataset", "folder", "--data-dir", str(own), "--size", *map(str, size)]
    arguments += ["--weights", "random", "--layers", "1", "--k", "8", "--batch-size", "4"]
    arguments += [] if "--preset" in more else ["--preset", "paper"]
    return main([*arguments, "--output", str(output), *more])


def _only(output):
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"))


def test_fitted_pictures_stand_for_unseen_ones_by_leave_one_out(own, tmp_path, capsys):
    assert _run(own, tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "good pictures fitted: 9; tested: 3, 3 bad (3 with masks)" in said
    assert "each left out in turn, stand for those of unseen ones" in said
    result = _only(tmp_path / "out")
    (fold,) = result["folds"]
    assert (fold["train"], fold["test"], fold["left_out"]) == (9, 3, 9)
    assert result["dataset"]["preparation"]["upright"]
    assert len(list((tmp_path / "out" / "maps" / "folder").glob("*.png"))) == 12

    # The same by the library: the good ones' maps are those of refits without each.
    backbone = load_backbone("resnet18", weights="random", layers=(1,))
    good, bad = (pictures.batches(own / name, size=SIZE, batch_size=4) for name in ("good", "bad"))
    detector = Detector.fit(good, backbone, Method(k=8, layers=(1,)))
    maps = [detector.leave_one_out(good), *map(detector.anomaly_map, bad)]
    masks = np.zeros((12, *SIZE), np.uint8)
    masks[9:, 20:32, 8:20] = 255
    expected = metrics.evaluate(
        np.concatenate(list(map(np.asarray, maps))), masks, np.arange(12) >= 9, paper_full_mask=False
    )
    assert fold["pixel_auroc"] == pytest.approx(dict(expected["pixel_auroc"]), abs=1e-6)
    assert fold["image_auroc"] == pytest.approx(expected["image_auroc"], abs=1e-6)


def test_names_too_long_for_a_file(own, tmp_path):
    deep = own / "good" / "/".join(["ö" * 50] * 3)
    deep.mkdir(parents=True)
    for i in range(2):
        (own / "good" / f"{i}.png").rename(deep / f"{i}.png")
    assert _run(own, tmp_path / "out") == 0
    assert len(list((tmp_path / "out" / "maps" / "folder").glob("*ö-[01]-[0-9]*.png"))) == 2
    assert len(list((tmp_path / "out" / "maps" / "folder").glob("*.png"))) == 12


def test_without_defective_pictures_the_run_goes_on(own, tmp_path, capsys):
    assert _run(own / "good", tmp_path / "out", "--maps", "none") == 0
    assert "no defective pictures: no metric can be computed" in capsys.readouterr().err
    (fold,) = _only(tmp_path / "out")["folds"]
    assert fold["image_auroc"] is None
    assert fold["pro"] == {"pooled": None, "paper": None}
    assert int(Detector.load(tmp_path / "out" / "detector" / "folder").count) == 9


def test_peers_beside_the_gaussian_and_resumed(own, tmp_path, capsys):
    student = ["--student-width", "0.05", "--student-steps", "2", "--student-every", "1"]
    methods = [
        "--method",
        "gaussian",
        "spade",
        "student",
        "--neighbours",
        "2",
        "3",
        *student,
        "--hold-out",
        "0.3",
    ]
    assert _run(own, tmp_path / "out", *methods) == 0
    names = ["semi-orthogonal-k8-seed0", "spade-K2", "spade-K3", "student-width0.05-steps2-seed0"]
    results = {name: _only(tmp_path / "out" / name) for name in names}
    for name, result in results.items():
        (fold,) = result["folds"]
        assert (fold["train"], fold["test"], fold["left_out"]) == (6, 6, 0)
        assert 0 <= fold["pixel_auroc"]["pooled"] <= 1
        assert ("model" in fold) == (not name.startswith("semi"))
    assert results["spade-K3"]["setting"]["neighbours"] == 3
    kept = 4 * 6 * 16 * 8 * 64  # of six pictures, layer 1
    assert f"memory: spade-K2 keeps {kept / 1e9:.3g} GB of 6 pictures" in capsys.readouterr().err
    assert results["spade-K2"]["folds"][0]["model"]["grid"] == [16, 8]
    assert not list((tmp_path / "out" / "spade-K2").glob("maps"))  # not on the distances' scale
    training = tmp_path / "out" / "student-width0.05-steps2-seed0" / "training" / "folder"
    assert (training / "teacher").is_dir()
    curves = results["student-width0.05-steps2-seed0"]["folds"][0]["model"]["curves"]
    assert [step for step, _, _ in curves["teacher"]] == [1, 2]


def test_how_far_off_merged_scores_can_be_is_said(own, tmp_path, monkeypatch, capsys):
    assert _run(own, tmp_path / "exact", "--maps", "none") == 0
    assert "not exact" not in capsys.readouterr().err
    plain = Pixels.__init__

    def full(self, *given, **options):
        plain(self, *given, **options)
        self._needed = 2**40

    monkeypatch.setattr(Pixels, "__init__", full)
    assert _run(own, tmp_path / "merged", "--maps", "none", "--metric-memory", "0.02") == 0
    (fold,) = _only(tmp_path / "merged")["folds"]
    bound = max(*fold["error_bound"]["pixel_auroc"].values(), *fold["error_bound"]["pro"].values())
    said = f"seed0 · not exact, for want of --metric-memory: at most {bound:.1e} off"
    assert said in capsys.readouterr().err


def test_defects_that_are_cut_off_are_named(own, tmp_path, capsys):
    mask = np.zeros(SIZE, np.uint8)
    mask[:20] = 255  # of 64 rows the middle 16 are kept
    Image.fromarray(mask).save(own / "masks" / "2.png")
    assert _run(own, tmp_path / "out", "--maps", "none", "--resize", "crop", size=(32, 64)) == 0
    (fold,) = _only(tmp_path / "out")["folds"]
    assert fold["hidden"] == ["bad/2"]
    assert "1 defective pictures show nothing of their defect at this size" in capsys.readouterr().err


def test_pictures_that_changed_are_not_gone_on_with(own, tmp_path, monkeypatch, capsys):
    plain = report.write_json

    def write(path, content):
        plain(path, content)
        if path.name == "metrics.json":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(report, "write_json", write)
        assert _run(own, tmp_path / "out", "--maps", "none", "--seed", "0", "1") == 130
    for name, other in (("good/0.png", _picture(99)[0]), ("masks/0.png", _picture(0, scratched=True)[1])):
        content = (own / name).read_bytes()
        other.transpose(Image.Transpose.ROTATE_180).save(own / name)
        assert _run(own, tmp_path / "out", "--maps", "none", "--seed", "0", "1", "--resume") == 2
        assert "out.partial was begun with pictures " in capsys.readouterr().err.splitlines()[-1]
        (own / name).write_bytes(content)
    assert _run(own, tmp_path / "out", "--maps", "none", "--seed", "0", "1", "--resume") == 0


def test_a_training_that_is_stopped_keeps_its_checkpoints(own, tmp_path, monkeypatch, capsys):
    methods = ["--method", "student", "--hold-out", "0.3"]
    methods += ["--student-width", "0.05", "--student-steps", "2", "--student-every", "1"]
    plain, steps = training._Checkpoints.write, []

    def write(self, step, *state):
        steps.append(step)
        plain(self, step, *state)
        if len(steps) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(training._Checkpoints, "write", write)
    assert _run(own, tmp_path / "out", *methods) == 130
    says = capsys.readouterr().err.splitlines()[-1]
    partial = tmp_path / "out.partial"
    assert says == f"stopped by SIGINT: what was finished is in {partial}: --resume goes on there"
    assert _run(own, tmp_path / "out", *methods, "--resume") == 0
    assert steps[:2] == [1, 2]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--method", "spade"], "spade-K5 has no leave-one-out: set some apart with --hold-out"),
        (["--precision", "global"], "precision 'global' has no leave-one-out"),
        (["--memory-gb", "0.000025"], "in blocks, for want of memory, there is no leave-one-out"),
        (["--memory-gb", "0.000006"], "give more memory or a smaller k"),
        (["--resize", "pad", "--method", "spade", "--hold-out", "0.3"], "pad is for the method gaussian"),
        (["--method", "pca"], "--method pca is unknown: choose one of gaussian, spade, student"),
        (["--metric-memory", "-1"], "--metric-memory -1.0 must be above 0"),
        (["--metric-memory", "0.01"], "--metric-memory 0.01 is too little: give at least 0.017, in GB"),
        (
            ["--method", "gaussian", "spade", "--hold-out", "0.6"],
            "--neighbours 5 exceeds the 4 good pictures that are fitted on: ask for fewer",
        ),
        (["--download"], "leave --data-dir out"),
        (["--method", "spade", "--hold-out", "0.3", "--neighbours", "0"], "neighbours = 0"),
    ],
)
def test_what_can_not_be_is_one_line(own, tmp_path, capsys, more, says):
    assert _run(own, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert says in error
    assert not list(tmp_path.glob("out*"))


def test_options_of_a_folder_are_for_no_other(tmp_path, capsys):
    assert main(["--hold-out", "0.2", "--output", str(tmp_path / "out")]) == 2
    assert "--hold-out is for a folder of your own, not for demo" in capsys.readouterr().err


def test_a_picture_that_can_not_be_used(own, tmp_path, capsys):
    (own / "good" / "empty.png").write_bytes(b"")
    assert _run(own, tmp_path / "out") == 2
    assert "good/empty.png is empty" in capsys.readouterr().err
    assert _run(own, tmp_path / "out", "--on-bad-picture", "skip", "--maps", "none") == 0
    result = _only(tmp_path / "out")
    assert list(result["dataset"]["skipped"]) == ["good/empty.png"]
    assert result["folds"][0]["train"] == 9


def test_padded_and_drawn_at_the_size_of_the_original(own, tmp_path, capsys):
    for name in ("good", "bad", "masks"):
        for path in (own / name).iterdir():
            image = Image.open(path)
            image.crop((0, 0, 24, 64)).save(path)
    Image.fromarray(np.full((32, 32, 3), 128, np.uint8)).save(own / "bad" / "square.png")
    marked = np.zeros((32, 32), np.uint8)
    marked[8:16] = 255
    Image.fromarray(marked).save(own / "masks" / "square.png")
    assert _run(own, tmp_path / "out", "--resize", "pad", "--map-size", "original") == 0
    said = capsys.readouterr().err
    assert "of 64 × 32 the 64 × 24 that all fitted pictures show are judged" in said
    result = _only(tmp_path / "out")
    assert any("that all fitted pictures show" in note for note in result["dataset"]["notes"])
    shown = Detector.load(tmp_path / "out" / "detector" / "folder").preparation
    assert shown is not None
    assert (shown.resize, shown.shown, shown.upright) == ("pad", (0, 4, 64, 28), True)
    maps = tmp_path / "out" / "maps" / "folder"
    panel = np.asarray(Image.open(maps / "bad-0.png"))
    assert panel.shape == (64, 3 * 24 + 2 * 4, 3)
    heat = np.asarray(Image.open(maps / "bad-square.png"))[:, 36:68]
    assert heat.shape == (32, 32, 3)
    # All of the square is inside of the padded size, and its sides are beyond what the others show.
    assert (heat[:, :4] == 128).all()
    assert (heat[:, 28:] == 128).all()
    assert not (heat[:, 4:28] == 128).all(-1).any()


def test_the_memory_is_said_first(own, tmp_path, capsys):
    more = ["--hold-out", "0.3", "--maps", "none", "--no-save-detector"]
    assert _run(own, tmp_path / "out", *more, "--memory-gb", "0.00003") == 0
    said = capsys.readouterr().err
    taken = "16 × 8 locations of k = 8 take 0.000106 GB of 3e-05 GB at hand"
    line = f"memory: {taken}, and so in 4 blocks of rows"
    assert line in said
    assert said.index(line) < said.index("finished")


@pytest.mark.parametrize(
    ("more", "fits"),
    [
        (["--memory-gb", "0.0002"], "set some apart with --hold-out, or at most --size 80 40"),
        (["--memory-gb", "0.000013", "--hold-out", "0.3"], "a smaller k, or at most --size 120 60"),
    ],
)
def test_what_does_not_fit_names_the_largest_that_does(own, tmp_path, capsys, more, fits):
    assert _run(own, tmp_path / "out", *more, size=(128, 64)) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(fits)
    small = ["--maps", "none", "--no-save-detector"]
    assert _run(own, tmp_path / "out", *more, *small, size=fits.split()[-2:]) == 0


def test_heat_maps_whose_names_would_be_one(own, tmp_path):
    (own / "bad" / "more").mkdir()
    (own / "masks" / "more").mkdir()
    for seed, name in enumerate(("more-0", "more/0")):
        picture, mask = _picture(70 + seed, scratched=True)
        picture.save(own / "bad" / f"{name}.png")
        mask.save(own / "masks" / f"{name}.png")
    assert _run(own, tmp_path / "out", "--maps", "defective", "--no-save-detector") == 0
    names = sorted(path.stem for path in (tmp_path / "out" / "maps" / "folder").iterdir())
    assert len(names) == 5
    assert names[:3] == ["bad-0", "bad-1", "bad-2"]
    assert all(name.startswith("bad-more-0-") for name in names[3:])


def test_fitted_on_a_few_drawn_by_the_seed(own, tmp_path, capsys):
    few = ["--maps", "none", "--no-save-detector", "--hold-out", "0.3", "--seed", "0", "1"]
    for number in (2, 4):
        assert _run(own, tmp_path / f"of{number}", *few, "--fit-on", str(number)) == 0
        methods = json.loads((tmp_path / f"of{number}" / "summary.json").read_text(encoding="utf-8"))[
            "methods"
        ]
        assert [method["folds"][0]["train"] for method in methods] == [number, number]
        assert methods[0]["folds"][0]["pro"] != methods[1]["folds"][0]["pro"]
    assert _run(own, tmp_path / "all", *few) == 0
    capsys.readouterr()
    assert compare([str(tmp_path / name) for name in ("all", "of2", "of4")]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    assert [row.split("|")[1].strip() for row in first.splitlines()[2:]] == ["all", "fit_on 2", "fit_on 4"]
    assert second.startswith("| less all: mean difference, 95 % interval over seeds")
    assert compare(["--csv", str(tmp_path / "all"), str(tmp_path / "of2")]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["seed"], row["fit_on"], row["train"]) for row in rows] == [
        ("0", "", "6"),
        ("1", "", "6"),
        ("0", "2", "2"),
        ("1", "2", "2"),
    ]


def test_those_drawn_are_of_one_order_a_seed():
    split = Split("it", tuple(range(10, 30)), (1, 2), tuple(range(10, 30)))
    plans = {n: complete(Request(dataset="demo", fit_on=n, seed=(0, 1))) for n in (3, 8, 20, 21)}
    for seed in (0, 1):
        few, more, every = (plans[n].drawn(split, plans[n].methods[seed]) for n in (3, 8, 20))
        assert set(few.train) < set(more.train) < set(every.train)
        assert few.left_out == few.train
        assert every == split
    first, second = (plans[8].drawn(split, method).train for method in plans[8].methods)
    assert first != second
    with pytest.raises(ArgumentError, match="--fit-on 21 exceeds the 20 good pictures of it"):
        plans[21].drawn(split, plans[21].methods[0])
    with pytest.raises(ArgumentError, match="--fit-on 0 is too few"):
        complete(Request(dataset="demo", fit_on=0))


@pytest.mark.parametrize("given", [[], ["nothing"]])
def test_nothing_to_compare_is_one_line(tmp_path, capsys, given):
    assert compare([str(tmp_path / name) for name in given]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")


def test_runs_on_other_pictures_are_not_compared(own, tmp_path, capsys):
    few = ["--maps", "none", "--no-save-detector"]
    assert _run(own, tmp_path / "a", *few, "--hold-out", "0.3") == 0
    assert _run(own, tmp_path / "b", *few, "--hold-out", "0.5") == 0
    assert compare([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith("compare runs on the same pictures")
    assert "folder (6 pictures) and folder: folder (7 pictures)" in error


def test_a_split_is_found_whatever_its_case():
    one = Split("screw", (0,), (1,))
    dataset = SimpleNamespace(name="it", splits={"screw": one, "Zipper": one})
    plan = complete(Request(dataset="demo", fold=("Screw", "ZIPPER", "screw")))
    assert plan.splits(dataset) == ("screw", "Zipper")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ArgumentError, match="--fold nut is unknown to it: choose screw, Zipper or all"):
        complete(Request(dataset="demo", fold=("nut",))).splits(dataset)  # pyright: ignore[reportArgumentType]


def test_a_folder_of_no_place_is_refused_before_anything_is_looked_for():
    with pytest.raises(ArgumentError, match="name it by --data-dir"):
        complete(Request(dataset="folder"))


def test_a_sweeps_tables_have_what_must_be_known(own, tmp_path):
    few = ["--maps", "none", "--no-save-detector", "--hold-out", "0.3", "--seed", "0", "1"]
    assert _run(own, tmp_path / "out", *few) == 0
    notes = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["notes"]
    assert any("good pictures fitted: 6" in note for note in notes)
    assert all(f"- {note}" in (tmp_path / "out" / "summary.md").read_text(encoding="utf-8") for note in notes)


def test_a_folder_has_the_recommended_setting_and_few_pictures_are_said(own, tmp_path, capsys):
    arguments = ["--dataset", "folder", "--data-dir", str(own), "--size", *map(str, SIZE), "--maps", "none"]
    arguments += ["--weights", "random", "--layers", "1", "--k", "8", "--batch-size", "4"]
    hint = "9 good pictures are few: --preset few was better with fewer than 50"
    assert main([*arguments, "--output", str(tmp_path / "default")]) == 0
    assert hint in capsys.readouterr().err
    method = Detector.load(tmp_path / "default" / "detector" / "folder").method
    assert (method.pooling, str(method.epsilon), method.precision) == (3, "5%", "local")
    assert main([*arguments, "--output", str(tmp_path / "few"), "--preset", "few"]) == 0
    assert hint not in capsys.readouterr().err
    method = Detector.load(tmp_path / "few" / "detector" / "folder").method
    assert (method.pooling, method.precision) == (1, "shrunk")
