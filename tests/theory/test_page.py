"""docs/theory.md names each of these tests, and none that isn't there."""

import re
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "theory.md"


def _defined(folder):
    sources = (path.read_text(encoding="utf-8") for path in sorted(folder.glob("test_*.py")))
    return Counter(
        name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)
    )


def test_every_statement_is_listed_with_its_test():
    cited = set(re.findall(r"\b(test_\w+)(?!\w|\.py)", PAGE.read_text(encoding="utf-8")))
    here = _defined(Path(__file__).parent)
    assert max(here.values()) == 1
    elsewhere = {"test_haar_distributed_and_only_with_the_sign_correction"} & set(_defined(TESTS / "algebra"))
    figures = {name for name in here if name.startswith("test_table_")}  # the page names their file
    this = {"test_every_statement_is_listed_with_its_test"}
    assert cited == set(here) - figures - this | elsewhere
