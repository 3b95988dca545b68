import base64
import hashlib
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from mira.errors import RunError
from mira.evaluation.agreement_figures import Agreement, AgreementFigures, GateCatch, GatesResult
from mira.evaluation.audit.results import Agreed, AuditResult, ScorerAudit
from mira.evaluation.pairs.results import PairsResult, ScorerPairs, Tally
from mira.evaluation.results import Estimate, EvaluationResult, PlantedFigures, PlantedResult
from mira.evaluation.verdicts.verdict import Share, verdict
from mira.progress import Quiet
from mira.report import report
from mira.run_folder.files import read_json, write_json, write_parquet
from mira.run_folder.results import write_result
from support.report_project import Project, project


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Project:
    made = project(tmp_path_factory.mktemp("plain"), records=60)
    made.select(scope="group", budget="40%")
    return made


def test_numbers_are_those_of_the_selection(plain: Project) -> None:
    thresholds = read_json(plain.run.thresholds)
    text = plain.report(scope="group", budget="40%").text
    assert f"{thresholds['tokens_kept']:,} tokens kept" in text
    assert f"{thresholds['budget_tokens']:,} tokens (40%)" in text
    for name, entry in thresholds["sources"].items():
        group = "text_group_B" if name == "cat" else "text_group_A"
        counts = " ".join(f"{entry[k]:,}" for k in ("kept", "dropped"))
        assert f"{name} {group}" in text and f"{entry['rows']:,} {counts} 0 0" in text
        assert (
            f"{entry['tokens_in']:,} {entry['tokens_kept']:,} {entry['tokens_kept'] / entry['tokens_in']:.1%}" in text
        )
        assert f"{name} {entry['rows']} {entry['rows']} ✓" in text
    for key, scope in thresholds["scopes"].items():
        assert f"{key} cutoff {scope['threshold']:.2f}" in text


def test_masked_cells_are_hatched_with_their_reason(plain: Project) -> None:
    page = plain.report()
    hatched = [v for v in page.values("button", "class") if v and "hatch" in v.split()]
    assert len(hatched) == 1 and len(page.values("button", "class")) == 12
    assert "bee, A2. Masked: weak ranking: plain" in page.values("button", "title")
    assert "1 of 8 cells masked bee A2 Name 1 plain weak ranking: plain" in page.text
    assert "1 cells masked of 12 (source, slot) cells" in page.text
    targets = page.values("button", "popovertarget")
    assert len(set(targets)) == 12 and set(targets) <= set(page.values("div", "id"))


def test_rubric_and_groups(plain: Project) -> None:
    text = plain.report().text
    assert "A3 Name 2 plain" in text and "88 points" in text and "cohesion 0.62" in text
    assert "4.5 reason 2 plain also called near 2 plain" in text
    assert "Calibration references 4.5 reason 2 plain dimension plain , ant r2plain" in text
    assert "ant ↔ bee 0.875" in text


def test_examples_are_the_ends_and_prefer_labelled_records(plain: Project) -> None:
    text = plain.report().text
    rows = [row for path in plain.run.selection("ant").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    ranked = [row["id"] for row in sorted(rows, key=lambda row: -row["quality"])]
    labelled = {plain.id("ant", i) for i in range(0, 60, 3)}
    kept = {row["id"] for row in rows if row["kept"]}
    best = [i for i in ranked if i in labelled & kept]
    worst = [i for i in reversed(ranked) if i in labelled - kept]
    kinds = "best kept|lowest kept|worst dropped|highest dropped"
    shown = re.findall(rf"({kinds}) rank (\d+) of 60 in its source, \d+ tokens, (ant-\S+)", text)
    place = {id: str(i + 1) for i, id in enumerate(ranked)}
    assert {(kind, id) for kind, _, id in shown} == {
        ("best kept", best[0]), ("best kept", best[1]), ("lowest kept", best[-1]),
        ("worst dropped", worst[0]), ("worst dropped", worst[1]), ("highest dropped", worst[-1]),
    }  # fmt: skip
    assert all(place[id] == rank for _, rank, id in shown)
    number = int(best[0].split("-")[1])
    assert f"rationale ant {number} A4 plain" in text and f"brief ant {number} plain" in text
    assert "teacher: 64/100, downsample" in text
    assert "word word word" in text


def test_without_labels_the_ends_are_those_of_all_records(tmp_path) -> None:
    made = project(tmp_path, sources=["cat"], label_every=10**6)
    shutil.rmtree(made.run.path / "labels")
    made.select(budget="50%")
    text = made.report().text
    assert "best kept rank 1 of 30" in text and "worst dropped rank 30 of 30" in text
    assert "rationale" not in text.replace("with the teacher's rationales", "").replace("its rationales can", "")


def test_same_run_same_bytes_in_any_folder(plain: Project, tmp_path) -> None:
    plain.report(budget="40%")
    first = plain.run.report.read_bytes()
    plain.report(budget="40%")
    assert plain.run.report.read_bytes() == first
    other = project(tmp_path, records=60)
    other.select(scope="group", budget="40%")
    other.report(budget="40%")
    assert other.run.report.read_bytes() == first


def test_the_page_is_alone_and_its_policy_fits_its_style(plain: Project) -> None:
    page = plain.report()
    assert "script" not in page.tags and "link" not in page.tags and "img" not in page.tags
    assert not [a for a in page.attributes if a[1] in ("src", "style") or a[1].startswith("on")]
    assert all(href and href.startswith("#") and href[1:] in page.values("section", "id")
               for href in page.values("a", "href"))  # fmt: skip
    assert "url(" not in page.style and "@import" not in page.style
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    policy = next(v for v in page.values("meta", "content") if v and "default-src" in v)
    assert policy.startswith("default-src 'none'") and f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy and "script-src" not in policy


def test_reasons_of_rejected_and_bounded_records(tmp_path) -> None:
    made = project(tmp_path, sources=["ant", "bee"], lines={"ant": [b"{broken\n", b'{"id": "x", "text": " "}\n']})
    made.select(budget="50%", source_max={"ant": "20%"})
    text = made.report(budget="50%").text
    entry = read_json(made.run.thresholds)["sources"]["ant"]
    assert "ant rejected:bad_json the line is not JSON 1" in text
    assert "ant rejected:empty_text there is no text 1" in text
    assert entry["reasons"]["cap"] and f"ant cap dropped by the source's cap {entry['reasons']['cap']}" in text
    assert "own cutoff" in text and "2 unscored" not in text and "ant 32 32 ✓" in text


def test_unscored_records_have_a_reason_and_no_quality(tmp_path) -> None:
    made = project(tmp_path, sources=["ant"])
    for path in made.run.scores("ant").glob("*.parquet"):
        table = pq.read_table(path)
        for slot in ("A1", "A2", "A3", "A4"):
            values = table[slot].to_numpy().copy()
            values[:5] = np.nan
            table = table.set_column(table.column_names.index(slot), slot, [values])
        write_parquet(path, table)
    made.select(budget="50%")
    text = made.report().text
    assert "ant unscored:not_finite the student's score is not finite 5" in text
    assert "ant 25 records" in text


def test_a_method_without_quality_has_neither_distributions_nor_examples(plain: Project, tmp_path) -> None:
    made = project(tmp_path)
    made.select(method="random", budget="50%")
    page = made.report(method="random")
    assert {"quality", "examples"}.isdisjoint(page.values("section", "id"))
    assert {"kept", "reliability", "provenance"} <= set(page.values("section", "id"))


def test_a_sampled_ranking_shows_no_cutoff(tmp_path) -> None:
    made = project(tmp_path)
    made.select(budget="50%", temperature=1.0)
    page = made.report(temperature=1.0)
    assert "sampled at temperature 1.0" in page.text
    assert "cut" not in page.values("line", "class")


def test_only_a_selection_is_needed(tmp_path) -> None:
    made = project(tmp_path, sources=["ant"])
    with pytest.raises(RunError, match="nothing is selected yet"):
        report(made.config(), made.run, Quiet())
    for path in (made.run.groups, made.run.reliability):
        path.unlink()
    for folder in ("labels", "rubrics", "scores"):
        shutil.rmtree(made.run.path / folder)
    made.select(method="raw")
    page = made.report(method="raw")
    assert page.values("section", "id") == ["kept", "provenance"]
    assert "30 of 30 records from 1 source, chosen by raw" in page.text


def test_student_figures_and_fingerprints_come_from_the_manifest(tmp_path) -> None:
    made = project(tmp_path)
    made.select()
    assert "of the teacher's ceiling" not in made.report().text.replace("fair share of the teacher's ceiling", "")
    group = {
        "labels": 20, "doubly_judged": 7, "cross_fitted": True, "mean_rho_unmasked": 0.678,
        "mean_rho_of_ceiling": {"value": 0.81, "low": 0.78, "high": 0.84, "cells": 7}, "mean_ceiling": 0.95,
        "mean": {"rho_within_sources": 0.612, "rho_pooled": 0.834, "rho_source_alone": 0.581},
        "overall": {"auc_keep": 0.93, "auc_keep_source_alone": None},
        "slots": [{"slot": "A1", "rho_within_sources": 0.743, "rho_source_alone": -0.123}],
    }  # fmt: skip
    stages = {
        "reliability": {"fingerprint": "f" * 16, "digest": "d" * 16, "summary": {"groups": {"text_group_A": group}}},
        "report": {"fingerprint": "0" * 16, "digest": "1" * 16, "summary": {}},
    }
    write_json(made.run.manifest, {"stages": stages})
    text = made.report().text
    assert "81% of the teacher's ceiling from 78% to 84%" in text
    assert "0.68 mean ρ 7 unmasked cells; ceiling 0.95" in text
    assert "0.83 ρ across sources the source alone reaches 0.58" in text
    assert "0.93 AUC of the teacher's “keep” the source alone reaches –" in text
    assert "0.74 −0.12" in text and "20 labelled records, 7 of them judged twice." in text
    assert "f" * 16 in text and "0" * 16 not in text


def test_evaluation_is_shown_where_there_is_one(tmp_path) -> None:
    made = project(tmp_path)
    made.select()
    assert "evaluation" not in made.report().values("section", "id")
    figures = {
        "n": 40, "kept": 20, "precision": 0.86, "precision_low": 0.7, "precision_high": 0.93, "base_rate": 0.43,
        "dropworthy": 0.05, "dropworthy_base_rate": 0.28, "rho": 0.87,
    }  # fmt: skip
    fault = {"fault": "off_family", "pairs": 9, "accuracy": 0.61, "accuracy_low": 0.5, "accuracy_high": 0.7,
             "recall": 0.96, "originals_dropped": 0.64}  # fmt: skip
    students = {n: {"rho": {"value": v, "low": None, "high": None}} for n, v in (("student", 0.7), ("constant", 0.0))}
    methods = {"mira": [fault], "length": [fault | {"accuracy": 0.5, "recall": None}]}
    told = {"clean": 30, "spoiled": 20, "auc": 0.71, "low": 0.6, "high": 0.8, "kinds": {}}
    write_json(
        made.run.evaluation,
        {
            "kept_by_held_out_model": False,
            "agreement": {"all": figures, "sources": {"ant": figures}},
            "planted": {"records": 9, "methods": methods, "findings": ["The students do not see <off family>."]},
            "check": {"field": "meta.done", "sources": {"ant": {"student": told, "teacher": told}}},
            "students": {"text_group_A": students, "text_group_B": {}},
        },
    )
    text = made.report().text
    assert "ant 40 20 86% 70% to 93% 43% 5% 28% 0.87" in text and "all 40 20" in text
    assert "may have learned from these labels" in text
    assert "off family 9 61% 50% to 70% 50% 96% 64%" in text
    assert "The students do not see <off family>." in text
    assert "What meta.done says" in text and "ant student, quality 30 20 0.71" in text and "A weak label" in text
    assert "text_group_A student 0.70 – constant 0.00 –" in text


def test_demo_wording_only_for_the_demos_replies(plain: Project, tmp_path) -> None:
    from importlib import resources

    config = plain.config()
    said = "frontier LLM teacher, made once for this demo"
    assert said not in plain.report().text
    own = tmp_path / "replies.jsonl"
    shipped = resources.files("mira.demo_project") / "data" / "teacher_replies.jsonl"
    for content, wanted in ((shipped.read_bytes(), True), (shipped.read_bytes()[:-1] + b" ", False)):
        own.write_bytes(content)
        given = config.model_copy(update={"teacher": config.teacher.model_copy(update={"replies": str(own)})})
        report(given, plain.run, Quiet())
        assert (said in plain.run.report.read_text()) is wanted


def test_methods_are_compared_where_there_is_a_comparison(tmp_path) -> None:
    from mira.evaluation.compare import compare

    made = project(tmp_path)
    settings = {"budget": "50%", "scope": "source"}
    made.select(**settings)
    assert "compare" not in made.report(**settings).values("section", "id")
    found = compare(made.config(**settings), made.run, ["raw", "random", "mira"], Quiet())
    text = made.report(**settings).text
    assert f"the same budget of {found.budget_tokens:,} tokens, at scope source (raw keeps everything)." in text
    for name, row in found.methods.items():
        assert f"{name} {row.tokens_kept:,} {row.records_kept:,} {row.mean_tokens:.0f}" in text
        own = [row.sources[s].tokens_kept / found.sources[s].tokens_in for s in ("ant", "bee", "cat")]
        assert f"{name} {' '.join(f'{share:.0%}' for share in own)}" in text
    jaccard = found.jaccard
    assert f"random {jaccard['raw|random']:.2f} 1.00 {jaccard['random|mira']:.2f}" in text


def test_methods_are_judged_by_rho_and_ndcg(tmp_path) -> None:
    made = project(tmp_path, sources=["ant"])
    made.select()
    figures = {
        "precision": 0.86,
        "base_rate": 0.43,
        "dropworthy": 0.05,
        "rho": 0.874,
        "ndcg": 0.963,
        "ndcg_random": 0.8,
    }
    row = {
        "tokens_kept": 7, "records_kept": 2, "mean_tokens": 3.5, "sources": {"ant": {"tokens_kept": 7, "share": 1.0}},
        "agreement": {"all": figures},
    }  # fmt: skip
    raw = row | {"agreement": {"all": figures | {"rho": None, "ndcg": None, "ndcg_random": None}}}
    found = {"budget_tokens": 9, "scope": "group", "sources": {"ant": {"tokens_in": 28}}, "jaccard": {"raw|mira": 0.5}}
    write_json(made.run.path / "compare.json", {**found, "methods": {"raw": raw, "mira": row}})
    text = made.report().text
    assert "ρ with overall NDCG unscored" in text and "mira 7 2 4 – – 86% 5% 0.87 0.96 0" in text
    assert "a random order has an NDCG of 0.80" in text
    assert "Share of each source's own tokens" in text and "ant 28 tokens raw 25% mira 25%" in text


def test_a_share_of_the_ceiling_above_one_is_explained(plain: Project) -> None:
    assert "is above it (a share above 1), that is noise" in plain.report().text


def test_what_quality_is_not_stands_first_in_the_evaluation(plain: Project) -> None:
    held = AgreementFigures(n=20, kept=10, precision=0.7, precision_low=0.4, precision_high=0.9, base_rate=0.4)
    faults = [
        PlantedFigures("code_mutant", 40, 40, 0, 0.5, 0.35, 0.65),
        PlantedFigures("all", 40, 40, 0, 0.5, 0.3, 0.7),
    ]
    gates = GatesResult(held, held, {"ppl": {"code_mutant": GateCatch(40, 0.05, 0.04)}})
    subtle = PlantedResult(40, {"mira": faults}, findings=["Not seen."], skipped={"code_mutant": {"no_python": 3}})
    told = verdict((0.7, 0.6, 0.8), (0.8, 0.7, 0.9), {"code_mutant": Share(0.5, 0.35, 0.65, 40)})
    pairs = PairsResult(
        file="<b>.jsonl", lines=3, pairs=2, rejected={"bad_json": 1},
        scorers={"ppl": ScorerPairs(Tally(2, 2, 1, {}, 0.75, 0.2, 1.0), verdict="too few pairs")},
    )  # fmt: skip
    write_result(
        plain.run.evaluation,
        EvaluationResult(agreement=Agreement(held), subtle=subtle, verdicts={"text_group_A": told}, gates=gates),
    )
    write_result(plain.run.pairs, pairs)
    try:
        page = plain.report()
    finally:
        plain.run.evaluation.unlink()
        plain.run.pairs.unlink()
    text = page.text
    assert f"text_group_A {told.text}" in text and text.index(told.text) < text.index("Agreement with held-out labels")
    assert "code mutant 40 50% 35% to 65%" in text and "Not planted: code mutant in 3 no python" in text
    assert "ppl code mutant 40 5% 4%" in text and "the teacher would keep 70% of the 10 held-out records kept" in text
    assert "Pairs of <b>.jsonl" in text and "ppl 75% 20% to 100% 2 1 too few pairs" in text
    assert "3 lines; 1 are not pairs: bad json" in text


def test_an_audit_has_a_section(plain: Project) -> None:
    agreed = Agreed(judge="the teacher", records=9, within=Estimate(0.71, 0.6, 0.8), across=Estimate(0.8, 0.7, 0.9))
    edu = ScorerAudit(records=60, scored=59, distinct=7, source_auc=0.83, teacher=agreed, verdicts=["is <b>coarse</b>"])
    plain.report(scope="group", budget="40%")
    before = plain.run.report.read_bytes()
    assert b'id="audit"' not in before
    audit = AuditResult(records=60, sampled=50, scorers={"edu": edu}, notes=["edu: run `mira evaluate`"])
    write_result(plain.run.audit, audit)
    try:
        text, html = plain.report(scope="group", budget="40%").text, plain.run.report.read_text()
    finally:
        plain.run.audit.unlink()
    assert '<a href="#audit">' in html
    assert "edu 59 7 – 0.83 – – 0.71 0.60 to 0.80 0.80 0.70 to 0.90 –" in text
    assert "Is <b>coarse</b>." in text  # text, not markup
    assert "<code>mira evaluate</code>" in html
    plain.report(scope="group", budget="40%")
    assert plain.run.report.read_bytes() == before
