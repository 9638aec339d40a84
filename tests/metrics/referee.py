"""The metrics by their definition: every threshold, every picture, every region, in plain loops.

Maps and masks are sequences of pictures, which may differ in size.
"""

import itertools

import numpy as np
import pytest


def flood(mask):
    """Regions as lists of pixels, neighbours by edge or corner."""
    left = set(map(tuple, np.argwhere(mask)))
    found = []
    while left:
        region, edge = [], [left.pop()]
        while edge:
            row, column = edge.pop()
            region.append((row, column))
            for down, right in itertools.product((-1, 0, 1), repeat=2):
                neighbour = (row + down, column + right)
                if neighbour in left:
                    left.remove(neighbour)
                    edge.append(neighbour)
        found.append(region)
    return found


def integral(points, limit):
    """Area under straight pieces from 0 to the limit, over the limit."""
    total = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            total += (end - x0) * (y0 + y_end) / 2
    return total / limit


def by_definition(maps, masks, *, average, region, limit, full_mask):
    truths = [mask == 255 if full_mask else mask > 127.5 for mask in masks]
    goods = [~truth for truth in truths]
    parts = []  # for each picture the sets of pixels whose found shares are averaged
    for truth in truths:
        sets = flood(truth) if region else [list(map(tuple, np.argwhere(truth)))]
        parts.append([s for s in sets if s])
    if not any(parts) or not any(good.any() for good in goods):
        return None
    points = [(0.0, 0.0)]
    for threshold in sorted({score for scores in maps for score in scores.ravel()}, reverse=True):
        found = [scores >= threshold for scores in maps]
        false = [(int((f & good).sum()), int(good.sum())) for f, good in zip(found, goods, strict=True)]
        true = [
            [(sum(int(f[p]) for p in s), len(s)) for s in sets] for f, sets in zip(found, parts, strict=True)
        ]
        if average == "pooled":
            fpr = sum(a for a, _ in false) / sum(b for _, b in false)
            shares = [pair for pairs in true for pair in pairs]
            if region:
                tpr = np.mean([a / b for a, b in shares])
            else:
                tpr = sum(a for a, _ in shares) / sum(b for _, b in shares)
        else:
            fpr = np.mean([a / b for a, b in false if b])
            tpr = np.mean([np.mean([a / b for a, b in pairs]) for pairs in true if pairs])
        points.append((float(fpr), float(tpr)))
    return integral(points, limit)


def all_by_definition(maps, masks, *, pro_limit, paper_full_mask):
    def one(average, region):
        full_mask = paper_full_mask and average == "paper"
        limit = pro_limit if region else 1.0
        return by_definition(maps, masks, average=average, region=region, limit=limit, full_mask=full_mask)

    return {
        "pixel_auroc": {average: one(average, False) for average in ("pooled", "paper")},
        "pro": {average: one(average, True) for average in ("pooled", "paper")},
    }


def agree(ours, expected):
    for metric, averages in expected.items():
        for average, value in averages.items():
            got = ours[metric][average]
            if value is None:
                assert got is None, (metric, average)
            else:
                assert got == pytest.approx(value, abs=1e-12), (metric, average)
