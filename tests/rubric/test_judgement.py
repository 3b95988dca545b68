from mira.rubric.judgement import Judgement, judgements_table
from mira.unscored import Unscored


def test_every_slot_column_holds_its_own_scores():
    scored = Judgement("a", "s", (1.0, None, 3.5), missing={"A2": Unscored.MISSING_SLOT})
    table = judgements_table([scored, Judgement.unscored("b", "s", 3, Unscored.REFUSED)], 3)
    assert [table[f"A{i}"].to_pylist() for i in (1, 2, 3)] == [[1.0, None], [None, None], [3.5, None]]
    assert table["missing"].to_pylist() == ["A2=missing_slot", "A1=refused,A2=refused,A3=refused"]
    assert table["reason_unscored"].to_pylist() == [None, "refused"]
