"""Equations whose unknowns touch only their neighbours, block by block: `solve_chain`.

Gaussian elimination by blocks: the work grows with the number of blocks, and the determinant, which
tells how probable the data are, comes with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def solve_chain(diagonal: Values, upper: Values, right: Values) -> tuple[Values, float]:
    """Return the solution of a symmetric block-tridiagonal system, and its log determinant.

    Parameters
    ----------
    diagonal, upper : (block, row, column), the blocks on the diagonal, and right of it; the last of
        `upper` counts for nothing.
    right : (block, row).

    Examples
    --------
    >>> diagonal, upper = np.full((2, 1, 1), 2.0), np.ones((2, 1, 1))
    >>> found, log_det = solve_chain(diagonal, upper, np.array([[5.0], [4.0]]))
    >>> found.round(6).tolist(), round(log_det, 6) == round(float(np.log(3)), 6)
    ([2.0, 1.0], True)
    """
    n_blocks = len(diagonal)
    pivot, side, log_det = diagonal[0], right[0], 0.0
    kept: list[tuple[Values, Values]] = []
    for i in range(n_blocks):
        log_det += float(np.linalg.slogdet(pivot)[1])
        ahead = upper[i] if i + 1 < n_blocks else np.zeros_like(upper[0])
        solved = np.linalg.solve(pivot, np.column_stack((ahead, side)))
        kept.append((solved[:, :-1], solved[:, -1]))
        if i + 1 < n_blocks:
            pivot = diagonal[i + 1] - upper[i].T @ solved[:, :-1]
            side = right[i + 1] - upper[i].T @ solved[:, -1]
    found = np.empty_like(right)
    behind = np.zeros(right.shape[1])
    for i in range(n_blocks - 1, -1, -1):
        behind = kept[i][1] - kept[i][0] @ behind
        found[i] = behind
    return found.ravel(), log_det
