"""The seam to every LLM: prompts, the reply grammar and its parser, judges, endpoint, journal, batch files."""

from mira.judging.dataman import DataManReply
from mira.judging.expected import expected_scores, with_expected_scores
from mira.judging.free import FreePrompt, FreeReply, build_free_prompt, parse_free_reply, read_free_judgments
from mira.judging.grammar import ParsedReply, parse_reply
from mira.judging.judge import Judge, JudgeTask
from mira.judging.judgement import Judgement, Recommendation, Unscored, judgement_schema, judgements_table, slot_names
from mira.judging.prompt import Prompt, UserPrompt, build_prompt
from mira.judging.recorded import RecordedJudge

__all__ = [
    "DataManReply",
    "FreePrompt",
    "FreeReply",
    "Judge",
    "JudgeTask",
    "Judgement",
    "ParsedReply",
    "Prompt",
    "Recommendation",
    "RecordedJudge",
    "Unscored",
    "UserPrompt",
    "build_free_prompt",
    "build_prompt",
    "expected_scores",
    "judgement_schema",
    "judgements_table",
    "parse_free_reply",
    "parse_reply",
    "read_free_judgments",
    "slot_names",
    "with_expected_scores",
]
