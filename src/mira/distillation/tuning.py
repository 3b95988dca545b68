"""What tuning any model with torch has to check: memory, context, and whose checkpoints these are."""

import os
import shutil
from pathlib import Path

from mira.config.settings import HeadSettings, SftSettings
from mira.errors import ConfigError, MiraError
from mira.run_folder.files import read_json, write_json

__all__ = ["check_fits", "keep_only_own_checkpoints", "state_bytes"]

_FULL_BYTES = 16  # a parameter: float32 weight, its gradient, and two moments of Adam
_LORA_BYTES = 4  # a parameter: float32 weight; the adapters are small beside it


def state_bytes(settings: HeadSettings | SftSettings, parameters: int) -> int:
    """Return the memory in bytes that weights, gradients and optimizer take."""
    return parameters * (_LORA_BYTES if settings.lora_rank else _FULL_BYTES)


def check_fits(
    settings: HeadSettings | SftSettings, section: str, context: int | None, parameters: int, *, longer: str, hint: str
) -> None:
    """Check that a base model reads `max_length` tokens and that this machine can tune it.

    Args:
        settings: The section's settings.
        section: Where they stand, e.g. "distill.head".
        context: Tokens that the model reads at most; None if it has no limit.
        parameters: Number of its parameters.
        longer: What happens to records that are longer than the model reads.
        hint: What to do if the machine has too little memory.

    Raises:
        ConfigError: The model reads fewer tokens.
        MiraError: There is too little memory.
    """
    import torch  # noqa: PLC0415

    if context and settings.max_length > context:
        raise ConfigError(
            f"{section}.max_length is {settings.max_length:,}, but {settings.model} reads {context:,} tokens",
            f"Set {section}.max_length={context}; {longer}.",
        )
    cuda = torch.cuda.is_available()
    have = torch.cuda.mem_get_info()[1] if cuda else os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    need = state_bytes(settings, parameters)
    if need > have:
        raise MiraError(
            f"{settings.model} has {parameters / 1e9:.1f}B parameters: tuning needs at least {need / 1e9:,.0f} GB, "
            f"this machine's {'GPU' if cuda else 'memory'} has {have / 1e9:,.0f} GB",
            hint,
        )


def keep_only_own_checkpoints(output: Path, fingerprint: str) -> None:
    """Drop checkpoints of a run with other data or settings."""
    mark = output / "fingerprint.json"
    if not mark.is_file() or read_json(mark) != fingerprint:
        shutil.rmtree(output, ignore_errors=True)
        write_json(mark, fingerprint)
