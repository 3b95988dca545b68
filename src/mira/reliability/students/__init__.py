"""Compare students with each other, with the teacher's ceiling and with baselines."""
