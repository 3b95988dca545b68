"""The reply grammar: strict, common and tolerant readings of a judge's reply."""

from mira.judging.grammar.reply import ParsedReply, parse_reply

__all__ = ["ParsedReply", "parse_reply"]
