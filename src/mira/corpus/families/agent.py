"""Family `agent`: tools, then one part a message."""

from mira.corpus.families.family import Family, Fields
from mira.corpus.messages import message_text, plain
from mira.corpus.record import Part, Rejection
from mira.corpus.values import FieldProblem, as_list

__all__ = ["FAMILY"]


def _agent(fields: Fields) -> tuple[Part, ...]:
    name, tools_name = fields.name("messages"), fields.name("tools")
    messages = as_list(fields.get("messages"), name)
    if messages is None:
        raise FieldProblem(Rejection.MISSING_FIELD, name, "is missing")
    rendered = [message_text(m, f"{name}[{i}]", fields.left_out.append) for i, m in enumerate(messages)]
    if not any(text.strip() for _, text in rendered):
        raise FieldProblem(Rejection.EMPTY_TEXT, name, "has no text")
    parts = [Part(f"[{i}] {label}", text) for i, (label, text) in enumerate(rendered)]
    given = fields.get("tools")
    if tools := [] if given == "" else as_list(given, tools_name):
        parts.insert(0, Part("Tools", "\n".join(plain(tool, tools_name) for tool in tools)))
    return tuple(parts)


FAMILY = Family(
    name="agent",
    required=("messages",),
    optional=("tools",),
    records="a corpus of agents' trajectories",
    render=_agent,
    features="mira.distillation.encoder.parts:AGENT",
    faults="mira.evaluation.family_faults:AGENT_FAULTS",
)
