"""How far two sets of pictures are from each other as a classifier sees them: the Fréchet distance of two normal
distributions fitted to their embeddings. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a
Local Nash Equilibrium", NeurIPS 2017, arXiv:1706.08500, equation 6; there with Inception v3's embedding, by which the
number is called FID. Numbers of two embeddings, or of sets of other sizes, cannot be compared.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def frechet_distance(a: Floats, b: Floats) -> float:
    """(N, D), (M, D), at least 2 rows each -> |mean - mean|^2 + trace(A + B - 2 (A B)^1/2) of their covariances A, B;
    0 for equal distributions. The trace of the root is the sum of the singular values of A^1/2 B^1/2, which needs no
    root of a matrix that is not symmetric."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape} and {b.shape} are not two sets of vectors of one length")
    rows_a, rows_b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b))
    # A = rows_a^T rows_a: the singular values of A^1/2 B^1/2 are those of rows_a rows_b^T.
    shared = np.linalg.svd(triangle(rows_a) @ triangle(rows_b).T, compute_uv=False).sum()
    spread = np.square(rows_a).sum() + np.square(rows_b).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + spread - 2 * shared)


def triangle(rows: Floats) -> Floats:
    """(N, D) -> (min(N, D), D) with the same rows^T rows."""
    return np.asarray(np.linalg.qr(rows, mode="r"))
