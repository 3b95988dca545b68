"""Audits: what any scorer does on a corpus, and whether it can be believed."""
