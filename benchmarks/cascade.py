"""What a cascade would save: simulated on a run's labelled records, with the teacher in place of the LLM student.

    python benchmarks/cascade.py FOLDER/mira.yaml [--budget 0.5]

Needs a run with an encoder student and its reliability, such as the demo's.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa

from mira.config.loading import load_config
from mira.rescoring.cascade import labelled_quality, quality_errors
from mira.rescoring.simulation import simulate
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.selection.yardstick.yardsticks import load_yardsticks

SHARES = (0, 0.05, 0.1, 0.2, 0.3, 0.5, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--budget", type=float, default=0.5, help="share of each group's tokens that is kept")
    given = parser.parse_args()
    config = load_config(given.config)
    run = RunFolder(config.run)
    yardsticks = load_yardsticks(config.select, run)
    groups = [group["name"] for group in read_json(run.groups)["groups"]]
    tables = [labelled_quality(config.select, run, group, yardsticks) for group in groups]
    scope = [group for group, table in zip(groups, tables, strict=True) for _ in range(len(table))]
    table = pa.concat_tables(tables)
    truth, guess = table["truth"].to_numpy(), table["guess"].to_numpy()
    sources = table["source"].to_pylist()
    errors = quality_errors(sources, truth, guess)
    print(f"{len(table)} labelled records; error of the encoder's quality on the 0-10 scale:")
    for source, error in errors.items():
        print(f"  {source:<16} {error:.2f}")
    points = simulate(
        truth, guess, table["n_tokens"].to_numpy().astype(np.int64), scope, budget=given.budget, shares=SHARES,
        errors=np.array([errors[source] for source in sources]),
    )  # fmt: skip
    print("calls     saved     same selection, by tokens (90% interval)   as many calls at random")
    for p in points:
        print(f"{p.share:>5.0%} {p.saved:>9,}     {p.same:.3f}  [{p.low:.3f}, {p.high:.3f}] {p.same_random:>31.3f}")


if __name__ == "__main__":
    main()
