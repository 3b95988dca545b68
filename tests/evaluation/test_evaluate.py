"""The stage on a small run folder: real index, real student, real selection."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mira import corpus
from mira.config.settings import Config
from mira.distillation.encoder.student import EncoderStudent, train_encoder
from mira.errors import RunError
from mira.evaluation.faults import Fault
from mira.evaluation.naive import against_naive
from mira.evaluation.planted import Pair
from mira.evaluation.planted_methods import method_scorer
from mira.evaluation.results import Estimate, EvaluationResult, PlantedResult
from mira.evaluation.stage import evaluate
from mira.grouping.groups import load_groups
from mira.judging.judge import JudgeTask
from mira.progress import Quiet
from mira.reliability.stage import reliability
from mira.rubric.judgement import Judgement, Recommendation, judgement_schema, judgements_table
from mira.rubric.rubric import Anchor, Reference, Rubric
from mira.run_folder.files import hash_file, read_json, write_json, write_parquet
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result
from mira.selection.methods.method import load_method
from mira.selection.quality import load_mask
from mira.selection.stage import select, selection_inputs
from mira.selection.values import values_path
from support.served_case import serving, sft_bundle

GROUP = "text_group_A"
SOURCES = ("docs", "tests")
GOOD = ["explains", "why", "carefully", "with", "examples", "and", "reasons"]
BAD = ["lorem", "ipsum", "click", "here", "buy", "now", "banner"]


class Notes(Quiet):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def write_corpus(folder, rng):
    for source in SOURCES:
        lines = []
        for i in range(160):
            quality = rng.random()
            words = [rng.choice(GOOD) if rng.random() < quality else rng.choice(BAD) for _ in range(120)]
            text = "\n".join(" ".join(words[k : k + 10]) for k in range(0, 120, 10))
            line = {"id": f"{source}{i:03d}", "text": text}
            if source == "docs" and i % 10:  # a tenth does not say
                line["meta"] = {"done": "None" if quality > 0.5 else ("cut", "mixed")[i % 2]}
            lines.append(json.dumps(line))
        (folder / f"{source}.jsonl").write_text("\n".join(lines) + "\n")


def teacher(record, replicate):
    words = record.text.split()
    score = round(20 * sum(w in GOOD for w in words) / len(words)) / 2
    verdict = Recommendation.KEEP if score > 5 else Recommendation.DROP
    scores = (score, max(score - 1, 0.0), 10 - score if replicate else 9.5)
    return Judgement(record.id, record.source, scores, overall=10 * score, recommendation=verdict, replicate=replicate)


def write_labels(run, records):
    judgements = [teacher(r, 0) for r in records]
    table = judgements_table(judgements, 3)
    split = ["held_out" if int(r.id[-3:]) % 4 == 0 else "train" for r in records]
    tokens = pa.array([r.n_tokens for r in records], pa.int32())
    table = table.append_column("n_tokens", tokens).append_column("split", pa.array(split))
    write_parquet(run.labels(GROUP), table)
    return table


def write_scores(config, run):
    student = EncoderStudent.load(run.student(GROUP))
    dropped = ["rationales", "domain_tag", "brief"]
    names = [n for n in judgement_schema(3).names if n not in dropped]
    for source, parts in corpus.shards(config.corpus).items():
        for shard in parts:
            records = list(corpus.read(config.corpus, run, shard))
            table = judgements_table(list(student.judge(map(JudgeTask, records))), 3).select(names)
            table = table.append_column("row", pa.array([r.row for r in records], pa.int64()))
            table = table.append_column("n_tokens", pa.array([r.n_tokens for r in records], pa.int32()))
            write_parquet(run.scores(source) / f"{shard.name}.parquet", table)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    write_corpus(folder, np.random.default_rng(0))
    config = Config.model_validate(
        {
            "sources": [{"name": s, "path": str(folder / f"{s}.jsonl")} for s in SOURCES],
            "evaluate": {"planted": 6, "subtle": 20},
            "select": {"min_slots": 1},
        }
    )
    run = RunFolder(folder / "run")
    corpus.build_index(config, run, Quiet())
    group = {"name": GROUP, "family": "text", "group": "A", "sources": list(SOURCES), "cosines": []}
    write_json(run.groups, {"groups": [group], "k": {}})
    rubric = Rubric(GROUP, tuple(Anchor(f"A{i}", f"slot {i}", 5, Reference("r", 5.0, "why")) for i in (1, 2, 3)))
    rubric.save(run.rubric(GROUP))
    ids = {s: [f"{s}{i:03d}" for i in range(120)] for s in SOURCES}
    records = [r for s in SOURCES for r in corpus.fetch(config.corpus, run, s, ids[s])]
    labels = write_labels(run, records)
    train_encoder(labels, records, rubric, None, config.distill, 0, run.student(GROUP), Quiet())
    write_scores(config, run)
    reliability(config, run, Quiet())
    return config, run


def with_select(config, **settings):
    return config.model_copy(update={"select": config.select.model_copy(update=settings)})


def test_a_field_that_says_what_was_done_is_an_external_check(world):
    config, run = world
    select(config, run, Quiet())
    evaluation = config.evaluate.model_copy(update={"planted": 0, "check_field": "meta.done"})
    notes = Notes()
    found = evaluate(config.model_copy(update={"evaluate": evaluation}), run, notes).check
    assert found.field == "meta.done" and set(found.sources) == {"docs"}
    docs = found.sources["docs"]
    assert docs.student.clean + docs.student.spoiled == 36  # 40 records without a label, 4 do not say
    assert docs.teacher.clean + docs.teacher.spoiled == 108
    assert docs.student.low <= docs.student.auc <= docs.student.high and docs.student.auc > 0.9
    assert docs.teacher.auc > 0.9 and docs.overall.auc > 0.9
    kinds = docs.student.kinds
    assert set(kinds) == {"cut", "mixed"} and sum(k.spoiled for k in kinds.values()) == docs.student.spoiled
    assert any("docs, meta.done: the student's quality tells" in line and "weak label" in line for line in notes.lines)

    unknown = config.evaluate.model_copy(update={"planted": 0, "check_field": "meta.nothing"})
    assert evaluate(config.model_copy(update={"evaluate": unknown}), run, notes).check.sources == {}
    assert any("no source has both clean and other records by field 'meta.nothing'" in line for line in notes.lines)


def test_before_selection(tmp_path, world):
    with pytest.raises(RunError, match="mira select"):
        evaluate(world[0], RunFolder(tmp_path), Quiet())


def test_a_good_selection_is_told_from_a_random_one(world):
    config, run = world
    select(config, run, Quiet())
    notes = Notes()
    found = evaluate(config, run, notes)
    assert read_result(EvaluationResult, run.evaluation) == found
    assert (found.method, found.scope) == ("mira", "group")
    held = found.agreement.all
    assert held.n == 60 and sum(s.n for s in found.agreement.sources.values()) == 60
    assert held.precision > 0.85 and held.base_rate < 0.65
    assert held.ndcg > 0.97 and held.ndcg_random < 0.95
    assert any("the teacher would keep" in line for line in notes.lines)

    planted = found.planted
    assert planted.records == 12
    mira = {f.fault: f for f in planted.methods["mira"]}
    assert mira["garbage"].pairs == 12 and mira["all"].pairs == sum(f.pairs for f in mira.values()) / 2
    assert mira["all"].recall is not None
    assert set(planted.sources) == set(SOURCES)
    length = {f.fault: f for f in planted.methods["length"]}
    assert length["truncated"].accuracy == 1.0 and length["truncated"].recall is None
    assert any(line.startswith("planted, garbage") for line in notes.lines)

    negated = next(f for f in found.subtle.methods["mira"] if f.fault == "all")
    assert negated.pairs == 0 and found.subtle.skipped == {
        "code_mutant": {"no_python": 40},
        "negated": {"few_statements": 40},
        "other_paragraphs": {"few_paragraphs": 40},
    }
    assert set(found.verdicts) == {GROUP, "all"}
    verdict = found.verdicts[GROUP]
    assert verdict.student == hash_file(run.student(GROUP) / "SHA256SUMS")
    assert verdict.text.startswith("orders ") and verdict.faults["garbage"].value == mira["garbage"].accuracy
    assert f"verdict, {GROUP}: {verdict.text}" in notes.lines

    select(with_select(config, method="random"), run, Quiet())
    random = evaluate(with_select(config, method="random"), run, Quiet())
    assert random.agreement.all.precision < held.precision - 0.1
    assert random.agreement.all.ndcg is None
    by_random = {f.fault: f for f in random.planted.methods["mira"]}
    assert by_random["all"].recall is None
    assert by_random["all"].accuracy == mira["all"].accuracy


def by_fault(found, method):
    return {f.fault: f for f in found.planted.methods[method]}


def test_the_other_methods_meet_the_same_faults(world):
    config, run = world
    select(config, run, Quiet())
    dsir = config.select.dsir.model_copy(update={"min_words": 40, "noise": False})
    config = with_select(config, dsir=dsir)
    notes = Notes()
    found = evaluate(config, run, notes)
    assert list(found.planted.methods) == ["mira", "length", "random", "dsir", "ppl"]
    ppl, dsir = by_fault(found, "ppl"), by_fault(found, "dsir")
    assert ppl["garbage"].accuracy == ppl["off_family"].accuracy == 1.0
    assert ppl["all"].recall is None  # it has not ranked this corpus
    assert found.planted.findings and set(found.planted.findings) <= set(notes.lines)
    assert dsir["truncated"].compared == 0 and dsir["truncated"].unscored == 12  # 30 words are left
    assert dsir["shuffled"].compared == 12
    assert 0 < by_fault(found, "random")["all"].recall < 1
    assert any(f"of {dsir['all'].compared} pairs" in n for n in notes.lines if n.startswith("planted, dsir:"))

    select(with_select(config, method="ppl"), run, Quiet())
    ranked = by_fault(evaluate(config, run, Quiet()), "ppl")
    assert ranked["garbage"].recall == 1.0 and ranked["all"].accuracy == ppl["all"].accuracy


def test_a_method_that_cannot_run_is_told_and_left_out(world):
    config, run = world
    select(config, run, Quiet())
    ppl = config.select.ppl.model_copy(update={"model": "not/there.arpa"})
    notes = Notes()
    found = evaluate(with_select(config, ppl=ppl), run, notes)
    assert list(found.planted.methods) == ["mira", "length", "random", "dsir"]
    assert any(line.startswith("planted, ppl: left out") and "not/there.arpa" in line for line in notes.lines)


@pytest.mark.parametrize("method", ["dsir", "ppl"])
def test_originals_have_the_values_that_selection_gives_them(world, method):
    config, run = world
    select(with_select(config, method=method), run, Quiet())
    chosen = load_method(method, selection_inputs(config, run, Quiet()))
    for source, parts in corpus.shards(config.corpus).items():
        rows = [r for shard in parts for r in corpus.read(config.corpus, run, shard)]
        stored = [v for shard in parts for v in pq.read_table(values_path(run, method, source, shard.name))["value"]]
        values = chosen.values_of(source, [r.id for r in rows], [r.text for r in rows])
        np.testing.assert_allclose(values, [v.as_py() for v in stored], rtol=1e-12)


def test_a_copy_is_measured_by_its_originals_model(world):
    """The other model was trained on the original: it finds copies easy, whatever is wrong with them."""
    config, run = world
    records = [r for s in SOURCES for r in corpus.fetch(config.corpus, run, s, [f"{s}{i:03d}" for i in range(20)])]
    twins = [replace(r, id=f"{r.id}~twin") for r in records]
    pairs = [Pair(r, twin, Fault.SHUFFLED) for r, twin in zip(records, twins, strict=True)]
    inputs = selection_inputs(config, run, Quiet())
    scorer = method_scorer(load_method("ppl", inputs), inputs, pairs)
    np.testing.assert_array_equal(scorer(records), scorer(twins))


def test_the_student_beside_naive_means(world):
    config, run = world
    found = against_naive(config.corpus, config.reliability, config.seed, run, load_groups(run)[0])
    assert list(found) == ["student", "constant", "source mean", "length", "n-grams"]
    assert found["student"].rho.value > 0.8
    assert found["student"].of_ceiling.value is None  # nothing was judged twice
    assert found["student"].gain == Estimate(0, 0, 0)
    for name in ("constant", "source mean", "length"):
        assert found[name].gain.high < -0.5 and found[name].trusted == 0
    assert found["n-grams"].rho.value > 0.5


def test_a_served_student_judges_the_copies_and_one_that_is_gone_leaves_them_out(tmp_path, world):
    config, run = world
    select(config, run, Quiet())
    served = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, served.path, ignore=shutil.ignore_patterns("students"))
    sft_bundle(served.student(GROUP), Rubric.load(run.rubric(GROUP), GROUP))

    def share_of_good(user):
        words = user.split()
        return 10 * sum(w in GOOD for w in words) / len(words)

    with serving(share_of_good, Rubric.load(run.rubric(GROUP), GROUP)) as server:
        endpoint = {"base_url": server.url, "model": "m", "max_model_len": 4096, "max_tokens": 500, "max_retries": 0}
        distill = config.distill.model_validate({"student": "endpoint", "endpoint": endpoint})
        config = config.model_copy(update={"distill": distill})
        found = evaluate(config, served, Quiet())
        assert by_fault(found, "mira")["garbage"].accuracy > 0.9
        assert len(server.requests) == sum(f.pairs for f in found.planted.methods["mira"][:-1]) + 12
    again = evaluate(config, served, Quiet())  # every reply is in the journal
    assert again.planted == found.planted
    shutil.rmtree(served.journal)
    offline = config.model_copy(update={"teacher": config.teacher.model_copy(update={"offline": True})})
    notes = Notes()
    gone = evaluate(offline, served, notes)
    assert gone.planted.methods == {} and gone.agreement == found.agreement
    assert any(line.startswith("planted faults: left out") and "failure budget" in line for line in notes.lines)


def test_same_bytes_twice(world):
    config, run = world
    select(config, run, Quiet())
    evaluate(config, run, Quiet())
    first = run.evaluation.read_bytes()
    evaluate(config, run, Quiet())
    assert run.evaluation.read_bytes() == first


def test_nothing_planted_when_none_is_wanted(world):
    config, run = world
    select(config, run, Quiet())
    none = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"planted": 0})})
    found = evaluate(none, run, Quiet())
    assert found.planted == PlantedResult() and found.subtle.records == 0 and found.verdicts[GROUP].faults == {}


def test_held_out_records_are_judged_by_a_model_that_has_not_seen_them(world):
    """The student's last fit may take all labels: its sidecars know the held-out ones by heart."""
    config, run = world
    select(config, run, Quiet())
    honest = evaluate(config, run, Quiet())
    assert honest.kept_by_held_out_model
    for source in SOURCES:
        for path in run.selection(source).glob("*.parquet"):
            table = pq.read_table(path)
            cheat = pa.array(np.random.default_rng(0).random(table.num_rows))
            turned = pc.invert(table["kept"])
            table = table.set_column(table.schema.get_field_index("quality"), "quality", cheat)
            write_parquet(path, table.set_column(table.schema.get_field_index("kept"), "kept", turned))
    assert evaluate(config, run, Quiet()).agreement == honest.agreement

    predicted = pq.read_table(run.student(GROUP) / "held_out.parquet").to_pylist()
    slots = load_mask(run)["docs"]
    cut = read_json(run.thresholds)["sources"]["docs"]["threshold"]
    means = [np.mean([row[slot] for slot in slots]) for row in predicted if row["source"] == "docs"]
    assert honest.agreement.sources["docs"].kept == sum(m >= cut for m in means)


def test_with_noise_what_was_kept_is_taken_as_it_is(world):
    config, run = world
    noisy = with_select(config, temperature=2.0)
    select(noisy, run, Quiet())
    found = evaluate(noisy, run, Quiet())
    assert not found.kept_by_held_out_model
    assert {f.recall for f in found.planted.methods["mira"]} == {None}
