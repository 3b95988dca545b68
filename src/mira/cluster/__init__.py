"""A run on many machines: a worker's share of the shards, and the job files that start workers."""
