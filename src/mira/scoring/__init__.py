"""Every record of every source through its group's student, into score sidecars."""

from mira.scoring.stage import score, score_shards

__all__ = ["score", "score_shards"]
