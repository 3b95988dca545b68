"""The seam to every LLM: prompts, the reply grammar and its parser, judges, endpoint, journal, batch files."""

from mira.judging._answer import Answer, Failed, Patience
from mira.judging._reply import Reply, Token
from mira.judging._wire import Request
from mira.judging.batch import Exported, Imported, export_batch, import_batch
from mira.judging.caller import Caller
from mira.judging.cost import Estimate, Spending, SpendingStop, estimate
from mira.judging.dataman import DataManReply
from mira.judging.endpoint import EndpointJudge
from mira.judging.expected import expected_scores, with_expected_scores
from mira.judging.free import FreePrompt, FreeReply, build_free_prompt, parse_free_reply, read_free_judgments
from mira.judging.grammar import ParsedReply, parse_reply
from mira.judging.journal import Entry, Journal
from mira.judging.judge import Judge, JudgeTask
from mira.judging.judgement import Judgement, Recommendation, Unscored, judgement_schema, judgements_table, slot_names
from mira.judging.panel import watch
from mira.judging.prompt import Prompt, UserPrompt, build_prompt
from mira.judging.recorded import RecordedJudge
from mira.judging.stats import Stats
from mira.judging.transport import FakeTransport, HttpTransport, Response, Transport, completion

__all__ = [
    "Answer",
    "Caller",
    "DataManReply",
    "EndpointJudge",
    "Entry",
    "Estimate",
    "Exported",
    "Failed",
    "FakeTransport",
    "FreePrompt",
    "FreeReply",
    "HttpTransport",
    "Imported",
    "Journal",
    "Judge",
    "JudgeTask",
    "Judgement",
    "ParsedReply",
    "Patience",
    "Prompt",
    "Recommendation",
    "RecordedJudge",
    "Reply",
    "Request",
    "Response",
    "Spending",
    "SpendingStop",
    "Stats",
    "Token",
    "Transport",
    "Unscored",
    "UserPrompt",
    "build_free_prompt",
    "build_prompt",
    "completion",
    "estimate",
    "expected_scores",
    "export_batch",
    "import_batch",
    "judgement_schema",
    "judgements_table",
    "parse_free_reply",
    "parse_reply",
    "read_free_judgments",
    "slot_names",
    "watch",
    "with_expected_scores",
]
