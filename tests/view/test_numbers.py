"""Every number that a page shows is the one of the sidecars, of thresholds.json or of `mira explain`."""

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.datastructures import QueryParams
from starlette.testclient import TestClient

from mira.config.tokens import Tokens
from mira.progress import Quiet
from mira.reliability.stage import load_evidence
from mira.run_folder.files import read_json
from mira.run_view import Run, open_run
from mira.selection.explain.explain import explain
from mira.selection.explain.text import find_text
from mira.viewer import filters
from mira.viewer.disagreements import between
from mira.viewer.records import STATES
from mira.viewer.reliability import points
from mira.viewer.selection import asked_in, edges
from mira.viewer.site import Site
from support.report_project import Project, project
from view.conftest import client_of


def text_of(page: str) -> str:
    """Return a page as a reader sees it."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def selection(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = run.table("selection").to_pylist()
    return rows


@pytest.fixture(scope="module")
def site(run: Run) -> Site:
    return Site(run)


def test_the_overview_has_the_counts_of_the_selection(client: TestClient, run: Run) -> None:
    text = text_of(client.get("/").text)
    sources = read_json(run.folder.thresholds)["sources"]
    sums = {n: sum(s[n] for s in sources.values()) for n in ("rows", "kept", "dropped", "unscored", "rejected")}
    assert sums["rows"] == sum(n for name, n in sums.items() if name != "rows")
    assert (
        f"{sums['rows']:,} records in = {sums['kept']:,} kept + {sums['dropped']:,} dropped + {sums['unscored']:,} "
        f"unscored + {sums['rejected']:,} rejected ✓"
    ) in text
    for name, s in sources.items():
        counts = f"{s['rows']:,} {s['kept']:,} {s['dropped']:,} {s['unscored']:,} {s['rejected']:,}"
        group = next(g.name for g in run.groups if name in g.sources)
        assert f"{name} {group} {s['kept']:,} kept" in text and counts in text
        assert f"{s['tokens_in']:,} {s['tokens_kept']:,} {s['tokens_kept'] / s['tokens_in']:.1%}" in text
    for name, n in sources["ant"]["reasons"].items():
        if name not in ("kept", "below_threshold"):
            assert f"{name} " in text and f"{n:,}" in text


SETTINGS: list[dict[str, Any]] = [
    {"scope": "group"},
    {"scope": "source"},
    {"scope": "global", "fit": "skip"},
    {"scope": "group", "temperature": 0.5},
    {"scope": "group", "length": {"control": "residual"}},
    {"scope": "group", "length": {"control": "strata", "strata": 3}},
    {"scope": "group", "source_min": {"ant": "20%"}, "source_max": {"bee": "30%"}},
    {"scope": "global", "method": "random"},
    {"scope": "group", "gates": [{"value": "mira", "drop": "20%"}]},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_a_slider_shows_what_select_writes(tmp_path: Path, settings: dict[str, Any]) -> None:
    made = project(tmp_path, records=40)
    made.select(budget="40%", **settings)
    rehearsal = Site(open_run(made.run.path, settings=made.config(budget="40%", **settings))).rehearsal()
    scope = next(iter(rehearsal.as_written.scopes))
    for query in ("budget=25", "budget=700", f"budget=35&scope.{scope}=55"):
        asked = asked_in(QueryParams(query), rehearsal)
        wanted = rehearsal.with_scopes(asked.budget, asked.scopes)
        shown = rehearsal.under(wanted)
        written = made.select(**wanted.model_dump(mode="json", exclude_defaults=True))
        for key, scope_shown in shown.scopes.items():
            for name in ("threshold", "tie_hash", "budget_tokens", "tokens_kept", "records_kept", "tokens_in"):
                assert getattr(scope_shown, name) == written["scopes"][key][name], (query, key, name)
        for source, source_shown in shown.sources.items():
            for name in ("threshold", "tokens_in", "tokens_kept", "records_in", "kept"):
                assert getattr(source_shown, name) == written["sources"][source][name], (query, source, name)
        assert shown.retention.budget == written["budget_tokens"]


def test_a_scope_of_its_own_changes_no_other(run: Run) -> None:
    rehearsal = Site(run).rehearsal()
    settings = rehearsal.with_scopes(rehearsal.plan.settings.budget, {"text_group_A": Tokens.parse("10%")})
    now, before = rehearsal.under(settings), rehearsal.as_written
    assert now.scopes["text_group_B"] == before.scopes["text_group_B"]
    assert now.scopes["text_group_A"].tokens_kept < before.scopes["text_group_A"].tokens_kept
    tenth = before.scopes["text_group_A"].tokens_in // 10
    assert 0 < now.scopes["text_group_A"].tokens_kept <= tenth


def test_the_page_of_the_slider_has_these_numbers_and_the_command(client: TestClient, run: Run) -> None:
    rehearsal = Site(run).rehearsal()
    now = rehearsal.under(rehearsal.with_scopes(Tokens.parse("25%"), {}))
    text = text_of(client.get("/selection?budget=25").text)
    assert f"{sum(s.tokens_kept for s in now.sources.values()):,} tokens kept" in text
    assert "mira select mira.yaml" in text and "--budget 25%" in text and "budget: 25%" in text
    for name, source in now.sources.items():
        assert f"{name} {source.scope}" in text and f"{source.tokens_in:,} {source.tokens_kept:,}" in text
    assert text_of(client.get("/selection?budget=25&part=1").text) in text
    wrong = client.get("/selection?budget=half")
    assert "budget: 'half' is not a number of tokens" in html.unescape(wrong.text)


def test_the_edge_is_the_lowest_kept_and_the_highest_dropped(site: Site, run: Run) -> None:
    rehearsal = site.rehearsal()
    rows = [row for row in selection(run) if row["source"] in ("ant", "bee") and row["quality"] is not None]
    kept = sorted((row for row in rows if row["kept"]), key=lambda r: r["quality"])[:3]
    dropped = sorted((row for row in rows if not row["kept"]), key=lambda r: -r["quality"])[:3]
    near = edges(site.records.wait(), rehearsal.near(rehearsal.as_written, "text_group_A", 3))
    assert [(e.near.source, e.row and e.row["id"]) for e in near] == [
        (row["source"], row["id"]) for row in [*reversed(kept), *dropped]
    ]
    assert [e.near.ranked_by for e in near] == [row["quality"] for row in [*reversed(kept), *dropped]]
    assert [e.near.kept for e in near] == [True] * 3 + [False] * 3


def test_the_table_is_the_sidecars(site: Site, run: Run) -> None:
    table = site.records.wait()
    rows = {(table.sources[r["src"]], r["row"]): r for r in table.rows_of("SELECT * FROM records")}
    index = run.table("index").to_pylist()
    assert len(rows) == len(index) == table.rows
    chosen = {(r["source"], r["row"]): r for r in selection(run)}
    scores = {(r["source"], r["row"]): r for r in run.table("scores").to_pylist()}
    for line in index:
        key = (line["source"], line["row"])
        row = rows[key]
        if key not in chosen:
            assert STATES[row["state"]] == "rejected"
            assert row["reason"] == (line["reason_rejected"] or "duplicate_id")
            continue
        assert (row["id"], row["n_tokens"], row["n_chars"]) == (line["id"], line["n_tokens"], line["n_chars"])
        assert (row["quality"], row["reason"]) == (chosen[key]["quality"], chosen[key]["reason"])
        assert (STATES[row["state"]] == "kept") == chosen[key]["kept"]
        assert all(row[slot] == scores[key][slot] for slot in table.slots)
    assert sum(STATES[row["state"]] == "rejected" for row in rows.values()) == 3


FILTERS = {
    "source=bee": lambda r: r["source"] == "bee",
    "state=kept&source=ant": lambda r: r["source"] == "ant" and r["kept"],
    "A2.min=4&A2.max=6.5": lambda r: 4 <= r["A2"] <= 6.5,
    "quality.min=5.5&tokens.max=60": lambda r: r["quality"] is not None and r["quality"] >= 5.5 and r["n_tokens"] <= 60,
    "id=cat-01": lambda r: r["id"].startswith("cat-01"),
    "reason=below_threshold": lambda r: r["reason"] == "below_threshold",
}


@pytest.mark.parametrize("query", FILTERS)
def test_a_filter_finds_what_the_sidecars_hold(site: Site, run: Run, query: str) -> None:
    table = site.records.wait()
    scores = {(r["source"], r["row"]): r for r in run.table("scores").to_pylist()}
    found = [r for r in (scores[r["source"], r["row"]] | r for r in selection(run)) if FILTERS[query](r)]
    wanted = filters.wanted_in(QueryParams(query), table)
    counted = filters.count(wanted, table)
    assert (counted.records, counted.tokens) == (len(found), sum(r["n_tokens"] for r in found))
    rows = filters.page(wanted, table, 1000)
    assert {(table.sources[r["src"]], r["row"]) for r in rows} == {(r["source"], r["row"]) for r in found}
    assert found


@pytest.mark.parametrize("name", ["quality", "tokens", "A3", "overall", "value:mira", "id", "source", "state"])
def test_every_column_sorts_both_ways_and_page_by_page(site: Site, name: str) -> None:
    table = site.records.wait()
    names = filters.columns_of(table)
    if name not in names:
        pytest.skip(f"this run has no {name}")
    for sign in ("", "-"):
        rows: list[Any] = []
        for page in range(1, 6):
            wanted = filters.wanted_in(QueryParams(f"sort={sign}{name}&page={page}"), table)
            rows += filters.page(wanted, table, 40)
        assert len({(r["part"], r["row"]) for r in rows}) == len(rows) == table.rows
        values = [r[names[name]] for r in rows]
        known = [v for v in values if v is not None]
        assert known == sorted(known, reverse=bool(sign)) and None not in values[: len(known)]


def test_an_address_survives_the_way_there_and_back(site: Site) -> None:
    table = site.records.wait()
    query = "source=ant&source=bee&state=kept&A1.min=2.5&quality.max=8&id=a&sort=-A2&page=2&flag=duplicate"
    wanted = filters.wanted_in(QueryParams(query), table)
    again = [
        (k, v) for k, value in wanted.query(page=2).items() for v in (value if isinstance(value, tuple) else (value,))
    ]
    assert filters.wanted_in(QueryParams([(k, str(v)) for k, v in again]), table) == wanted


def test_a_record_has_the_numbers_of_explain(client: TestClient, run: Run) -> None:
    for id_ in ("ant-001-plain", "bee-040-plain"):
        source = id_[:3]
        told = explain(run.config, run.folder, id_, source)
        text = text_of(client.get("/record", params={"source": source, "id": id_}).text)
        assert told.value is not None and told.threshold is not None and told.flip is not None
        assert f"quality {told.value:.4f} cutoff of {told.scope} {told.threshold:.4f}" in text
        for place, rank in told.ranks.items():
            assert f"rank in its {place} {rank.rank:,} of {rank.of:,}" in text
        assert f"kept from a budget of {told.flip.share:.2%} {told.flip.tokens_needed:,}" in text
        for slot in told.slots:
            assert f"{slot.slot} {slot.name} {slot.score:.1f}" in text
            assert not slot.masked or slot.note in text
        assert told.where in text and ("kept" if told.kept else "below_threshold") in text
        assert f"{source} record {int(id_[4:7])} word word" in text


def test_a_record_has_the_teachers_words(client: TestClient) -> None:
    text = text_of(client.get("/record?source=ant&id=ant-003-plain").text)
    assert "rationale ant 3 A4 plain" in text and "64/100, downsample" in text and "brief ant 3 plain" in text


def test_lines_that_are_no_record_have_their_reason(client: TestClient) -> None:
    page = client.get("/records?state=rejected").text
    links = [html.unescape(link) for link in re.findall(r'href="(/record\?[^"]+)"', page)]
    texts = [text_of(client.get(link).text) for link in links]
    assert len(texts) == 3
    assert any("bad_json" in t and "{broken" in t and "not JSON" in t for t in texts)
    assert any("empty_text" in t for t in texts)
    assert any("duplicate_id" in t and "that of an earlier record" in t for t in texts)


def test_a_cell_has_the_points_that_reliability_rests_on(made: Project, client: TestClient, run: Run) -> None:
    group = run.groups[0]
    folder = made.run.student(group.name)
    folder.mkdir(parents=True, exist_ok=True)
    labels = pq.read_table(made.run.labels(group.name))
    slots = {f"A{j + 1}": pa.array(np.linspace(1, 9, len(labels)) + 0.1 * j, pa.float32()) for j in range(4)}
    pq.write_table(pa.table({"id": labels["id"], "source": labels["source"], **slots}), folder / "out_of_fold.parquet")
    evidence = load_evidence(run.folder, group)
    own = next(e for e in evidence.sources if e.source == "ant")
    found = {p.id: (p.teacher, p.student) for p in points(Site(run), group, "ant", "A2")}
    assert found == {i: (t, s) for i, t, s in zip(own.ids, own.teacher[:, 1], own.student[:, 1], strict=True)}
    page = client.get("/cell?source=ant&slot=A2").text
    assert page.count(' r="1.1"') == len(own.ids) and "rationale ant" in page
    cell = next(r for r in run.cells.to_pylist() if r["source"] == "ant" and r["slot"] == "A2")
    assert f"ρ {cell['rho']:.3f}" in text_of(page) and f"labels {cell['n']}" in text_of(page)
    furthest = text_of(client.get("/disagreements?source=ant&slot=A2").text)
    worst = max(found, key=lambda i: abs(found[i][0] - found[i][1]))
    assert f"ant {worst} {found[worst][0]:.2f} {found[worst][1]:.2f}" in furthest


@pytest.mark.parametrize("text", ["record 17", "RECORD  7 ", "ant record 3 word", "{broken", "nothing has this"])
def test_a_text_is_found_where_explain_finds_it(client: TestClient, run: Run, text: str) -> None:
    expected = find_text(run.config.corpus, run.folder, text, Quiet(), limit=500)
    page = client.get("/records", params={"text": text}).text
    assert 'data-state="done"' in page
    found = re.findall(r'<td><a href="(/record\?[^"]+)"><code>([^<]+)', page)
    assert len(found) == len(expected.matches)
    assert {name for _, name in found if not name.startswith("row ")} == {m.id for m in expected.matches if m.id}
    assert all(html.escape(m.excerpt, quote=False).split("'")[0] in page for m in expected.matches)


def test_a_text_is_found_among_what_the_filters_leave(client: TestClient, run: Run) -> None:
    kept = {row["id"] for row in selection(run) if row["kept"] and row["source"] == "bee"}
    page = client.get("/records?text=record+4&source=bee&state=kept").text
    found = set(re.findall(r"<code>(bee-[^<]+)", page))
    assert found == {i for i in kept if "bee record 4" in f"bee record {int(i[4:7])} word"}


def test_nothing_is_written_into_the_run(made: Project, run: Run) -> None:
    def state() -> dict[str, Any]:
        return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in made.run.path.rglob("*") if p.is_file()}

    client = client_of(run)
    client.get("/records")  # the sources' fingerprints are in place
    before = state()
    for path in PATHS:
        client.get(path)
    assert state() == before


PATHS = [
    "/", "/selection", "/selection?budget=10", "/selection?scope.text_group_A=70", "/records", "/records?text=word",
    "/record?source=ant&id=ant-003-plain", "/reliability", "/cell?source=ant&slot=A1", "/disagreements",
    "/disagreements?a=method+mira&b=score+A1", "/lengths", "/lengths?source=ant&field=id", "/rubric",
    "/rubric/slot?group=text_group_A&slot=A1",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_every_page_is_shown(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200 and "</html>" in answer.text
    for link in set(re.findall(r'(?:href|src|action)="([^"]+)"', answer.text)):
        assert link.startswith("/") and not link.startswith("//")


def test_the_picture_counts_every_record(client: TestClient, run: Run) -> None:
    page = client.get("/lengths?source=bee").text
    counts = [int(n.replace(",", "")) for n in re.findall(r"<title>([\d,]+) records</title></rect>", page)]
    known = [r for r in selection(run) if r["source"] == "bee" and r["quality"] is not None]
    assert sum(counts) == len(known)


def test_scores_of_other_programs_are_columns_and_orders(tmp_path: Path) -> None:
    made = project(tmp_path, sources=["ant"])
    made.select(budget="50%")
    for path in made.run.selection("ant").glob("*.parquet"):
        chosen = pq.read_table(path, columns=["row", "id", "quality"])
        values = pa.array(
            [None if i == 3 else -float(q.as_py()) for i, q in enumerate(chosen["quality"])], pa.float64()
        )
        reason = pa.nulls(len(chosen), pa.dictionary(pa.int32(), pa.string()))
        target = made.run.foreign("edu", "ant") / path.name
        target.parent.mkdir(parents=True)
        pq.write_table(pa.table({"row": chosen["row"], "id": chosen["id"], "value": values, "reason": reason}), target)
    site = Site(open_run(made.run.path, settings=made.config(budget="50%")))
    table = site.records.wait()
    rows = filters.page(filters.wanted_in(QueryParams("sort=score:edu"), table), table, 100)
    assert [r["s0"] for r in rows[:-1]] == [-r["quality"] for r in rows[:-1]] and rows[-1]["s0"] is None
    apart = between(table, "method mira", "scorer edu")
    assert {apart[0]["id"], apart[1]["id"]} == {"ant-000-plain", "ant-029-plain"}
    assert sorted((apart[0]["one"], apart[0]["other"])) == [0.0, 1.0]


def test_another_methods_verdict_is_that_of_explain(tmp_path: Path) -> None:
    made = project(tmp_path, sources=["ant"])
    made.select(method="random", budget="50%")
    made.select(budget="50%")
    run = open_run(made.run.path, settings=made.config(budget="50%"))
    site = Site(run)
    table = site.records.wait()
    assert set(table.methods) == {"mira", "random"}
    other = explain(run.config, run.folder, "ant-007-plain", "ant").methods["random"]
    assert other.value is not None and other.share_before is not None
    text = text_of(client_of(run).get("/record?source=ant&id=ant-007-plain").text)
    assert f"random {other.value:.4f} after {other.share_before:.1%} of the source's tokens" in text
    row = table.rows_of("SELECT * FROM records WHERE id = 'ant-007-plain'")[0]
    assert row[filters.columns_of(table)["value:random"]] == other.value
    apart = between(table, "method mira", "method random", "ant", 5)
    assert [abs(r["one"] - r["other"]) for r in apart] == sorted(
        (abs(r["one"] - r["other"]) for r in apart), reverse=True
    )
