from pathlib import Path

import pytest

from mira.config.settings import Config
from mira.corpus.record import Part, Record
from mira.errors import ConfigError
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import by_source
from mira.selection.methods.mira import Mira
from mira.selection.methods.simple import RANDOM
from mira.selection.stage import selection_inputs

RECORDS = [
    Record(id_, source, "text", (Part("", id_ * 2),)) for source, id_ in [("ant", "a"), ("bee", "b"), ("ant", "c")]
]
IDS = ["x", "y", "z"]


def value(method, **settings):
    config = Config.model_validate({"sources": [{"name": "ant", "path": "input"}], **settings})
    inputs = selection_inputs(config, RunFolder(Path("run")), Quiet())
    return method(inputs).value_records(inputs, RECORDS, IDS)


def test_values_are_computed_by_source_and_come_back_in_order():
    calls = []

    def lengths(source, ids, texts):
        calls.append((source, list(ids), list(texts)))
        return [float(ord(id_)) for id_ in ids]

    assert by_source(RECORDS, IDS, lengths).tolist() == [120.0, 121.0, 122.0]
    assert calls == [("ant", ["x", "z"], ["aa", "cc"]), ("bee", ["y"], ["bb"])]


def test_a_random_order_places_a_record_by_its_own_id_source_and_seed():
    first = value(RANDOM.load).tolist()
    assert first == value(RANDOM.load).tolist() != value(RANDOM.load, seed=1).tolist()
    assert len(set(first)) == 3


def test_a_method_of_scores_refuses_records_outside_the_corpus():
    with pytest.raises(ConfigError, match="method mira cannot value records outside the corpus"):
        value(lambda inputs: Mira({}, inputs.select, inputs.seed))
