"""Figures of an audit against plain definitions, and the verdicts that they give."""

import numpy as np
import pytest
from scipy import stats

from mira.evaluation.audit.figures import (
    Sample,
    agreed,
    length_rho,
    source_auc,
    source_share,
    strata_of,
    upper_half,
)
from mira.evaluation.audit.results import Agreed, Drift, ScorerAudit, Stratum
from mira.evaluation.audit.verdicts import verdicts
from mira.evaluation.results import Estimate

N = 400
RNG = np.random.default_rng(0)
SOURCE = np.repeat([0, 1], N // 2)
EVERY = np.ones(N, np.bool_)


@pytest.fixture
def sample() -> Sample:
    ids = np.array([str(k) for k in range(N)], dtype=object)
    tokens = RNG.integers(10, 500, N).astype(np.float64)
    return Sample(("a", "b"), SOURCE, np.arange(N) % 5, tokens, EVERY, ids)


def test_agreement_within_and_across_sources(sample: Sample) -> None:
    truth = RNG.normal(size=N) + 4 * SOURCE
    values = 4.0 * SOURCE + RNG.normal(size=N)  # knows the source, and nothing else
    found = agreed(sample, "the teacher", values, truth, 0.95, 0)
    assert found is not None
    across = stats.spearmanr(values, truth).statistic
    assert found.across.value == pytest.approx(across)
    assert across > 0.6
    for at, name in enumerate(sample.names):
        own = stats.spearmanr(values[at == SOURCE], truth[at == SOURCE]).statistic
        assert found.sources[name].value == pytest.approx(own)
    assert found.within.low is not None
    assert found.within.high is not None
    assert found.within.low < 0 < found.within.high
    assert found.source_auc == pytest.approx(1.0, abs=0.05)
    assert agreed(sample, "the teacher", values, np.full(N, np.nan), 0.95, 0) is None


def test_the_source_alone(sample: Sample) -> None:
    apart = SOURCE + RNG.uniform(0, 0.5, N)
    assert source_auc(sample, apart, EVERY) == 1.0
    assert source_share(sample, apart, EVERY) == pytest.approx(0.75, abs=0.01)
    mixed = RNG.normal(size=N)
    assert source_auc(sample, mixed, EVERY) == pytest.approx(0.5, abs=0.1)
    assert source_share(sample, mixed, EVERY) == pytest.approx(0, abs=0.02)
    assert upper_half(np.array([1, 1, 1, 2.0])).tolist() == [False] * 3 + [True]
    assert upper_half(np.array([1, 2, 2, 2.0])).tolist() == [False] + [True] * 3


def test_length_counts_within_sources(sample: Sample) -> None:
    rho, by_source = length_rho(sample, np.log(sample.tokens) - 100.0 * SOURCE, EVERY)
    assert rho == pytest.approx(1)
    assert by_source == pytest.approx({"a": 1, "b": 1})


def test_strata_at_equal_quality(sample: Sample) -> None:
    """Records in `py` are better; the scorer sees that, and is too kind to `md` besides."""
    language = [("py", "js", "md", "c")[k % 4] for k in range(N)]
    is_py, is_md = (np.array([one == which for one in language]) for which in ("py", "md"))
    quality = RNG.normal(size=N) + 2 * is_py
    values = quality + 1.5 * is_md + RNG.normal(0, 0.1, N)
    found = strata_of(sample, values, quality, language, EVERY, 0.95, 0)
    assert {name: one.records for name, one in found.items()} == dict.fromkeys(("py", "js", "md", "c"), N // 4)
    md, py = found["md"].shift, found["py"].shift
    assert md.value is not None
    assert py.value is not None
    assert md.low is not None
    assert md.value > 0.1
    assert md.low > 0.05
    assert abs(py.value) < 0.1
    raw = strata_of(sample, values, None, language, EVERY, 0.95, 0)["py"].shift.value
    assert raw is not None
    assert raw > 0.15  # without a measure of quality, better records look favoured
    assert strata_of(sample, values, quality, [None] * N, EVERY, 0.95, 0) == {}


def said(**given: object) -> str:
    whole = {"records": 100, "scored": 100, "distinct": 100, **given}
    return "\n".join(verdicts(ScorerAudit(**whole)))  # type: ignore[arg-type]


def test_verdicts() -> None:
    judge = Agreed(judge="the teacher", records=90, within=Estimate(0.7, 0.6, 0.8), source_auc=0.6)
    assert said() == "nothing stands out"
    assert said(scored=0) == "no record has a score"
    assert "10 of 100 records have no score (10 no_row)" in said(scored=90, missing={"no_row": 10})
    assert "sorts by source, not by quality: the source alone predicts its upper half with an AUC of 0.85" in said(
        source_auc=0.85, teacher=judge
    )
    assert "sorts by source as the teacher does" in said(
        source_auc=0.85, teacher=Agreed(judge="the teacher", source_auc=0.84)
    )
    assert "agrees with the teacher: rho 0.70 [0.60, 0.80]" in said(teacher=judge)
    assert "no sign that it agrees" in said(teacher=Agreed(judge="x", within=Estimate(0.1, -0.1, 0.3)))
    assert "ranks against x" in said(teacher=Agreed(judge="x", within=Estimate(-0.4, -0.5, -0.3)))
    assert "ranks by length: rho -0.70" in said(length_rho=-0.7)
    assert "is coarse: 3 distinct scores, and 40% of the records" in said(distinct=3, at_median=0.4)
    strata = {"lang": {"de": Stratum(records=50, shift=Estimate(-0.2, -0.25, -0.15))}}
    assert "ranks records with lang de lower than others of equal quality (by quality): by 20 percentile" in said(
        strata=strata, equal_by="quality"
    )
    assert "differs from old: rho 0.50, 60% of records in the same half" in said(
        drift=Drift(other="old", both=9, rho=0.5, same_half=0.6)
    )
    assert "sources have moved against old, in percentile points: a (+30)" in said(
        drift=Drift(other="old", both=9, rho=0.95, moved={"a": 0.3, "b": 0.01})
    )
