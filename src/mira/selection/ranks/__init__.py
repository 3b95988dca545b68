"""Selection with workers: what they leave of every shard for the cutoffs, the plan, and marks of what is written."""
