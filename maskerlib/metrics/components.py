"""Every component of every threshold set of a mask, in one pass: the component tree.

A mask has one set {mask > t} for each threshold t, and each set falls into 4-connected components. Labelling
the sets one by one repeats nearly the same work for each threshold. But the sets are nested: when t falls,
components only appear, grow and merge. So go through the thresholds from the highest to the lowest, keep the
components in a union-find forest, and at each step touch nothing but what that step adds. A component that
does not change between two thresholds is listed once, with the range of thresholds at which it exists (the
max-tree of Salembier et al., 1998).

Two things make it fast in NumPy: one call takes a whole batch of masks, so that the loop over thresholds runs
once a batch, and the nodes of the forest are horizontal runs of equal level, not single pixels.
"""

from typing import NamedTuple

import numpy as np

__all__ = ["Components", "component_tree"]


class Components(NamedTuple):
    """The N components of a batch of masks, in no particular order.

    Attributes:
        image: (N,) int, which mask of the batch.
        low, high: (N,) int, the component is one of {levels >= k} for low <= k <= high.
        area: (N,) int, pixels.
        first: (N,) int, smallest raster index y * width + x of its pixels; decides between equal areas.
        boxes: (N, 4) float32, x0, y0, x1, y1, pixels, half-open.
    """

    image: np.ndarray
    low: np.ndarray
    high: np.ndarray
    area: np.ndarray
    first: np.ndarray
    boxes: np.ndarray


def component_tree(levels: np.ndarray) -> Components:
    """All 4-connected components of {levels >= k}, for each k = 1, 2, ..., levels.max().

    Args:
        levels: (B, H, W), integers >= 0; level 0 is background at every k.

    >>> parts = component_tree(np.array([[[2, 1, 0, 1]]]))
    >>> sorted(zip(parts.low.tolist(), parts.high.tolist(), parts.area.tolist()))  # {>= 2} has one, {>= 1} has two
    [(1, 1, 1), (1, 1, 2), (2, 2, 1)]
    """
    forest = _Forest(levels)
    for level in range(int(levels.max(initial=0)), 0, -1):
        forest.lower_to(level)
    return forest.close_all()


class _Forest:
    """Union-find over runs. A component is named by its root, its first run, where its state is kept."""

    def __init__(self, levels: np.ndarray) -> None:
        height, width = levels.shape[1:]
        begins = np.ones(levels.shape, bool)
        np.not_equal(levels[:, :, 1:], levels[:, :, :-1], out=begins[:, :, 1:])
        self.plane = height * width
        self.pixel = np.flatnonzero(begins)  # the first pixel of each run
        y, x = self.pixel // width % height, self.pixel % width
        self.area = np.diff(self.pixel, append=levels.size)
        self.extent = (x, y, -x - self.area, -y - 1)  # x0, y0, -x1, -y1: a union has the minimum of each
        self.birth = levels.ravel()[self.pixel].astype(np.int64)  # the level where it took this shape
        self.parent = np.arange(self.pixel.size)
        self.slot = np.empty(self.pixel.size, np.int64)
        self.start, self.end, self.bounds = _edges(levels, begins)
        self.closed: list[tuple[np.ndarray, ...]] = []

    def lower_to(self, level: int) -> None:
        """Join what the edges that appear at `level` connect."""
        edges = slice(self.bounds[level], self.bounds[level + 1])
        start, end = self._apart(self.start[edges], self.end[edges])
        touched = self._distinct(np.concatenate([start, end]))
        while start.size:  # of all the edges of a run one wins each time, and few rounds are needed
            self.parent[np.maximum(start, end)] = np.minimum(start, end)
            start, end = self._apart(start, end)
        self._close(touched[self.birth[touched] > level], level + 1)
        root = self._roots(touched)
        self.birth[root] = level
        joined = root != touched
        root, part = root[joined], touched[joined]
        np.add.at(self.area, root, self.area[part])
        for column in self.extent:
            np.minimum.at(column, root, column[part])

    def close_all(self) -> Components:
        """The components that are left go down to level 1; hand out the whole list."""
        self._close(np.flatnonzero((self.parent == np.arange(self.parent.size)) & (self.birth > 0)), 1)
        columns = (np.concatenate(part) for part in zip(*self.closed, strict=True))
        low, high, area, first, x0, y0, x1, y1 = columns
        boxes = np.stack([x0, y0, -x1, -y1], axis=1).astype(np.float32)
        return Components(first // self.plane, low, high, area, first % self.plane, boxes)

    def _close(self, roots: np.ndarray, low: int) -> None:
        """Write down components that are about to change: they existed from `low` up to their birth."""
        state = (column[roots] for column in (self.birth, self.area, self.pixel, *self.extent))
        self.closed.append((np.full(roots.size, low), *state))

    def _roots(self, runs: np.ndarray) -> np.ndarray:
        roots: np.ndarray = self.parent[runs]
        while not np.array_equal(above := self.parent[roots], roots):
            roots = above
        self.parent[runs] = roots
        return roots

    def _apart(self, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The roots of both ends of each edge, where they still differ."""
        start, end = self._roots(start), self._roots(end)
        apart = start != end
        return start[apart], end[apart]

    def _distinct(self, nodes: np.ndarray) -> np.ndarray:
        """np.unique without the sort: of equal nodes, the one that was written last stays."""
        order = np.arange(nodes.size)
        self.slot[nodes] = order
        kept: np.ndarray = nodes[self.slot[nodes] == order]
        return kept


def _edges(levels: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of touching runs, sorted by the level from which both are foreground, and where each level begins."""
    run = np.cumsum(begins).reshape(levels.shape) - 1
    beside = begins[:, :, 1:]
    below = begins[:, 1:] | begins[:, :-1]  # two runs touch along many columns; the first of them is enough
    level = np.concatenate(
        [
            np.minimum(levels[:, :, 1:], levels[:, :, :-1])[beside],
            np.minimum(levels[:, 1:], levels[:, :-1])[below],
        ]
    )
    order = np.argsort(level, kind="stable")
    start = np.concatenate([run[:, :, :-1][beside], run[:, :-1][below]])[order]
    end = np.concatenate([run[:, :, 1:][beside], run[:, 1:][below]])[order]
    bounds = np.cumsum(np.bincount(level, minlength=int(levels.max(initial=0)) + 1))
    return start, end, np.concatenate([[0], bounds])
