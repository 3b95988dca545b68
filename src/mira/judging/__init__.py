"""The seam to every LLM: prompts, the reply grammar and its parser, judges, endpoint, journal, batch files."""

from mira.judging.grammar import ParsedReply, parse_reply
from mira.judging.judge import Judge, JudgeTask
from mira.judging.judgement import Judgement, Recommendation, Unscored, judgement_schema, judgements_table, slot_names
from mira.judging.prompt import Prompt, UserPrompt, build_prompt
from mira.judging.recorded import RecordedJudge

__all__ = [
    "Judge",
    "JudgeTask",
    "Judgement",
    "ParsedReply",
    "Prompt",
    "Recommendation",
    "RecordedJudge",
    "Unscored",
    "UserPrompt",
    "build_prompt",
    "judgement_schema",
    "judgements_table",
    "parse_reply",
    "slot_names",
]
