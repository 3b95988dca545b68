import numpy as np
import pytest
from scipy import sparse

from mira.config.settings import ReliabilitySettings
from mira.reliability.evidence import Predictions
from mira.reliability.students.baselines import _by_columns, _by_products, naive_students
from mira.reliability.students.compare import compare_students
from support.simulate import ids, labels, pair, predictions

SETTINGS = ReliabilitySettings(bootstrap=300)


def compare(table, students, sources=("a", "b"), k=1):
    return compare_students("g", [f"s{j}" for j in range(k)], sources, table, students, settings=SETTINGS, seed=0)


def worlds(n=300, seed=0):
    """A cheap student that is good in `a` and useless in `b`; a dear one that is good in both."""
    rng = np.random.default_rng(seed)
    teacher, cheap, dear = {}, {}, {}
    for source, rho in (("a", 0.8), ("b", 0.0)):
        score, student = pair(n, 0.8, rng)
        teacher[source], dear[source] = score[:, None], student[:, None]
        cheap[source] = (student + rng.normal(0, 0.05, n) if rho else rng.normal(5, 0.1, n))[:, None]
    again = {s: m[:30] + rng.normal(0, 0.1, (30, 1)) for s, m in teacher.items()}
    return labels(teacher, again), Predictions(predictions(cheap)), Predictions(predictions(dear))


def test_the_dear_student_is_used_only_where_it_is_better():
    table, cheap, dear = worlds()
    found = compare(table, {"cheap": cheap, "dear": dear})
    a, b = found.cells
    assert (a.chosen, b.chosen) == ("cheap", "dear")
    assert a.gain["dear"].low <= 0 <= a.gain["dear"].high
    assert b.gain["dear"].low > 0.5 and b.gain["cheap"].value == 0
    assert b.why["cheap"].startswith("weak ranking") and b.why["dear"] is None
    figures = found.students
    assert (figures["cheap"].chosen, figures["dear"].chosen) == (1, 1)
    assert (figures["cheap"].trusted, figures["dear"].trusted) == (1, 2)
    assert figures["dear"].of_ceiling.value == pytest.approx(0.8, abs=0.1)
    assert figures["dear"].gain.low > 0.2
    assert figures["dear"].gain.value == pytest.approx(figures["dear"].rho.value - figures["cheap"].rho.value)
    assert figures["dear"].rho.value < figures["dear"].of_ceiling.value


def test_a_clearly_better_student_wins_over_a_good_one():
    rng = np.random.default_rng(1)
    teacher, good = pair(2000, 0.6, rng)
    better = (good + teacher) / 2
    table = labels({"a": teacher[:, None]})
    students = {n: Predictions(predictions({"a": s[:, None]})) for n, s in (("good", good), ("better", better))}
    assert compare(table, students, ("a",)).cells[0].chosen == "better"
    assert compare(table, dict(reversed(students.items())), ("a",)).cells[0].chosen == "better"


def test_paired_differences_are_narrower_than_unpaired_ones():
    table, cheap, dear = worlds()
    a = compare(table, {"cheap": cheap, "dear": dear}).cells[0]
    paired = a.gain["dear"].high - a.gain["dear"].low
    assert paired < 0.3 * (a.rho["dear"].high - a.rho["dear"].low)


def test_only_labels_that_all_predicted_count():
    table, cheap, _ = worlds()
    some = Predictions(held_out=predictions({"a": np.full((300, 1), 5.0), "b": np.full((300, 1), 5.0)}))
    found = compare(table, {"cheap": cheap, "constant": some})
    assert [c.n for c in found.cells] == [60, 60]
    assert found.cells[0].chosen == "cheap"
    assert found.cells[1].chosen is None
    assert found.students["constant"].of_ceiling.value == found.students["constant"].rho.value == 0


def test_a_student_is_trusted_on_all_its_labels_even_beside_one_that_predicted_few():
    table, cheap, dear = worlds(n=120)
    few = Predictions(held_out=dear.out_of_fold)  # 24 held-out records a source: too few for a cell of its own
    found = compare(table, {"cheap": cheap, "dear": few})
    a, b = found.cells
    assert (a.n, a.level, a.why["cheap"]) == (24, "group", None)
    assert a.chosen == "cheap" and found.students["cheap"].trusted == 1
    assert b.chosen == "dear" and "the source has 24" not in b.why["cheap"]


def test_held_out_records_are_predicted_naively_from_the_others_alone():
    rng = np.random.default_rng(5)
    n = 100
    scores = rng.normal(5, 1, (n, 1))
    tokens = list(np.exp(scores[:, 0]).astype(int) + 1)
    texts = {("a", i): f"word{int(s)} " * 20 for i, s in zip(ids("a", n), scores[:, 0], strict=True)}
    wrong = scores.copy()
    wrong[:20] = 10 - wrong[:20]  # the held-out labels tell another story
    found, told = (
        {k: p.held_out for k, p in naive_students(labels({"a": s}, n_tokens={"a": tokens}), texts).items()}
        for s in (scores, wrong)
    )
    assert found == told
    assert all(t.num_rows == 20 for t in found.values())
    predicted = found["length"]["A1"].to_numpy()
    assert np.corrcoef(predicted, scores[:20, 0])[0, 1] > 0.95
    assert found["constant"]["A1"].to_numpy() == pytest.approx(np.full(20, scores[20:].mean()), abs=1e-5)
    assert naive_students(labels({"a": scores}, held_out=0.0))["length"].held_out is None


def test_small_cells_are_compared_on_their_group():
    rng = np.random.default_rng(2)
    sizes = {"a": 200, "b": 5}
    drawn = {s: pair(n, 0.8, rng) for s, n in sizes.items()}
    table = labels({s: t[:, None] for s, (t, _) in drawn.items()})
    student = Predictions(predictions({s: p[:, None] for s, (_, p) in drawn.items()}))
    b = compare(table, {"only": student}).cells[1]
    assert (b.level, b.chosen, b.n) == ("group", "only", 5)


def test_no_student():
    with pytest.raises(ValueError, match="no student"):
        compare(worlds()[0], {})


def naive_world(n=200):
    rng = np.random.default_rng(3)
    words = np.array(["alpha", "beta", "gamma", "delta"])
    good = rng.integers(0, 30, n)
    texts = [" ".join(rng.permutation(["good"] * g + list(words[rng.integers(0, 4, 30 - g)]))) for g in good]
    tokens = rng.integers(10, 5000, n)
    scores = np.stack([good / 3, np.log(tokens)], axis=1)
    table = labels({"a": scores, "b": scores + 1}, n_tokens={"a": list(tokens), "b": list(tokens)})
    return table, {(s, i): t for s in "ab" for i, t in zip(ids(s, n), texts, strict=True)}


def test_naive_students_know_what_they_should_and_nothing_else():
    table, texts = naive_world()
    found = naive_students(table, texts)
    assert list(found) == ["constant", "source mean", "length", "n-grams"]
    result = compare(table, found, k=2)
    by_words, by_length = result.cells[0], result.cells[1]
    assert by_words.chosen == "n-grams" and by_words.rho["n-grams"].value > 0.8
    assert by_length.chosen == "length" and by_length.rho["length"].value > 0.95
    assert abs(by_words.rho["length"].value) < 0.3
    for name in ("constant", "source mean"):
        assert all(np.isnan(cell.rho[name].value) for cell in result.cells)
    mean = found["source mean"].out_of_fold
    assert len(set(mean["A1"].to_pylist())) == 2


def test_naive_students_do_not_see_the_label_they_predict():
    rng = np.random.default_rng(4)
    n = 150
    table = labels({"a": rng.normal(5, 1, (n, 1))})
    noise = {("a", i): " ".join(map(str, rng.integers(0, 10**6, 20))) for i in ids("a", n)}
    found = naive_students(table, noise)
    rho = compare(table, found, ("a",)).cells[0].rho
    assert abs(rho["n-grams"].value) < 0.25 and abs(rho["length"].value) < 0.25


def test_naive_students_survive_missing_scores_and_texts():
    scores = np.full((10, 2), np.nan)
    scores[:6, 0] = np.arange(6)
    found = naive_students(labels({"a": scores}), {("a", ids("a", 1)[0]): "one text"})
    for predicted in found.values():
        assert predicted.out_of_fold["A2"].null_count == 10
    assert found["n-grams"].out_of_fold.num_rows == 10
    assert "n-grams" not in naive_students(labels({"a": scores}))


def test_ridges_by_records_and_by_features_agree():
    rng = np.random.default_rng(6)
    features = sparse.random(80, 500, 0.2, format="csr", random_state=0)
    scores, train, test = rng.normal(5, 1, (60, 2)), np.arange(60), np.arange(60, 80)
    by_records = _by_products(features, scores, train, test, 1.0)
    assert by_records == pytest.approx(_by_columns(features.toarray(), scores, train, test, 1.0), abs=1e-9)


def test_slots_with_missing_scores_are_fitted_on_those_they_have():
    table, texts = naive_world(60)
    scores = np.stack([table[s].to_numpy() for s in ("A1", "A2")], axis=1)
    together = naive_students(table, texts)["n-grams"].out_of_fold
    lacking = scores.copy()
    lacking[::3, 1] = np.nan
    told = labels({s: lacking[60 * i : 60 * i + 60] for i, s in enumerate("ab")})
    some = naive_students(told, texts)["n-grams"].out_of_fold
    assert some["A1"].to_numpy() == pytest.approx(together["A1"].to_numpy(), abs=1e-5)
    assert some["A2"].null_count == 0 and not np.allclose(some["A2"].to_numpy(), together["A2"].to_numpy(), atol=0.01)
