"""The data of judging: rubric, judgment points, judgements."""
