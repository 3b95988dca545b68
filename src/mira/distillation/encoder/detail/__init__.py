"""More statistics of a record than its structure, for students that are set to read them."""

from mira.distillation.encoder.detail.detail import detail, detail_names

__all__ = ["detail", "detail_names"]
