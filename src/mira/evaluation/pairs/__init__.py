"""Pairs of a better and a worse record, from a file: who orders them rightly, and who does not."""
