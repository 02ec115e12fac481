"""What the Gramian of task gradients says about a step, for nothing: norms, cosines, similarity of lengths, condition.

Shapes: T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

Row = tuple[str, str, str, float]


def diagnostics(gramian_TT: Tensor, names: Sequence[str], dropped: Sequence[str] = ()) -> list[Row]:
    """Rows (name, i, j, value), i and j tasks, of one step.

    - ``norm`` (i = j): length of the task's gradient;
    - ``cosine`` (i before j): of two gradients, in [-1, 1]; below 0 they conflict;
    - ``gms`` (i before j): gradient-magnitude similarity 2 |g_i| |g_j| / (|g_i|^2 + |g_j|^2), in [0, 1] (Yu et al.,
      PCGrad, 2020);
    - ``condition`` (i and j empty): largest over smallest positive singular value of G (Senushkin et al., Aligned-MTL,
      2023), eigenvalues of the Gramian below 1e-10 of the largest counting as zero;
    - ``dropped`` (i = j): 1 for a task that the method left out.

    Pairs with a gradient of zero have neither cosine nor gms.

    >>> import torch
    >>> [(row[0], round(row[3], 3)) for row in diagnostics(torch.tensor([[4.0, -1.0], [-1.0, 1.0]]), ["a", "b"])]
    [('norm', 2.0), ('norm', 1.0), ('cosine', -0.5), ('gms', 0.8), ('condition', 2.387)]
    """
    matrix = gramian_TT.double().cpu().numpy()
    lengths = np.sqrt(np.maximum(matrix.diagonal(), 0.0))
    rows: list[Row] = [("norm", name, name, float(length)) for name, length in zip(names, lengths, strict=True)]
    for i, first in enumerate(names):
        for j in range(i + 1, len(names)):
            product = lengths[i] * lengths[j]
            if product > 0:
                rows.append(("cosine", first, names[j], float(np.clip(matrix[i, j] / product, -1.0, 1.0))))
                similarity = 2 * product / (lengths[i] ** 2 + lengths[j] ** 2)
                rows.append(("gms", first, names[j], float(similarity)))
    values = np.linalg.eigvalsh(matrix)
    if values[-1] > 0:
        rows.append(("condition", "", "", float(np.sqrt(values[-1] / values[values > 1e-10 * values[-1]][0]))))
    return rows + [("dropped", name, name, 1.0) for name in dropped]
