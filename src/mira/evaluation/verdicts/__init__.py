"""Verdicts on students: what they see and do not see, in words, and with every bundle that is copied elsewhere."""
