"""Labels and predictions with known truth."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa


def ids(source: str, n: int) -> list[str]:
    return [f"{source}-{i:05d}" for i in range(n)]


def pair(n: int, rho: float, rng: np.random.Generator, *, level: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """Teacher's and student's scores of one cell with Spearman's rho, the student being the best predictor."""
    r = 2 * np.sin(np.pi * rho / 6)
    z = rng.standard_normal(n)
    student = r * z + np.sqrt(1 - r * r) * rng.standard_normal(n)
    return np.clip(level + 1.5 * z, 0, 10), level + 1.5 * max(r, 0.1) * student


def labels(
    scores: Mapping[str, np.ndarray],
    again: Mapping[str, np.ndarray] | None = None,
    held_out: float = 0.2,
    **columns: Mapping[str, list[object]],
) -> pa.Table:
    """Labels of all sources; `again` holds second judgements of a source's first records."""
    k = next(iter(scores.values())).shape[1]
    blocks = []
    for replicate, given in enumerate([scores, again or {}]):
        for source, matrix in given.items():
            n = len(matrix)
            split = ["held_out" if i < held_out * len(scores[source]) else "train" for i in range(n)]
            blocks.append(
                pa.table(
                    {
                        "id": pa.array(ids(source, n), pa.string()),
                        "source": pa.array([source] * n, pa.string()),
                        "replicate": pa.array([replicate] * n, pa.int16()),
                        **{f"A{j + 1}": pa.array(matrix[:, j], pa.float32(), from_pandas=True) for j in range(k)},
                        "overall": pa.array(columns.get("overall", {}).get(source, [None] * n)[:n], pa.float32()),
                        "recommendation": pa.array(
                            columns.get("recommendation", {}).get(source, [None] * n)[:n], pa.string()
                        ),
                        "split": pa.array(split, pa.string()),
                        "n_tokens": pa.array(columns.get("n_tokens", {}).get(source, [100] * n)[:n], pa.int32()),
                    }
                )
            )
    return pa.concat_tables(blocks)


def predictions(scores: Mapping[str, np.ndarray]) -> pa.Table:
    return pa.concat_tables(
        pa.table(
            {
                "id": pa.array(ids(source, len(m)), pa.string()),
                "source": pa.array([source] * len(m), pa.string()),
                **{f"A{j + 1}": pa.array(m[:, j], pa.float32(), from_pandas=True) for j in range(m.shape[1])},
            }
        )
        for source, m in scores.items()
    )


def shuffled(table: pa.Table, seed: int = 0) -> pa.Table:
    return table.take(pa.array(np.random.default_rng(seed).permutation(table.num_rows)))
