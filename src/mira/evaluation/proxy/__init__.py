"""Tiny language models trained on each selection at equal tokens."""
