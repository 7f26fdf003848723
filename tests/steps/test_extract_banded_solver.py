"""Block-tridiagonal systems against numpy's answer for the whole matrix."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.steps import solve_block_tridiagonal


@pytest.mark.parametrize(("n_blocks", "width"), [(1, 3), (2, 1), (7, 9)])
def test_blocks_are_solved_as_the_whole_matrix_is(n_blocks: int, width: int) -> None:
    rng = np.random.default_rng(n_blocks)
    n = n_blocks * width
    matrix = np.zeros((n, n))
    upper = rng.normal(size=(n_blocks, width, width))
    own = rng.normal(size=(n_blocks, width, width))
    diagonal = own @ own.transpose(0, 2, 1) + 10 * width * np.eye(width)
    for i in range(n_blocks):
        here, ahead = slice(i * width, (i + 1) * width), slice((i + 1) * width, (i + 2) * width)
        matrix[here, here] = diagonal[i]
        if i + 1 < n_blocks:
            matrix[here, ahead], matrix[ahead, here] = upper[i], upper[i].T
    right = rng.normal(size=(n_blocks, width))
    found, log_det = solve_block_tridiagonal(diagonal, upper, right)
    np.testing.assert_allclose(found, np.linalg.solve(matrix, right.ravel()), rtol=1e-9)
    assert log_det == pytest.approx(np.linalg.slogdet(matrix)[1])
