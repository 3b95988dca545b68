"""What further features and windows buy: cross-fitted agreement on a run's labels, beside the encoder as shipped.

    python benchmarks/features.py PROJECT/mira.yaml [--seeds 3] [--groups NAME ...] [--trees] [--long]

For every group and every partition into folds, every variant predicts each labelled record by a fit on the other
folds. Printed are the share of the teacher's ceiling over the cells that the run trusts, and the difference from the
encoder as shipped, with its 95% interval over the same resamples.

`--trees` adds averages with boosted and with extremely randomised trees on all structural features (minutes).
`--long` compares on the longer half of the records alone, whole and in windows; shorter records are fitted on, too.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from mira.config.loading import load_config
from mira.config.settings import WindowSettings
from mira.distillation.encoder.cross_validation import Labels, by_record, cross_fit, target_maps
from mira.distillation.encoder.features import Features, FeatureStore
from mira.distillation.encoder.head import NystroemBasis
from mira.distillation.encoder.kernel import FeatureBlocks
from mira.distillation.encoder.student import labels_of, store_features
from mira.embedding import Embedder, MiniLM, StaticTokens
from mira.grouping.groups import load_groups
from mira.labelling.labels import labelled_records, load_labels
from mira.progress import Quiet
from mira.reliability.ceiling import Ceilings, ceilings
from mira.reliability.cells import measure_group
from mira.reliability.evidence import GroupEvidence
from mira.reliability.group_figures import Sampled, share_of_ceiling
from mira.reliability.masking import verdicts
from mira.reliability.stage import load_evidence
from mira.rubric.slots import slot_columns
from mira.run_folder.paths import RunFolder

TREE_SHARE = 0.3


def fitted(store: FeatureStore, table: Labels, blocks: FeatureBlocks) -> np.ndarray:
    everything = np.ones(len(table), bool)
    seen = store if blocks.embedding else store.without_embedding()
    with NystroemBasis(seen, everything, blocks, table.priority) as span:
        return cross_fit(span, table, everything, "ranks")


def dense(features: Features) -> np.ndarray:
    names = np.unique(features.sources)
    of = (np.array(features.sources)[:, None] == names).astype(float)
    return np.hstack([features.structure, features.detail, features.parts, of])


def trees(x: np.ndarray, table: Labels, fit: Callable[[np.ndarray, np.ndarray], list]) -> np.ndarray:
    predicted = np.full(table.scores.shape, np.nan)
    for fold in np.unique(table.folds):
        train, test = np.flatnonzero(table.folds != fold), np.flatnonzero(table.folds == fold)
        maps = target_maps("ranks", table.scores[train])
        y = np.column_stack([m.forward(table.scores[train, j]) for j, m in enumerate(maps)])
        for j, model in enumerate(fit(x[train], y)):
            if model is not None:
                predicted[test, j] = maps[j].back(model(x[test]))
    return predicted


def boosted(x: np.ndarray, y: np.ndarray) -> list:
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415 - slow to import

    made = []
    for column in y.T:
        known = np.isfinite(column)
        model = HistGradientBoostingRegressor(
            max_iter=80, learning_rate=0.06, max_leaf_nodes=8, min_samples_leaf=8, l2_regularization=1.0,
            early_stopping=False, random_state=0, max_features=0.3,
        )  # fmt: skip
        made.append(model.fit(x[known], column[known]).predict if known.sum() > 10 else None)
    return made


def random_trees(x: np.ndarray, y: np.ndarray) -> list:
    from sklearn.ensemble import ExtraTreesRegressor  # noqa: PLC0415 - slow to import

    model = ExtraTreesRegressor(300, max_features=0.3, min_samples_leaf=3, random_state=0).fit(x, np.nan_to_num(y))
    return [lambda rows, j=j: model.predict(rows)[:, j] for j in range(y.shape[1])]


def share(
    evidence: GroupEvidence, table: Labels, predicted: np.ndarray, ceiling: Ceilings, cells: np.ndarray, rows: set
) -> Sampled:
    at = {key: i for i, key in enumerate(zip(table.sources, table.ids, strict=True))}
    sources = []
    for s in evidence.sources:
        values = predicted[[at[s.source, id] for id in s.ids], :-1]
        kept = np.array([(s.source, id) in rows for id in s.ids])
        sources.append(replace(s, student=np.where(kept[:, None], values, np.nan)))
    measure = measure_group(replace(evidence, sources=tuple(sources)), bootstrap=1000, confidence=0.9, seed=0)
    return share_of_ceiling(measure.rho, measure.samples, ceiling, cells)


def report(name: str, found: Mapping[str, list[Sampled]]) -> None:
    print(name, flush=True)
    means = {
        k: Sampled(np.mean([f.value for f in v]), np.mean([f.samples for f in v], axis=0)) for k, v in found.items()
    }
    base = next(iter(means.values()))
    for variant, figure in means.items():
        gain, low, high = (figure - base).interval(0.95)
        told = "" if figure is base else f"  {gain:+.3f} [{low:+.3f}, {high:+.3f}]"
        print(f"  {variant:32} {figure.value:.3f}{told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--groups", nargs="*", default=[])
    parser.add_argument("--trees", action="store_true")
    parser.add_argument("--long", action="store_true")
    given = parser.parse_args()
    config = load_config(given.config)
    run, settings = RunFolder(Path(config.run)), config.reliability
    for group in load_groups(run):
        if given.groups and group.name not in given.groups:
            continue
        evidence = load_evidence(run, group)
        ceiling = ceilings(evidence, settings.min_pairs, bootstrap=1000, seed=0)
        measure = measure_group(evidence, bootstrap=1000, confidence=0.9, seed=0)
        cells = np.array([[not v.masked and v.level == "cell" for v in row] for row in verdicts(measure, settings)])
        labels = load_labels(run, group.name, without=("rationales", "brief"))
        records = list(labelled_records(config.corpus, run, labels))
        lengths = {(r.source, r.id): len(r.text) for r in records}
        middle = np.median(list(lengths.values())) if given.long else 0
        rows = {key for key, n in lengths.items() if n >= middle}
        found: dict[str, list[Sampled]] = {}
        n_slots = len(slot_columns(labels.schema.names))
        for seed in range(given.seeds):
            table = labels_of(labels, n_slots, 5, seed)
            with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
                here = Path(folder)

                def features(embedder: Embedder | None, windows: WindowSettings | None = None) -> tuple:
                    name = here / f"{len(list(here.iterdir()))}"  # noqa: B023 - used in this round only
                    return store_features(name, table, records, embedder, Quiet(), True, windows)  # noqa: B023

                def add(name: str, labels: Labels, predicted: np.ndarray) -> None:
                    figure = share(evidence, labels, predicted, ceiling, cells, rows)  # noqa: B023
                    found.setdefault(name, []).append(figure)  # noqa: B023

                store, own = features(None if given.long else StaticTokens())
                base = fitted(store, own, FeatureBlocks())
                add("as shipped", own, base)
                if given.long:
                    for tokens in (256, 512, 1024):
                        windows = WindowSettings(tokens=tokens, overlap=tokens // 8)
                        cut, parts = features(None, windows)
                        first, (predicted,) = by_record(parts, (fitted(cut, parts, FeatureBlocks()),), windows)
                        add(f"windows of {tokens} tokens", parts.take(first), predicted)
                    continue
                detailed = fitted(store, own, FeatureBlocks(detail=True))
                add("detail", own, detailed)
                add("static vectors", own, fitted(store, own, FeatureBlocks(embedding=True)))
                cut, other = features(MiniLM(threads=1))
                add("MiniLM", other, fitted(cut, other, FeatureBlocks(embedding=True)))
                if given.trees:
                    x = dense(store.take(np.arange(len(own))))
                    for name, fit in (("boosted", boosted), ("random", random_trees)):
                        grown = trees(x, own, fit)
                        add(
                            f"detail and {TREE_SHARE} {name} trees",
                            own,
                            (1 - TREE_SHARE) * detailed + TREE_SHARE * grown,
                        )
        report(f"{group.name}: {len(rows)} records, {cells.sum()} cells, {given.seeds} partitions", found)


if __name__ == "__main__":
    main()
