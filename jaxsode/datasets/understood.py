"""What was understood of a folder, in lines to be read before anything is computed and beside results."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from jaxsode.preparation import Preparation

from . import sizes
from .dataset import Example, Split
from .facts import Facts

_NAMED = 5  # of many things, so many by name


def lines(
    *,
    source: str,
    layout: str,
    examples: Sequence[Example],
    masked: Sequence[bool],
    facts: Sequence[Facts],
    split: Split,
    size: sizes.Size,
    preparation: Preparation,
    asked_range: bool,
    passed_over: Mapping[str, str],
    skipped: Mapping[str, str],
    testing: bool = True,
) -> tuple[str, ...]:
    """The lines.

    Args:
        source: the folder.
        layout: which was found, in words.
        examples, masked, facts: of each picture in use; whether it has a mask.
        split: of them.
        size: (height, width) they are resized to.
        preparation: see `Preparation`.
        asked_range: whether its range was asked for, not found.
        passed_over: names of files and folders that don't count, and why.
        skipped: names of pictures that can't be used, and why.
        testing: whether anything is to be tested.
    """
    names = [example.name for example in examples]
    said = [f"{source}: {layout}"]
    said += _split(examples, masked, split) if testing else []
    said += _sizes(names, [f.size for f in facts], size, preparation)
    said += _pixels(names, facts, preparation, asked_range)
    if most := [name for name, f in zip(names, facts, strict=True) if f.marked > 0.5]:
        said.append(
            f"{len(most)} masks mark more than half of their picture (all that is not black): {named(most)}"
        )
    said += _twins(names, facts, split)
    if skipped:
        said.append(f"can't be used: {len(skipped)}: {named(skipped.values(), between='; ')}")
    if passed_over:
        by_reason = defaultdict(list)
        for name, reason in passed_over.items():
            by_reason[reason].append(name)
        for reason, found in sorted(by_reason.items()):
            said.append(f"passed over, {reason}: {len(found)}: {named(sorted(found))}")
    return tuple(said)


def named(names: Iterable[str], *, between: str = ", ") -> str:
    """The first few names, and how many more there are.

    Args:
        names: any number.
        between: two of them.
    """
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return between.join(names[:_NAMED]) + more


def _split(examples: Sequence[Example], masked: Sequence[bool], split: Split) -> list[str]:
    kinds: dict[str, list[int]] = defaultdict(list)
    for index in split.test:
        kinds[examples[index].kind].append(index)
    defective = [index for index in split.test if examples[index].defective]
    without = [index for index in defective if not masked[index]]

    def group(kind: str, indices: list[int]) -> str:
        if not examples[indices[0]].defective:
            return f"{len(indices)} {kind}"
        return f"{len(indices)} {kind} ({sum(masked[i] for i in indices)} with masks)"

    in_order = sorted(kinds, key=lambda kind: (kind != "good", kind))
    groups = ", ".join(group(kind, kinds[kind]) for kind in in_order)
    tested = f"tested: {len(split.test)}" + (groups and f", {groups}")
    said = [f"good pictures fitted: {len(split.train)}; {tested}"]
    if split.left_out:
        said.append(
            "no good pictures are set apart for testing: the maps of the fitted ones, each left out in turn, "
            "stand for those of unseen ones (--hold-out FRACTION sets some apart)"
        )
    elif defective and len(defective) == len(split.test):
        said.append(
            "no good pictures to test on, and one alone can't be left out: only the metrics of pixels can be "
            "computed"
        )
    if not defective:
        said.append("no defective pictures: no metric can be computed")
    elif len(without) == len(defective):
        said.append("no masks: the metrics of pixels can't be computed, only those of pictures")
    elif without:
        listed = named(examples[index].name for index in without)
        said.append(f"{len(without)} of {len(defective)} defective pictures have no mask: {listed}")
    return said


def _sizes(
    names: Sequence[str], originals: Sequence[sizes.Size], size: sizes.Size, preparation: Preparation
) -> list[str]:
    counts = Counter(originals).most_common()
    shown = ", ".join(f"{n} of {_by(each)}" for each, n in counts[:_NAMED])
    if len(counts) > _NAMED:
        shown += f" and {sum(n for _, n in counts[_NAMED:])} of {len(counts) - _NAMED} other sizes"
    does = {
        "squeeze": "squeezed to that",
        "crop": "cropped, and what is cut off isn't judged",
        "pad": "padded, and the padding isn't judged",
    }
    said = [f"sizes: {shown} (height × width); resized to {_by(size)}"]
    if others := sizes.of_another_aspect(originals, size):
        listed = named(names[i] for i in others)
        said.append(f"{len(others)} of another aspect than {_by(size)}, {does[preparation.resize]}: {listed}")
    if small := [i for i, each in enumerate(originals) if 4 * min(each) < min(size)]:
        said.append(
            f"{len(small)} enlarged more than four times, {_by(originals[small[0]])} for one: "
            f"{named(names[i] for i in small)}"
        )
    return said


def _pixels(
    names: Sequence[str], facts: Sequence[Facts], preparation: Preparation, asked_range: bool
) -> list[str]:
    counts = Counter((f.mode, f.bits) for f in facts).most_common()
    said = ["pixels: " + ", ".join(f"{n} {mode} of {bits} bits" for (mode, bits), n in counts)]
    deep = [f.highest for f in facts if f.bits == 16]
    if deep:
        white = preparation.range
        why = "as asked for" if asked_range else "the least range that no training picture passes"
        said.append(
            f"16 bits: the highest value is {max(deep)}; white is {white}, {why}; what passes it is an error"
        )
        if len(deep) < len(facts):
            said.append(f"of 8 bits are {len(facts) - len(deep)} others, whose white is 255")
    if turned := [name for name, f in zip(names, facts, strict=True) if f.is_turned]:
        said.append(f"{len(turned)} turned upright by their EXIF orientation: {named(turned)}")
    return said


def _twins(names: Sequence[str], facts: Sequence[Facts], split: Split) -> list[str]:
    same: dict[str, list[int]] = defaultdict(list)
    for index, each in enumerate(facts):
        same[each.digest].append(index)
    train, test = set(split.train), set(split.test)
    groups = [indices for indices in same.values() if len(indices) > 1]

    def shown(indices: list[int]) -> str:
        return " = ".join(names[i] for i in indices)

    within = [shown(own) for g in groups if len(own := [i for i in g if i in train]) > 1]
    across = [shown(g) for g in groups if train & set(g) and test & set(g)]
    said = []
    if within:
        tail = "; left out, such a picture is not unseen" if split.left_out else ""
        said.append(f"the same byte for byte, within training{tail}: {named(within)}")
    if across:
        said.append(f"the same byte for byte, in training and in test: {named(across)}")
    return said


def _by(size: sizes.Size) -> str:
    return f"{size[0]} × {size[1]}"
