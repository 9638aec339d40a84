"""Pictures of distinct scores, as many as are wanted; as a script, what a stream makes of them and takes."""

import json
import resource
import sys
from pathlib import Path

import numpy as np

from jaxsode.metrics import Stream

LEAST = 0x38000000
"""The bits of 2⁻¹⁵: from there the scores of good pixels spread evenly over the bits, up to 2¹⁷."""


def pictures(count, *, side):
    """Pairs of a batch of one map (1, side, side) and its mask.

    No score comes twice: those of good pixels have even bits, those of defective ones odd bits that lie a
    quarter of the range higher, in an order that a linear congruence shuffles. Every second picture has two
    regions of marked pixels, of different size; some of their pixels are only half covered.
    """
    used = 0
    for i in range(count):
        mask = np.zeros((side, side), np.uint8)
        if i % 2:
            edge = side // 40 + i % 7
            mask[edge : 3 * edge, 2 * edge : 6 * edge] = 200
            mask[edge + 1 : 3 * edge - 1, 2 * edge : 6 * edge] = 255
            mask[-2 * edge :, -edge:] = 255
        number = used + np.arange(side * side)
        used += side * side
        even = 2 * (number * 22695477 % 2**27)
        odd = even + 2**26 + 1
        bits = LEAST + np.where(mask.ravel() >= 128, odd, even)
        yield bits.astype(np.int32).view(np.float32).reshape(1, side, side), mask[None]


def peak():
    """Bytes that this process held at most; what getrusage tells on Linux begins with its parent's."""
    if (status := Path("/proc/self/status")).exists():
        lines = status.read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    number, side, memory = map(int, sys.argv[1:])
    with Stream(paper_full_mask=True, memory=memory) as stream:
        for maps, masks in pictures(number, side=side):
            stream.add(maps, masks, masks.any(axis=(1, 2)))
        found = stream.result()
    json.dump([found, stream.error_bound, peak()], sys.stdout)
