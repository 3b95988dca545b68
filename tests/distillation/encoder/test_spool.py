from pathlib import Path

from mira.corpus.record import Part, Record
from mira.distillation.encoder.spool import Spool
from mira.family import FamilyName

RECORDS = [
    Record("b", "s", FamilyName.QA, (Part("question", "Why?"), Part("answer", "żółć\n\x00 \u2028")), 7, 12),
    Record("é", "a", FamilyName.TEXT, (Part("", "x" * 100_000),), 3, 4),
    Record("a", "s", FamilyName.AGENT, (Part("user", "go"),)),
]


def test_records_come_back_whole_and_sorted_as_often_as_wanted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "records", iter(RECORDS))
    assert list(spool) == [RECORDS[1], RECORDS[2], RECORDS[0]] == list(spool)
    both = zip(spool, spool, strict=True)
    assert all(one == other for one, other in both)
