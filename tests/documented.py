"""What the documents show: their pages, and the commands and the Python in them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
HOW_TO = sorted((DOCS / "how-to").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "bench" / "README.md", *sorted(DOCS.rglob("*.md"))]


def named(page: Path) -> str:
    """The page's path below the repository's."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """Its fenced blocks of a language, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The command lines in its `sh` blocks, in words, in order: without comments, continued lines as one.

    Where a line begins with the letter C, as the results have it for the command above less some options, it
    stands for a run of the data set with no more than that; and … for what was said above.
    """
    found = []
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.sub(r"(^|\s)#.*", "", line).split("&&"):
                words = [word for word in shlex.split(command) if word != "…"]
                if words[:1] == ["C"]:
                    words = ["jaxsode", "run", "--dataset", "kolektor", *words[1:]]
                found += [words] if words else []
    return found
