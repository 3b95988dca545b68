"""Planted faults under served models, over real HTTP: through the journal and the limits of the corpus."""

from dataclasses import replace

import pytest

from mira import corpus
from mira.corpus.record import Part
from mira.evaluation.planted import plant
from mira.evaluation.planted_methods import planted_methods
from mira.llm.cost import shared_spending
from mira.progress import Quiet
from mira.selection.stage import select, selection_inputs
from support.endpoint_server import LINES, CompletionsServer
from support.fault_server import FaultServer, completion
from support.selection_world import Item, World

GOOD = "reason"


class Notes(Quiet):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


class RatingServer(FaultServer):
    """Rates as DataMan, 1 to 5, by how much of a text is one good word; "silent" gets no usable reply."""

    def __init__(self):
        super().__init__(handler=self._rate)

    def _rate(self, body, _request):
        self.bodies.append(body)
        words = body["messages"][0]["content"].split("Text: ")[1].split("\nDomain:_")[0].split()
        overall = 1 + round(4 * words.count(GOOD) / len(words))
        return completion("I cannot." if words == ["silent"] else "\n".join([*LINES, str(overall)]))


@pytest.fixture
def world(tmp_path):
    items = [Item(f"r{i}", [5.0], "\n".join(" ".join([GOOD] * 9 + [f"n{i}{k}"]) for k in range(10))) for i in range(8)]
    poor = [Item(f"p{i}", [5.0], "\n".join([f"poor{i} words"] * 20)) for i in range(8)]
    return World(tmp_path, {"ant": [items[:4] + poor[:4]], "bee": [items[4:] + poor[4:]]}, {})


@pytest.fixture
def server():
    with RatingServer() as running:
        yield running


def configured(world, url="", *, teacher=None, **select_settings):
    dataman = {"by_domain": False}
    if url:
        dataman["endpoint"] = {"base_url": url, "model": "RuPeng/DataMan-1.5B-EN", "max_retries": 0}
    made = world.config(
        **{"method": "dataman", "scope": "global", "budget": "50%", "dataman": dataman} | select_settings
    )
    evaluate = made.evaluate.model_copy(update={"methods": ["dataman"]})
    teacher = made.teacher.model_copy(update=teacher or {})
    return made.model_copy(update={"evaluate": evaluate, "teacher": teacher})


def pairs_of(world, config, ids=("r0", "r1", "r2", "r3")):
    return plant(corpus.fetch(config.corpus, world.run, "ant", list(ids)))


def planted(config, run, log, pairs):
    return planted_methods(selection_inputs(config, run, log), config.evaluate, pairs)


def by_fault(found):
    return {figures.fault: figures for figures in found}


def test_dataman_judges_originals_and_copies_once(world, server):
    config = configured(world, server.url)
    pairs = pairs_of(world, config)
    found = planted(config, world.run, Quiet(), pairs)
    figures = by_fault(found["dataman"])
    assert figures["garbage"].accuracy == figures["off_family"].accuracy == 1.0
    assert figures["shuffled"].accuracy == 0.5  # the same words: equal ratings
    assert figures["all"].recall is None  # the corpus has not been judged
    sent = len(server.bodies)
    assert sent == 4 + len({p.degraded.text for p in pairs})

    select(config, world.run, Quiet())
    assert len(server.bodies) == sent + 12  # four of the 16 records were asked about already
    again = by_fault(planted(config, world.run, Quiet(), pairs)["dataman"])
    assert len(server.bodies) == sent + 12
    assert again["garbage"].recall == 1.0 and again["all"].originals_dropped == 0.0
    assert again["garbage"].accuracy == 1.0


def test_a_copy_without_a_usable_reply_is_unscored(world, server):
    config = configured(world, server.url)
    (pair, *_) = pairs_of(world, config, ["r0"])
    silent = replace(pair, degraded=replace(pair.degraded, parts=(Part("", "silent"),)))
    (figures, _) = planted(config, world.run, Quiet(), [silent])["dataman"]
    assert (figures.pairs, figures.compared, figures.unscored) == (1, 0, 1)


@pytest.mark.parametrize(
    ("teacher", "why"), [({"offline": True}, "failure budget"), ({"max_requests": 3}, "max_requests")]
)
def test_without_replies_dataman_is_left_out(world, server, teacher, why):
    config = configured(world, server.url, teacher=teacher)
    notes = Notes()
    with shared_spending(config.teacher):
        assert planted(config, world.run, notes, pairs_of(world, config)) == {}
    assert len(server.bodies) <= 3
    assert any(line.startswith("planted, dataman: left out") and why in line for line in notes.lines)


def test_without_an_endpoint_dataman_is_left_out(world):
    config, notes = configured(world), Notes()
    assert planted(config, world.run, notes, pairs_of(world, config)) == {}
    assert any("select.dataman.endpoint" in line for line in notes.lines)


def test_perplexity_under_a_served_model(world):
    with CompletionsServer() as server:
        endpoint = {"base_url": server.url, "model": "lm", "max_retries": 0}
        for slice_, wanted in (("low", 1.0), ("high", 0.0)):
            config = configured(world, method="ppl", ppl={"endpoint": endpoint, "slice": slice_})
            config = config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"methods": ["ppl"]})})
            figures = by_fault(planted(config, world.run, Quiet(), pairs_of(world, config))["ppl"])
            assert figures["garbage"].accuracy == wanted  # most of "reason" is unlikely too, but it has an "a"
        asked = len(server.prompts)
        assert asked == len(set(server.prompts))
