"""Scores that other programs gave the records: read, checked, counted, joined with the index."""
