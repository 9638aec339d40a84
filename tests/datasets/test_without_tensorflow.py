"""Each published data set is prepared, and its pictures are read, without TensorFlow being imported."""

import subprocess
import sys
from pathlib import Path

import published

SCRIPT = """
import sys
from pathlib import Path
from jaxsode import datasets

for name in ("mvtec_ad", "kolektor2", "mstc"):
    dataset = datasets.load(name, data_dir=Path(sys.argv[1]) / name)
    for split in dataset.splits.values():
        for index in (*split.train, *split.test):
            dataset.picture(index, size=(32, 32)), dataset.mask(index, size=(32, 32))
    print(name, len(dataset.examples))
print("tensorflow" in sys.modules)
"""


def test_every_builder_runs_without_tensorflow(tmp_path: Path):
    published.write_folder(tmp_path / "mvtec_ad", published.mvtec_ad("carpet"))
    published.write_folder(tmp_path / "kolektor2", published.kolektor2())
    published.write_folder(tmp_path / "mstc", published.mstc("01"))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.split("\n") == ["mvtec_ad 17", "kolektor2 9", "mstc 15", "False", ""], done.stderr
