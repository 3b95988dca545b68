"""The reply grammar: strict, common and tolerant readings of a judge's reply."""
