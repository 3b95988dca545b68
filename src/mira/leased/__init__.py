"""Leases of shards that cost money."""
