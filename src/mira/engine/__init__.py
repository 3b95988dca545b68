"""Where shards run: on this machine, or on Ray. The same function, the same files, the same result."""

from mira.engine.engine import Engine, LocalEngine, RayEngine, load_engine

__all__ = ["Engine", "LocalEngine", "RayEngine", "load_engine"]
