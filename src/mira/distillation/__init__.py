"""Stage 2: teacher labels, and one cheap student a group that learns from them."""

from mira.distillation.encoder import EncoderStudent, train_encoder
from mira.distillation.labels import label, load_labels
from mira.distillation.stage import distill
from mira.distillation.student import open_student

__all__ = ["EncoderStudent", "distill", "label", "load_labels", "open_student", "train_encoder"]
