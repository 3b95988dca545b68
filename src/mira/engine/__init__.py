"""Where shards run: on this machine, or on Ray. The same function, the same files, the same result."""

from mira.engine.attempts import Attempt, Attempted
from mira.engine.engine import Engine, LocalEngine, RayEngine, load_engine

__all__ = ["Attempt", "Attempted", "Engine", "LocalEngine", "RayEngine", "load_engine"]
