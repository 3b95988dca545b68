"""The chat form of a base model: its template with thinking off, the end of a turn, and exact token ids.

Prompt and reply are tokenized apart, because that is what happens when the student is served: the server tokenizes the
prompt, and the reply's tokens are appended one by one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mira.errors import ConfigError, MiraError, install_hint

__all__ = ["Chat", "Message", "require_train"]

Message = dict[str, str]

_THINKING_OFF = "{%- set enable_thinking = false -%}\n"
_PROBE = "a reply"


def require_train() -> None:
    """Check that the packages for training are there, and keep their own bars and notes off the terminal.

    Raises:
        MiraError: One is missing.
    """
    for name in ("torch", "transformers", "trl", "datasets", "accelerate", "peft"):
        try:
            __import__(name)
        except ImportError:
            raise MiraError(f"tuning a student needs {name}", install_hint("train")) from None
    from transformers.utils import logging  # noqa: PLC0415

    logging.disable_progress_bar()
    logging.set_verbosity_error()


class Chat:
    """A tokenizer with its chat template.

    Args:
        tokenizer: A fast Hugging Face tokenizer. Its template is changed so that it never thinks, and its eos token
            becomes the token that ends a turn: servers stop at that one whatever generation settings they take.
        template: A Jinja chat template instead of the tokenizer's own.

    Attributes:
        tokenizer: The tokenizer.
        end: Id of the token that ends a turn.

    Raises:
        ConfigError: There is no template, it has no place for a system prompt, or its turns end in no special token.
    """

    def __init__(self, tokenizer: Any, template: str = "") -> None:
        self.tokenizer = tokenizer
        own = template or tokenizer.chat_template
        if not isinstance(own, str):
            raise ConfigError(
                f"{tokenizer.name_or_path}: its tokenizer has no chat template",
                "Give one: distill.sft.chat_template: FILE.jinja",
            )
        if "enable_thinking" in own and not own.startswith(_THINKING_OFF):
            own = _THINKING_OFF + own
        tokenizer.chat_template = own
        self.end = self._end_of_turn()
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(self.end)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    @classmethod
    def load(cls, model: str | Path, template: str = "") -> "Chat":
        """Load the tokenizer of a folder or hub name.

        Raises:
            ConfigError: It cannot be loaded, or see `Chat`.
        """
        from transformers import AutoTokenizer  # noqa: PLC0415

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(model), trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{model}: cannot load its tokenizer: {_first_line(error)}", _HINT) from None
        return cls(tokenizer, template)

    def text(self, messages: Sequence[Message], *, prompt: bool) -> str:
        """Render messages; with `prompt`, up to where the reply starts."""
        from jinja2 import TemplateError  # noqa: PLC0415

        try:
            return str(self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=prompt))
        except TemplateError as error:
            raise ConfigError(
                f"{self.tokenizer.name_or_path}: its chat template refuses a system prompt: {error}",
                "Give another: distill.sft.chat_template: FILE.jinja",
            ) from None

    def prompt_ids(self, system: str, user: str) -> list[int]:
        """Return the tokens that a server reads before it replies."""
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        return self._encode(self.text(messages, prompt=True))

    def reply_ids(self, reply: str) -> list[int]:
        """Return the tokens of a reply, with the end of the turn."""
        return [*self._encode(reply), self.end]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a reply's tokens, without special tokens."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _encode(self, text: str) -> list[int]:
        return [int(i) for i in self.tokenizer.encode(text, add_special_tokens=False)]

    def _end_of_turn(self) -> int:
        ask = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
        whole = self.text([*ask, {"role": "assistant", "content": _PROBE}], prompt=False)
        after = self._encode(whole.rpartition(_PROBE)[2])
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        if not after or after[0] not in special:
            raise ConfigError(
                f"{self.tokenizer.name_or_path}: its chat template ends a reply in no special token",
                "The student could not learn to stop. Give another: distill.sft.chat_template: FILE.jinja",
            )
        return after[0]


_HINT = "distill.sft.model is a folder with a Hugging Face model, or a name on the hub."


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
