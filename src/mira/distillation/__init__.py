"""Stage `distill`: one student per group learns from the teacher's labels."""
