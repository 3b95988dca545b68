"""Arms of the small-LM proxy: what each method's selection gives a model to read, the same number of tokens each."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mira.config.settings import CorpusSettings
from mira.corpus import fetch
from mira.errors import ConfigError, RunError
from mira.evaluation.proxy.gold import Overlap
from mira.evaluation.proxy.model import SEPARATOR, Tokens
from mira.hashing import hash_ids
from mira.progress import Log
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import load_method, method_names
from mira.selection.planning import Plan, make_plan
from mira.selection.value_reader import aligned
from mira.selection.values import SelectionInputs
from mira.selection.write import keep_mask

__all__ = ["BASELINE", "Arm", "Key", "arm_plans", "draw_arms", "parse_arm"]

BASELINE = "random"
"""The arm that all others are compared with."""

Key = tuple[str, str]
"""(source, id)."""

_SCOPES = ("global", "group", "source")
_BYTES_A_TOKEN = 3  # a guess for how many records to read at once; wrong only means another reading
_SPARE = 2  # times the tokens asked for: room for what overlaps with gold


@dataclass
class Arm:
    """One method's training text, in one draw a seed.

    Attributes:
        name: "<method>" or "<method>:<scope>".
        records: Records that the method keeps, and that are not gold.
        tokens: Their tokens, by the run's tokenizer.
        gold: Records that the method keeps but that are gold: no arm may read them.
        overlapping: Records that were drawn (by any seed) but left out because they share too much with gold.
        length: Training tokens of a draw; the same in all arms.
        draws: Seed -> the records of its draw, in order.
        texts: Their texts, UTF-8; shared by all arms.
    """

    name: str
    records: int = 0
    tokens: int = 0
    gold: int = 0
    overlapping: int = 0
    length: int = 0
    draws: dict[int, list[Key]] = field(default_factory=dict)
    texts: Mapping[Key, bytes | None] = field(default_factory=dict, repr=False)

    def stream(self, seed: int) -> Tokens:
        """Return a draw's training tokens: each text after a separator, the last one cut."""
        parts = [np.zeros(0, np.int16)]
        for text in map(self._text, self.draws[seed]):
            parts += [np.array([SEPARATOR], np.int16), np.frombuffer(text, np.uint8).astype(np.int16)]
        return np.concatenate(parts)[: self.length]

    def shares(self, seed: int) -> dict[str, float]:
        """Return source -> its share of a draw's training tokens."""
        sums: dict[str, int] = {}
        left = self.length
        for key in self.draws[seed]:
            length = min(left, len(self._text(key)) + 1)
            sums[key[0]] = sums.get(key[0], 0) + length
            left -= length
        return {source: n / self.length for source, n in sorted(sums.items())}

    def _text(self, key: Key) -> bytes:
        return self.texts[key] or b""


def parse_arm(name: str, default: str) -> tuple[str, str]:
    """Return method and scope of "<method>" or "<method>:<scope>".

    Raises:
        ConfigError: There is no such method or scope.
    """
    method, colon, scope = name.partition(":")
    if method not in method_names() or (colon and scope not in _SCOPES):
        raise ConfigError(
            f"proxy: '{name}' is not a method",
            f"Known: {', '.join(method_names())}; each also with a scope: mira:{', mira:'.join(_SCOPES)}.",
        )
    return method, scope or default


def arm_plans(inputs: SelectionInputs, names: Sequence[str]) -> dict[str, Plan]:
    """Decide every arm's selection, under the budget of `select`, without writing one. The baseline comes first.

    Raises:
        ConfigError: A method or scope is unknown.
        RunError: What a method needs is not in the run folder yet.
        BudgetError: Budget, floors and caps contradict each other.
    """
    parsed = {name: parse_arm(name, inputs.select.scope) for name in (BASELINE, *names)}
    plans = {}
    for name, (method, scope) in parsed.items():
        scoped = replace(inputs, select=inputs.select.model_copy(update={"scope": scope}))
        plans[name] = make_plan(scoped, load_method(method, scoped))
    return plans


def draw_arms(
    corpus: CorpusSettings,
    run: RunFolder,
    plans: Mapping[str, Plan],
    seeds: Sequence[int],
    tokens: int,
    gold: Collection[Key],
    overlap: Overlap,
    log: Log,
) -> dict[str, Arm]:
    """Draw training tokens from every selection: the same number from each arm, by each seed, and none of gold.

    A draw takes an arm's records in the order of hash(seed, id), which is the same in all arms, so that two arms with
    the same seed read the same records wherever both methods keep them. Where the smallest draw has less than `tokens`,
    all are cut to it. Memory: arms * seeds * `tokens` bytes of text at most, and the ids of as many tokens.

    Args:
        corpus: How the corpus is read.
        run: The run folder.
        plans: Arm -> its selection.
        seeds: One draw each.
        tokens: Tokens that a draw should have: bytes, and one separator a text.
        gold: Records that no arm may read.
        overlap: Texts that no arm may read.
        log: Where progress goes.

    Raises:
        RunError: An arm keeps nothing that may be read.
    """
    queues: dict[tuple[str, int], _Queue] = {}
    arms = {}
    with log.task("proxy: arms", len(plans)) as task:
        for name, plan in plans.items():
            arms[name] = Arm(name)
            queues |= {(name, s): q for s, q in _candidates(run, plan, arms[name], seeds, tokens, gold).items()}
            task.advance()
    texts = _read(corpus, run, list(queues.values()), tokens, overlap, log)
    least = min(queues, key=lambda of: queues[of].filled)
    if not queues[least].filled:
        raise RunError(
            f"proxy: the arm '{least[0]}' keeps nothing outside the gold sets", "Give `select` a larger budget."
        )
    for name, arm in arms.items():
        arm.length, arm.texts = min(tokens, queues[least].filled), texts
        own = {seed: queues[name, seed].keys[: queues[name, seed].at] for seed in seeds}
        arm.overlapping = sum(texts[key] is None for key in set().union(*own.values()))
        arm.draws = {seed: _cut(keys, texts, arm.length) for seed, keys in own.items()}
    return arms


def _cut(keys: Sequence[Key], texts: Mapping[Key, bytes | None], length: int) -> list[Key]:
    chosen: list[Key] = []
    for key in keys:
        text = texts[key]
        if text is None:
            continue
        if length <= 0:
            break
        chosen.append(key)
        length -= len(text) + 1
    return chosen


@dataclass
class _Queue:
    """An arm's records in the order of one seed's hash."""

    keys: list[Key]
    n_tokens: list[int]
    at: int = 0
    filled: int = 0

    def likely(self, tokens: int) -> list[Key]:
        """Return the records that are probably needed to reach `tokens`."""
        lacking, stop = tokens - self.filled, self.at
        while lacking > 0 and stop < len(self.keys):
            lacking -= self.n_tokens[stop] * _BYTES_A_TOKEN
            stop += 1
        return self.keys[self.at : stop]

    def fill(self, texts: Mapping[Key, bytes | None], tokens: int) -> None:
        """Take records up to `tokens`, as far as their texts are there."""
        while self.filled < tokens and self.at < len(self.keys) and self.keys[self.at] in texts:
            text = texts[self.keys[self.at]]
            self.filled += 0 if text is None else len(text) + 1
            self.at += 1


class _Prefix:
    """The records of smallest hash that hold `tokens` tokens: memory is a few times theirs, however many are added."""

    def __init__(self, tokens: int) -> None:
        self._tokens = tokens
        self._bound = np.uint64((1 << 64) - 1)
        self._parts: list[pa.Table] = []
        self._limit = 1 << 16

    def add(self, source: str, ids: pa.Array, n_tokens: npt.NDArray[np.int32], seed: int) -> None:
        hashes = hash_ids(ids, seed, source, "proxy")
        inside = hashes <= self._bound
        names = pa.DictionaryArray.from_arrays(np.zeros(int(inside.sum()), np.int32), pa.array([source]))
        columns = [pa.array(hashes[inside]), names.cast(pa.string()), ids.filter(pa.array(inside)), n_tokens[inside]]
        self._parts.append(pa.table(columns, names=["hash", "source", "id", "n_tokens"]))
        if sum(map(len, self._parts)) > self._limit:
            self._limit = max(self._limit, 2 * len(self._compact()))

    def queue(self) -> _Queue:
        table = self._compact()
        keys = zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True)
        return _Queue(list(keys), table["n_tokens"].to_pylist())

    def _compact(self) -> pa.Table:
        table = pa.concat_tables(self._parts).sort_by([("hash", "ascending"), ("source", "ascending")])
        sums = np.cumsum(table["n_tokens"].to_numpy(), dtype=np.int64)
        enough = int(np.searchsorted(sums, self._tokens)) + 1
        if enough <= len(table):
            table = table.slice(0, enough).combine_chunks()
            self._bound = table["hash"][enough - 1].as_py()
        self._parts = [table]
        return table


def _candidates(
    run: RunFolder, plan: Plan, arm: Arm, seeds: Sequence[int], tokens: int, gold: Collection[Key]
) -> dict[int, _Queue]:
    """Take a selection's first records by each seed's hash: as many tokens as bytes are needed, and some to spare."""
    first = {seed: _Prefix(_SPARE * tokens) for seed in seeds}
    own = {s: pa.array(sorted(i for t, i in gold if t == s), pa.string()) for s in plan.shards}
    for source, ids, n_tokens in _kept(run, plan):
        free = ~pc.is_in(ids, value_set=own[source]).to_numpy(zero_copy_only=False)
        arm.gold += int((~free).sum())
        arm.records += int(free.sum())
        arm.tokens += int(n_tokens[free].sum(dtype=np.int64))
        for seed in seeds:
            first[seed].add(source, ids.filter(pa.array(free)), n_tokens[free], seed)
    return {seed: prefix.queue() for seed, prefix in first.items()}


def _kept(run: RunFolder, plan: Plan) -> Iterator[tuple[str, pa.Array, npt.NDArray[np.int32]]]:
    """Yield source, ids and tokens of what a plan keeps, a part of a shard at a time."""
    for source, parts in plan.shards.items():
        rule = plan.rule(source)
        for shard in parts:
            for block, chunk in aligned(run, plan.folder, shard):
                kept = keep_mask(rule, chunk)
                yield source, block.ids.filter(pa.array(kept)), block.n_tokens[kept]


def _read(
    corpus: CorpusSettings, run: RunFolder, queues: Sequence[_Queue], tokens: int, overlap: Overlap, log: Log
) -> dict[Key, bytes | None]:
    """Read texts until every queue has `tokens` or is at its end. None stands for a text that overlaps with gold."""
    texts: dict[Key, bytes | None] = {}
    with log.task("proxy: texts") as task:
        while wanted := {key for queue in queues for key in queue.likely(tokens)} - texts.keys():
            for source in sorted({source for source, _ in wanted}):
                for record in fetch(corpus, run, source, [i for s, i in wanted if s == source]):
                    text = record.text.encode("utf-8", "surrogatepass")
                    texts[source, record.id] = None if overlap(text) else text
                    task.advance()
            for queue in queues:
                queue.fill(texts, tokens)
    return texts
