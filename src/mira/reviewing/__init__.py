"""Judgements of people: a blind sample, where they are kept, and what they say of the selection."""
