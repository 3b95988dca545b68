"""What the report says to do next, what was spent, and the records behind its figures."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.config.loading import load_config
from mira.report.behind import clip
from mira.run_folder.files import read_json, write_json, write_parquet
from support.report_project import Project, project

WEAK = "weak ranking: rho 0.50 may be as low as 0.20, 0.30 is needed (n = 50)"


def _masked(made: Project, source: str, slots: dict[str, str], **figures: object) -> None:
    """Mask cells of a source for a reason, with figures to project from."""
    rows = pq.read_table(made.run.reliability).to_pylist()
    for row in rows:
        if row["source"] == source and row["slot"] in slots:
            row |= {"masked": True, "why": slots[row["slot"]], "rho": 0.5, "rho_low": 0.2, "level": "cell", **figures}
    write_parquet(made.run.reliability, pa.Table.from_pylist(rows, schema=pq.read_schema(made.run.reliability)))


def _labels(made: Project, records: int, **requests: object) -> dict:
    groups = {g: {"records": dict.fromkeys(s, records), "judgements": 9} for g, s in made.groups.items()}
    if requests:
        next(iter(groups.values()))["requests"] = requests
    found = {"label": {"summary": {"groups": groups}}}
    found["discover"] = {"summary": {"groups": {g: {"slots": 4} for g in made.groups}}}
    return found


def _live(made: Project, **teacher: object) -> "object":
    config = made.config(budget="50%")
    endpoint = {"base_url": "http://localhost:1/v1", "model": "m", "price_in": 1, "price_out": 4}
    return config.model_validate({**config.model_dump(), "teacher": {"endpoint": endpoint, **teacher}})


def _page(made: Project, config: object) -> str:
    from mira.progress import Quiet
    from mira.report import report
    from support.report_project import PageReader

    report(config, made.run, Quiet())  # type: ignore[arg-type]
    return PageReader(made.run.report.read_text(encoding="utf-8")).text


def test_a_selection_that_was_not_tested_is_to_be_tested_first(tmp_path) -> None:
    made = project(tmp_path)
    made.select(budget="50%")
    text = made.report(budget="50%").text
    share = read_json(made.run.thresholds)["tokens_kept"] / read_json(made.run.thresholds)["tokens_in"]
    assert f"mira evaluate mira.yaml concerns {share:.1%} of the tokens" in text
    write_json(made.run.evaluation, {"kept_by_held_out_model": True, "agreement": {"all": {}, "sources": {}},
                                     "planted": {"records": 0, "methods": {}}, "students": {}})  # fmt: skip
    assert "mira evaluate" not in made.report(budget="50%").text


def test_labels_are_asked_for_where_they_would_unmask_most_cells(tmp_path) -> None:
    made = project(tmp_path, records=120, sources=["ant", "cat"], masked=())
    made.select(budget="50%")
    _masked(made, "ant", {"A1": WEAK, "A3": WEAK})
    _masked(made, "cat", {"A2": "collapsed: the teacher's scores hardly vary"})
    requests = {"from_journal": 0, "replies": 10, "tokens_in": 5, "cost": 2.0}
    write_json(made.run.manifest, {"stages": _labels(made, 50, **requests)})
    text = _page(made, _live(made))
    # z(0.5) - z(0.2) = 0.347, z(0.5) - z(0.3) = 0.240: 3 + 47 (0.347 / 0.240)^2 = 101.2 labels
    assert "Label 102 records per source to unmask 2 cells" in text
    assert "A1, A3 of ant would be trusted at this number" in text
    assert "about 114 more judgements, at a cost of about 22.80." in text, "52 records more in both, 10% twice"
    assert "mira run mira.yaml --set label.sample=102" in text
    few = project(tmp_path / "few", records=80, sources=["ant", "cat"], masked=())
    few.select(budget="50%")
    _masked(few, "ant", {"A1": WEAK})
    write_json(few.run.manifest, {"stages": _labels(few, 50)})
    assert "to unmask" not in _page(few, _live(few)), "the source has not so many records"


def test_too_few_labels_and_a_recorded_teacher(tmp_path) -> None:
    made = project(tmp_path, records=60, masked=())
    made.select(budget="50%")
    _masked(made, "bee", {"A2": "too few labels: 12 in the source, 20 in the group, 30 are needed"}, level="none", n=12)
    write_json(made.run.manifest, {"stages": _labels(made, 12)})
    text = made.report(budget="50%").text
    assert "Label 30 records per source Labels are too few to test A2 of bee: reliability.min_n is 30." in text
    assert 'teacher: replies: "" endpoint: {base_url: URL, model: NAME} label: sample: 30' in text


def test_lost_lines_come_with_a_command_that_shows_them(tmp_path) -> None:
    broken = [b'{"id": "x"}\n'] * 3 + [b"{broken\n"]
    made = project(tmp_path, sources=["ant", "bee"], lines={"ant": broken})
    made.select(budget="50%")
    page = made.report(budget="50%")
    assert "4 of 34 lines (11.8%) were rejected: 3 missing_field, 1 bad_json." in page.text
    assert "Does fields of source ant name the fields of its records?" in page.text
    assert 'python -c \'import mira; print(*mira.open("mira.yaml").sql("SELECT shard, row' in page.text
    assert page.text.count("were rejected") == 2, "bee lost nothing"
    assert "ant.jsonl:31: field 'text' is missing" in page.text


def test_length_and_masks_call_for_another_selection(tmp_path) -> None:
    made = project(tmp_path)
    made.select(budget="50%")
    figures = {"ant": {"length_rho": 0.9, "mask_moves": 0.01}, "bee": {"length_rho": 0.3, "mask_moves": -0.2,
               "own": 0.3, "shared": 0.5}}  # fmt: skip
    write_json(made.run.path / "kept.json", {"compare_by": "own", "sources": figures, "notes": []})
    text = made.report(budget="50%").text
    assert "Spearman of rank and tokens: ant 0.90" in text
    assert "mira select mira.yaml --set select.length.control=strata" in text
    assert "bee keeps 30%, without its own mask 50%." in text
    assert "mira select mira.yaml --set select.compare_by=centred" in text
    order = [text.index(words) for words in ("mira evaluate", "select.length.control", "select.compare_by")]
    assert order == sorted(order)
    assert "Keep the best of every length" not in made.report(budget="50%", length={"control": "strata"}).text


def test_only_three_actions_are_open(tmp_path) -> None:
    made = project(tmp_path, masked=(), lines={s: [b"{broken\n"] * 9 for s in ("ant", "bee", "cat")})
    made.select(budget="50%")
    page = made.report(budget="50%")
    assert "2 more Look at the lines of" in page.text


def test_commands_carry_what_the_command_line_changed(tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n')
    path = tmp_path / "my settings.yaml"
    path.write_text("sources: [{name: a, path: a.jsonl}]\n")
    config = load_config(path, ["select.budget=25%", "teacher.max_cost=3", "score.workers=1", "seed=1"])
    assert config.arguments == "'my settings.yaml' --set select.budget=25% --set seed=1"
    assert config.model_copy().arguments == config.arguments
    assert project(tmp_path / "plain").config().arguments == "mira.yaml"


def test_what_was_spent_is_the_same_whichever_command_paid(tmp_path) -> None:
    made = project(tmp_path)
    made.select(budget="50%")
    assert "No endpoint was asked." in made.report(budget="50%").text
    paid = {"from_journal": 0, "replies": 12, "requests": 15, "retries": {"HTTP 503": 3}, "tokens_in": 12000,
            "tokens_out": 600, "cost": 0.0144, "models": {"big-<b>": 12}, "failures": {}}  # fmt: skip
    known = {**paid, "from_journal": 12, "requests": 0, "retries": {}, "tokens_in": 0, "tokens_out": 0, "cost": 0.0,
             "known_in": 12000, "known_out": 600, "known_cost": 0.0144}  # fmt: skip
    for entry, retries in ((paid, 3), (known, 0)):
        stages = {"label": {"summary": {"groups": {"g": {"requests": entry}}}},
                  "score": {"summary": {"requests": {"g": {**entry, "models": {"small": 12}}}}}}  # fmt: skip
        write_json(made.run.manifest, {"stages": stages})
        text = _page(made, _live(made))
        assert f"label big-<b> 12 {retries} 0 12,000 600 0.0144" in text
        assert f"score small 12 {retries} 0 12,000 600" in text and f"all 24 {2 * retries} 0 24,000 1,200" in text


def test_records_at_the_cutoff_and_lines_behind_reasons(tmp_path) -> None:
    made = project(tmp_path, sources=["ant"], lines={"ant": [b"{broken\n"]})
    made.select(budget="50%")
    text = made.report(budget="50%").text
    rows = [row for path in made.run.selection("ant").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    kept = sorted((r for r in rows if r["kept"]), key=lambda r: r["quality"])[:3]
    dropped = sorted((r for r in rows if not r["kept"]), key=lambda r: -r["quality"])[:3]
    told = text[text.index("At the cutoff of ant") :]
    for row in (*kept, *dropped):
        verdict = "kept" if row["kept"] else "dropped"
        assert f"{row['quality']:.2f} {verdict}, {row['n_tokens']} tokens, {row['id']} ant record" in told
    assert "rejected:bad_json the line is not JSON 1 Some of them" in text and "ant.jsonl:31: not JSON" in text


def test_cells_show_where_teacher_and_student_differ_most(tmp_path) -> None:
    made = project(tmp_path, sources=["ant"], label_every=1)
    made.select(budget="50%")
    ids = [made.id("ant", i) for i in range(30)]
    table = {"id": ids, "source": ["ant"] * 30}
    for j in range(4):  # the teacher says 7.5 of every record
        column = np.full(30, 7.5, np.float32)
        column[[4, 9]] = 1.5 + j, 3.0
        table[f"A{j + 1}"] = column
    folder = made.run.student("text_group_A")
    write_parquet(folder / "out_of_fold.parquet", pa.table(table))
    text = made.report(budget="50%").text
    first, second = ids[4], ids[9]
    assert f"{first} teacher 7.5, student 1.5 rationale ant 4 A1 plain {second} teacher 7.5, student 3.0" in text
    assert f"{second} teacher 7.5, student 3.0 rationale ant 9 A4 plain {first} teacher 7.5, student 4.5" in text


def test_the_discovery_record_is_shown_and_hostile_names_are_text(tmp_path) -> None:
    made = project(tmp_path)
    made.select(budget="50%")
    cluster = {"slot": "A1", "name": "<script>x</script>\u202e", "points": 12, "cohesion": 0.41, "stability": 0.33,
               "covered": 0.25, "names": [["<img src=x>", 4], ["Depth", 2]]}  # fmt: skip
    record = {"records": 9, "points": 12, "cohesion": 0.4, "name_by": "medoid", "clusters": [cluster],
              "advice": ["More records are needed: all."]}  # fmt: skip
    groups = {"text_group_A": {"from": "given", "clusters": record}, "text_group_B": {}}
    write_json(made.run.manifest, {"stages": {"discover": {"summary": {"groups": groups}}}})
    page = made.report(budget="50%")
    assert "script" not in page.tags and "img" not in page.tags and "\u202e" not in page.page
    assert "The clusters of 12 free judgments of 9 records: this rubric was given" in page.text
    assert "<img src=x> (4), Depth (2) thin, unstable, loose" in page.text
    assert "0.41 0.33 25%" in page.text and "More records are needed: all." in page.text


@pytest.mark.parametrize(("text", "shown"), [("a\n b", "a b"), ("x" * 170, "x" * 160 + " …"), ("", "")])
def test_texts_are_clipped_to_one_line(text: str, shown: str) -> None:
    assert clip(text) == shown
