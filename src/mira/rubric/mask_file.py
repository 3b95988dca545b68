"""A mask that came with a released scorer, for sources without labels of their own."""

from collections.abc import Collection
from pathlib import Path

import orjson

from mira.errors import InputError

__all__ = ["read_mask"]


def read_mask(path: Path, sources: Collection[str], slots: Collection[str]) -> dict[tuple[str, str], str]:
    """Read a mask file: one JSON object a line, `{"source": "...", "slot": "A3", "why": "..."}`.

    Cells that it does not name are trusted; an empty file masks nothing.

    Args:
        path: The file.
        sources: Known sources; a line may name another source of the released scorer, which is then not used.
        slots: Known slots, A1..An.

    Returns:
        (source, slot) -> why it is masked.

    Raises:
        InputError: The file cannot be read, a line is not such an object, or it names an unknown slot.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot read the mask: {error.strerror}", "Correct reliability.mask.") from None
    mask = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
            source, slot, why = str(value["source"]), str(value["slot"]), str(value.get("why") or "given")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"{path}:{number}: not a masked cell",
                'Each line is a JSON object such as {"source": "docs", "slot": "A3", "why": "collapsed"}.',
            ) from None
        if slot not in slots:
            raise InputError(f"{path}:{number}: unknown slot '{slot}'", f"The rubric has slots {', '.join(slots)}.")
        if source in sources:
            mask[source, slot] = why
    return mask
