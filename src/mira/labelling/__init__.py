"""Stage `label`: the teacher judges a sample on the rubric."""
