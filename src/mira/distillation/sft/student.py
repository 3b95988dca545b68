"""A tuned student as a judge: served by an endpoint, or run in this process. The same weights, the same prompt."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from mira.config.settings import EndpointSettings
from mira.distillation.bundle import read_bundle, weights_hash
from mira.distillation.sft.chat import Chat, require_train
from mira.errors import InputError, JudgeError
from mira.judging.endpoint import EndpointJudge
from mira.judging.grammar.reply import parse_reply
from mira.judging.judge import Judge, JudgeTask
from mira.judging.prompt import Prompt, build_prompt
from mira.llm.journal.journal import Journal
from mira.rubric.judgement import Judgement
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_json
from mira.tokens import tokenizer as load_tokenizer
from mira.unscored import Unscored

__all__ = ["SftStudent", "bundle_prompt", "check_prompt", "served_settings", "served_student"]

T = TypeVar("T")


def bundle_prompt(folder: Path) -> tuple[Rubric, Prompt]:
    """Return the rubric and the prompt that a bundle was trained with.

    Raises:
        InputError: The folder is not a bundle of kind "sft", or this version of mira would put another prompt.
    """
    facts = read_bundle(folder, "sft")
    try:
        asked = facts["prompt_settings"]
        rubric = Rubric.load(folder / "rubric.jsonl", facts["group"])
        shown = Rubric(rubric.group, rubric.anchors, asked["n_referenced"])
        prompt = build_prompt(
            shown, corpus=asked["corpus"], records=asked.get("records", ""), slot_order=asked["slot_order"]
        )
    except KeyError as error:
        raise InputError(f"{folder / 'bundle.json'}: field {error} is missing", "Train or pull it again.") from None
    check_prompt(folder, prompt)
    return rubric, prompt


def check_prompt(folder: Path, prompt: Prompt) -> None:
    """Refuse a prompt that is not the one a bundle was trained with.

    Raises:
        InputError: It is another one.
    """
    trained = read_bundle(folder, "sft")["prompt"]
    if prompt.hash != trained:
        raise InputError(
            f"{folder}: trained with prompt {trained}, but would be asked with prompt {prompt.hash}",
            "A student's scores hold for its own prompt only: use the bundle's rubric and settings, or train again.",
        )


def served_settings(folder: Path, settings: EndpointSettings) -> EndpointSettings:
    """Return an endpoint's settings, completed by what the bundle knows.

    What the user leaves open comes from the bundle: context, reply length and tokenizer; and the hash of its weights
    stands for what is served, so that replies of other weights behind the same URL are never taken for this student's.

    Raises:
        JudgeError: The user asks for another order of slots than the student was trained with.
        InputError: The folder is not a bundle of kind "sft".
    """
    facts = read_bundle(folder, "sft")
    order = facts["prompt_settings"]["slot_order"]
    given = settings.model_fields_set
    if "slot_order" in given and settings.slot_order != order:
        raise JudgeError(
            f"{folder}: trained with slot_order '{order}', the endpoint asks for '{settings.slot_order}'",
            "Leave slot_order out, or train again with distill.sft.slot_order.",
        )
    known = {
        "identity": f"sft:{weights_hash(folder)}",
        "max_model_len": facts["max_length"],
        "max_tokens": facts["max_reply"],
        "tokenizer": str(folder / "tokenizer.json"),
        "slot_order": order,
    }
    return settings.model_copy(update={k: v for k, v in known.items() if k not in given})


def served_student(folder: Path, settings: EndpointSettings, journal: Journal, **options: Any) -> EndpointJudge:
    """Return a student that an endpoint serves.

    Args:
        folder: Its bundle.
        settings: The endpoint; see `served_settings`.
        journal: Where replies are kept.
        options: Passed to `EndpointJudge`.

    Raises:
        InputError: The folder is not a bundle, or its prompt is not the one it was trained with.
        JudgeError: The endpoint's settings do not fit the student.
    """
    rubric, prompt = bundle_prompt(folder)
    return EndpointJudge(served_settings(folder, settings), rubric, prompt, journal, **options)


class SftStudent(Judge):
    """A tuned student in this process: greedy, one record after the other or in small batches.

    For small models, and for checking what a server answers; a server is the way to score a corpus.

    Args:
        folder: Its bundle.
        batch: Records decoded together. Batches pad, and may change the last digits of probabilities.

    Raises:
        InputError: The folder is not a bundle of kind "sft", or its prompt is not the one it was trained with.
        MiraError: torch or transformers is not installed.
    """

    def __init__(self, folder: Path, batch: int = 1) -> None:
        require_train()
        import torch  # noqa: PLC0415
        from transformers import AutoModelForCausalLM  # noqa: PLC0415

        facts = read_bundle(folder, "sft")
        self.rubric, self.prompt = bundle_prompt(folder)
        self.chat = Chat.load(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, trust_remote_code=False).eval()
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model.to(self._device)
        self._tokenizer = load_tokenizer(str(folder / "tokenizer.json"))
        self._room, self._max_reply = facts["max_length"] - facts["max_reply"], facts["max_reply"]
        self._batch = batch
        self.n_slots = len(self.prompt.slots)
        self.identity = hash_json(["sft", weights_hash(folder), self.prompt.hash, self._max_reply, batch])

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        """Yield one judgement a task, in the order of the tasks."""
        for chunk in _chunks(tasks, self._batch):
            users = [self.prompt.user(task.record, task.replicate, self._room, self._tokenizer) for task in chunk]
            replies = iter(self.replies([user.text for user in users if user]))
            for task, user in zip(chunk, users, strict=True):
                yield self._judgement(task, user.notes, *next(replies)) if user else self._overflow(task)

    def replies(self, users: list[str]) -> list[tuple[str, bool]]:
        """Return the greedy reply to each user message, and whether it ended at its token limit."""
        import torch  # noqa: PLC0415

        if not users:
            return []
        prompts = [self.chat.prompt_ids(self.prompt.system, user) for user in users]
        width = max(map(len, prompts))
        pad = self.chat.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=self._device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=self._device)
        with torch.inference_mode():
            out = self.model.generate(
                input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=self._max_reply
            )
        texts = []
        for row in out[:, width:].tolist():
            ended = self.chat.end in row
            texts.append((self.chat.decode(row[: row.index(self.chat.end)] if ended else row), not ended))
        return texts

    def _judgement(self, task: JudgeTask, notes: tuple[str, ...], text: str, truncated: bool) -> Judgement:
        parsed = parse_reply(text, self.prompt.names, truncated=truncated)
        record = task.record
        return parsed.judgement(record.id, record.source, replicate=task.replicate, judge=self.identity, notes=notes)

    def _overflow(self, task: JudgeTask) -> Judgement:
        return Judgement.unscored(
            task.record.id, task.record.source, self.n_slots, Unscored.OVERFLOW,
            replicate=task.replicate, judge=self.identity,
        )  # fmt: skip


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
