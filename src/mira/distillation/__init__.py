"""Stage 2: teacher labels and the students that are trained on them."""

from mira.distillation.encoder import EncoderStudent, train_encoder

__all__ = ["EncoderStudent", "train_encoder"]
