from pathlib import Path

import pytest

from mira.errors import RunError
from mira.progress import Quiet
from mira.reviewing.journal import HumanJudgement, add
from mira.reviewing.measure import measure
from mira.reviewing.results import ReviewResult
from mira.reviewing.sample import Card
from mira.run_folder.results import read_result
from support.review_world import Review


def by_quality(at: float):
    return lambda card: "keep" if card.quality is not None and card.quality >= at else "drop"


def test_figures_are_those_of_the_corpus_where_all_is_judged(tmp_path: Path) -> None:
    """Reviewers who follow a rule on a census: shares are exact, and counted by hand here."""
    review = Review(tmp_path, sample=180)
    review.judge("ann", by_quality(4.0))
    found = measure(review.config, review.run, Quiet())
    cards = review.sample.cards
    keep = [card for card in cards if card.quality >= 4.0]
    both = [card for card in keep if card.kept]
    assert (found.judged, found.sampled) == (180, 180)
    assert found.all.precision.value == pytest.approx(len(both) / sum(card.kept for card in cards))
    assert found.all.recall.value == pytest.approx(len(both) / len(keep))
    assert found.all.base_rate.value == pytest.approx(len(keep) / 180)
    tokens = sum(card.n_tokens for card in both) / sum(card.n_tokens for card in keep)
    assert found.all.recall_tokens.value == pytest.approx(tokens)
    ant = [card for card in keep if card.source == "ant"]
    assert found.sources["ant"].recall.value == pytest.approx(sum(card.kept for card in ant) / len(ant))
    assert read_result(ReviewResult, review.run.review) == found


def test_a_sample_says_of_the_corpus_what_a_census_would(review: Review) -> None:
    review.judge("ann", by_quality(6.0))
    found = measure(review.config, review.run, Quiet()).all
    rows = [row for source in ("ant", "bee", "cat") for row in selection(review, source)]
    keep = [row for row in rows if row["quality"] >= 6.0]
    both = sum(row["kept"] for row in keep)
    assert found.precision.low <= both / sum(row["kept"] for row in rows) <= found.precision.high
    assert found.recall.low <= both / len(keep) <= found.recall.high
    assert abs(found.base_rate.value - len(keep) / len(rows)) < 0.1


def selection(review: Review, source: str) -> list[dict]:
    import pyarrow.parquet as pq

    return [row for path in review.run.selection(source).glob("*.parquet") for row in pq.read_table(path).to_pylist()]


def test_skips_undone_and_foreign_judgements_do_not_count(review: Review) -> None:
    a, b, c = review.sample.cards[:3]
    add(review.run, [HumanJudgement(*a.key, "ann", "keep"), HumanJudgement(*b.key, "ann", "skip")])
    add(review.run, [HumanJudgement(*c.key, "ann", "drop"), HumanJudgement(*c.key, "ann", None)])
    add(review.run, [HumanJudgement("ant", "gone", "ann", "keep")])
    with (review.run.human / "ann.jsonl").open("ab") as file:
        file.write(b"torn")
    found = measure(review.config, review.run, Quiet())
    assert found.judged == 1
    counts = found.reviewers["ann"]
    assert (counts.keep, counts.drop, counts.skipped) == (1, 0, 1)
    text = " ".join(found.notes)
    assert "1 lines of judgements cannot be read and do not count: ann.jsonl:6" in text
    assert "1 records that are not in the sample" in text
    assert "1 of 60 records are judged" in text


def test_judgements_outlive_the_selection_that_they_were_made_for(own_review: Review) -> None:
    review = own_review
    review.judge("ann", by_quality(5.0))
    before = measure(review.config, review.run, Quiet())
    review.project.select(budget="15%", scope="source")
    after = measure(review.config, review.run, Quiet())
    assert after.judged == before.judged == 60
    assert after.all.kept < before.all.kept
    assert after.all.precision.value == 1.0
    assert after.all.recall.value < before.all.recall.value


def test_agreement_is_of_each_pair_of_judges(review: Review) -> None:
    review.judge("ann", by_quality(5.0))
    review.judge("bob", by_quality(5.0))
    review.judge("eve", lambda card: "keep" if by_quality(5.0)(card) == "drop" else "drop", n=40)
    rows = {row.judges: row for row in measure(review.config, review.run, Quiet()).agreement}
    assert rows["ann and bob"].kappa.value == pytest.approx(1.0)
    assert rows["ann and bob"].kappa.n == 60
    assert rows["ann and eve"].kappa.value < 0
    assert rows["ann and eve"].kappa.n == 40
    assert rows["all reviewers"].alpha.value < 0.5
    assert rows["reviewers and teacher"].kappa.n == sum(
        card.stratum.endswith("labelled") for card in review.sample.cards
    )
    assert rows["reviewers and selection"].rho.value > 0.3


def test_slots_are_compared_with_teacher_and_student(review: Review) -> None:
    for name, more in (("ann", 0.0), ("bob", 1.0)):
        cards = review.sample.cards
        add(
            review.run,
            [HumanJudgement(*c.key, name, "keep", {"A1": min(10.0, round(c.quality) + more)}) for c in cards],
        )
    rows = [row for row in measure(review.config, review.run, Quiet()).agreement if row.what == "A1"]
    assert {row.judges for row in rows} == {"reviewers", "reviewers and student", "reviewers and teacher"}
    assert {row.group for row in rows} == {"text_group_A", "text_group_B"}
    assert all(row.rho.value is None for row in rows if row.judges.endswith("teacher"))  # whose 7.5 never varies
    for row in (row for row in rows if not row.judges.endswith("teacher")):
        assert row.name.startswith("Name 0")
        assert row.rho.value > 0.9
    assert 0 < next(row for row in rows if row.judges == "reviewers").kappa.value < 1


def test_the_budget_is_the_largest_that_keeps_the_wanted_precision(tmp_path: Path) -> None:
    review = Review(tmp_path, sample=150)
    review.judge("ann", by_quality(6.0))  # the best 40%, about
    settings = review.config.review.model_copy(update={"precision": 0.8})
    found = measure(review.config.model_copy(update={"review": settings}), review.run, Quiet()).budget
    assert found.share is not None
    assert found.precision.low >= 0.8
    assert found.precision.n == found.judged
    rows = [row for source in ("ant", "bee", "cat") for row in selection(review, source)]
    of = {s: [r for r in rows if r["id"].startswith(s)] for s in ("ant", "bee", "cat")}
    for source, own in of.items():  # the thresholds are those that a selection with this budget has
        kept = [r for r in own if r["quality"] >= found.thresholds[source]]
        total = sum(r["n_tokens"] for r in own)
        assert sum(r["n_tokens"] for r in kept) <= found.share * total + 1e-6
        dropped = max(r["quality"] for r in own if r["quality"] < found.thresholds[source])
        at = sum(r["n_tokens"] for r in own if r["quality"] >= dropped)
        assert at > found.share * total
    stricter = measure(
        review.config.model_copy(update={"review": settings.model_copy(update={"precision": 0.9})}), review.run, Quiet()
    ).budget
    assert stricter.share is None or stricter.share <= found.share


def test_no_budget_is_said_where_quality_does_not_decide(own_review: Review) -> None:
    review = own_review
    review.judge("ann", by_quality(5.0))
    review.project.select(budget="50%", scope="source", source_max={"ant": "10%"})
    found = measure(review.config, review.run, Quiet()).budget
    assert found.share is None
    review.project.select(budget="50%", scope="global", source_max={"ant": "10%"})
    found = measure(review.config, review.run, Quiet()).budget
    assert found.share is None
    assert "does not follow from quality alone" in found.reason
    review.project.select(budget="50%", scope="global", method="random")
    assert "does not rank scope global by quality" in measure(review.config, review.run, Quiet()).budget.reason


def test_a_budget_that_nobody_reaches_is_said(review: Review) -> None:
    review.judge("ann", lambda card: "drop")
    found = measure(review.config, review.run, Quiet())
    assert found.budget.share is None
    assert "at no budget" in found.budget.reason
    assert found.all.recall.value is None
    assert found.all.precision.value == 0.0


def test_without_a_sample_there_is_nothing_to_report(review: Review) -> None:
    (review.run.human / "sample.parquet").unlink()
    with pytest.raises(RunError, match="there is no sample to review yet"):
        measure(review.config, review.run, Quiet())


def test_what_notebooks_show_is_escaped(review: Review) -> None:
    card: Card = review.sample.cards[0]
    add(review.run, [HumanJudgement(*card.key, "<b>ann</b>", "keep"), HumanJudgement(*card.key, "bob", "keep")])
    shown = measure(review.config, review.run, Quiet())._repr_html_()
    assert "<b>ann" not in shown
    assert "1 of 60 records judged" in shown
