"""A log that keeps what stages say."""

from collections.abc import Iterable

from mira.progress import Quiet


class Notes(Quiet):
    """Keeps what stages say."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        self.lines = list(lines)

    def note(self, text: str) -> None:
        self.lines.append(text)

    def ran(self) -> list[str]:
        """Return the stages that ran, in their order."""
        return [line.split()[0] for line in self.lines if " running" in line]

    def why(self, stage: str) -> str:
        """Return the line that says why a stage ran."""
        return next(line for line in self.lines if line.startswith(stage) and " running" in line)
