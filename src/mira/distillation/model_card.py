"""The model card of a tuned student, in the form of the released scorers' cards, and its loss curve."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from mira.judging.prompt import Prompt
from mira.rubric.rubric import Rubric
from mira.run_folder.files import write_bytes

__all__ = ["loss_curve", "render", "write_card", "write_head_card"]

_WIDTH, _HEIGHT = 720, 300
_LEFT, _TOP, _RIGHT, _BOTTOM = 56, 24, 16, 40


def write_card(
    folder: Path, rubric: Rubric, prompt: Prompt, facts: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Write README.md and loss.svg into a bundle.

    Args:
        folder: The bundle.
        rubric: The student's rubric.
        prompt: The prompt that it was trained with.
        facts: Its bundle.json.
        state: Its trainer_state.json.
    """
    losses = [(entry["step"], entry["loss"]) for entry in state["log_history"] if "loss" in entry]
    write_bytes(folder / "loss.svg", loss_curve(losses).encode())
    sources = sorted(facts["counts"]["examples_by_source"].items())
    card = render(
        "model_card.md.j2",
        rubric=rubric, prompt=prompt, facts=facts, sources=sources, counts=facts["counts"],
        training=facts["training"], settings=facts["settings"], left_out=_left_out(facts["counts"]["left_out"]),
    )  # fmt: skip
    write_bytes(folder / "README.md", card.encode())


def write_head_card(folder: Path, rubric: Rubric, facts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write README.md and loss.svg into the bundle of a head.

    Args:
        folder: The bundle.
        rubric: The student's rubric.
        facts: Its bundle.json.
        state: Its trainer_state.json.
    """
    losses = [(entry["step"], entry["loss"]) for entry in state["log_history"] if "loss" in entry]
    write_bytes(folder / "loss.svg", loss_curve(losses).encode())
    card = render("head_card.md.j2", rubric=rubric, facts=facts, training=facts["training"], settings=facts["settings"])
    write_bytes(folder / "README.md", card.encode())


def _left_out(by_source: Mapping[str, Mapping[str, int]]) -> list[tuple[str, str, int]]:
    return [(source, reason, n) for source, reasons in by_source.items() for reason, n in reasons.items()]


def loss_curve(points: Sequence[tuple[float, float]]) -> str:
    """Draw training loss against the step.

    Args:
        points: (step, loss), by ascending step.

    Returns:
        A self-contained SVG.
    """
    plot_width, plot_height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    last = max((step for step, _ in points), default=1) or 1
    top = max((loss for _, loss in points), default=1) * 1.05 or 1
    line = " ".join(
        f"{_LEFT + plot_width * step / last:.1f},{_TOP + plot_height * (1 - loss / top):.1f}" for step, loss in points
    )
    ticks = [(_TOP + plot_height * (1 - share), f"{top * share:.2f}") for share in (0, 0.25, 0.5, 0.75, 1)]
    steps = [(_LEFT + plot_width * share, f"{last * share:.0f}") for share in (0, 0.5, 1)]
    return render(
        "loss.svg.j2", width=_WIDTH, height=_HEIGHT, left=_LEFT, right=_WIDTH - _RIGHT, bottom=_HEIGHT - _BOTTOM,
        top=_TOP, line=line, ticks=ticks, steps=steps, single=points[0] if len(points) == 1 else None,
    )  # fmt: skip


def render(template: str, **values: Any) -> str:
    """Render one of the package's templates. An undefined value is an error."""
    text = (resources.files("mira.distillation") / "templates" / template).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(text).render(**values)
