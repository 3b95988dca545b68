"""The small-LM proxy: the same tiny LM trained on each method's selection, measured on text that none of them read."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Literal

import numpy as np

from mira.arrays import Floats
from mira.config.settings import Config
from mira.errors import ConfigError
from mira.evaluation.proxy.arms import BASELINE, Arm, arm_plans, draw_arms, parse_arm
from mira.evaluation.proxy.gold import GoldSet, Overlap, gold_sets
from mira.evaluation.proxy.model import SIZES, Size, Tokens, device, require_torch, train_and_measure
from mira.evaluation.proxy.results import ArmResult, Difference, GoldResult, ModelSize, ProxyResult, SeedFigures
from mira.evaluation.proxy.stats import Measured, bits_per_byte, differences, t_figures
from mira.progress import Log, Task
from mira.run_folder.files import hash_json, read_json, write_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import write_result
from mira.selection.stage import selection_inputs
from mira.selection.values import SelectionInputs

__all__ = ["CAVEAT", "proxy"]

CAVEAT = (
    "Such proxies do not prove downstream gains. A tiny model that is trained from scratch on little text shows how "
    "close a selection is to the gold text, not what a large model learns from it in mid-training; orders of methods "
    "can change with size and budget. Gold out of the labels is what the teacher likes, so it favours methods that "
    "follow the teacher (mira, and dsir and ppl where they are fitted to top-judged records); only gold files of your "
    "own are independent of it. A method that is better on the keep sets and on the drop sets alike has found text "
    "that is easier or nearer in kind, not better text."
)

_SMALLEST = 8
"""Sequences that a draw must fill."""

_RECIPE = 1
"""Goes up when training or measuring changes: finished models are then not taken over."""

Run = tuple[Floats, float]
"""Bits of every gold text, set after set; and the training loss at the end."""


def proxy(
    config: Config,
    run: RunFolder,
    log: Log,
    *,
    methods: Sequence[str] = ("mira",),
    seeds: int = 2,
    size: Literal["smoke", "gpu"] = "smoke",
) -> ProxyResult:
    """Train the same tiny LM on each method's selection, and write proxy.json. The run's own selection stays.

    Every arm sees the same number of tokens (bytes) in the same number of passes over equally much text. A seed draws
    the text from the selection, the weights and the order, the same in all arms. Each finished model is kept
    (`proxy/` in the run folder), so that an interrupted call goes on, and another method or seed costs itself alone.

    `smoke` (0.36M parameters, 0.3 MB a model) takes about 20 s of one CPU core a model. `gpu` (10M
    parameters, 98 MB a model): 5 methods with 3 seeds need about 1.1e17 floating-point operations, an estimated 50
    minutes at a sustained 40 TFLOP/s; the bar shows what is left. A GPU is used by either size where there is one.

    Args:
        config: The settings: budget, floors and caps are those of `select`; `evaluate.proxy` has gold files.
        run: A run folder in which the methods can run.
        log: Where progress goes.
        methods: Arms, each "<method>" or "<method>:<scope>"; "random" is always added, to compare with. `raw` keeps
            everything, so at equal tokens it is a second random draw: its difference to random is noise.
        seeds: Number of models an arm, at least 1; 2 or more for a spread.
        size: "smoke" or "gpu".

    Returns:
        What proxy.json holds.

    Raises:
        ConfigError: A method, a scope or the size is unknown, or the number of seeds is below 1.
        RunError: There is nothing to measure on, or what a method needs is not in the run folder yet.
        BudgetError: Budget, floors and caps contradict each other.
        MiraError: torch or transformers is missing.
    """
    if size not in SIZES or seeds < 1:
        raise ConfigError(f"proxy: size '{size}' with {seeds} seeds", f"Sizes: {', '.join(SIZES)}; seeds: 1 or more.")
    for name in methods:
        parse_arm(name, config.select.scope)
    require_torch()
    return measure(config, run, log, methods, [config.seed + k for k in range(seeds)], SIZES[size], size)


def measure(
    config: Config, run: RunFolder, log: Log, methods: Sequence[str], seeds: Sequence[int], size: Size, name: str
) -> ProxyResult:
    """Do what `proxy` does, with a size and seeds of one's own; `name` is what proxy.json calls the size."""
    started = time.monotonic()
    gold = gold_sets(
        config.evaluate.proxy, config.corpus, run,
        gold_bytes=size.gold_bytes, record_bytes=size.record_bytes, seed=config.seed,
    )  # fmt: skip
    arms = _arms(selection_inputs(config, run, log), methods, seeds, size, gold, config.evaluate.proxy.overlap)
    runs = {}
    with log.task("proxy: train", len(arms) * len(seeds) * size.steps) as task:
        for arm in arms.values():
            for seed in seeds:
                task.detail(f"{arm.name}, seed {seed}")
                runs[arm.name, seed] = _one_run(run, arm.stream(seed), gold, size, seed, task)
    result = ProxyResult(
        caveat=CAVEAT,
        size=name,
        model=ModelSize(**asdict(size), parameters=size.parameters),
        device=device(),
        seeds=list(seeds),
        baseline=BASELINE,
        confidence=config.evaluate.interval,
        train_tokens=size.tokens,
        data_tokens=arms[BASELINE].length,
        passes=size.tokens / arms[BASELINE].length,
        gold={s.name: GoldResult(s.kind, len(s.texts), s.bytes) for s in gold},
        arms=_figures(arms, seeds, runs, gold, config.select.scope, config.evaluate.interval, config.seed),
    )
    write_result(run.path / "proxy.json", result)
    _tell(result, time.monotonic() - started, log)
    return result


def _arms(
    inputs: SelectionInputs,
    methods: Sequence[str],
    seeds: Sequence[int],
    size: Size,
    gold: Sequence[GoldSet],
    share: float,
) -> dict[str, Arm]:
    plans = arm_plans(inputs, methods)
    keys = {key for s in gold for key in s.ids}
    overlap = Overlap([text for s in gold for text in s.whole], share)
    arms = draw_arms(inputs.corpus, inputs.run, plans, seeds, size.tokens, keys, overlap, inputs.log)
    length = arms[BASELINE].length
    if length < _SMALLEST * size.context:
        least = min(arms.values(), key=lambda arm: arm.tokens)
        raise ConfigError(
            f"proxy: the smallest selection ('{least.name}') leaves {length:,} bytes to train on; "
            f"{_SMALLEST * size.context:,} are the least for this size",
            "Give `select` a larger budget, or take the smoke size.",
        )
    if length < size.tokens:
        inputs.log.note(
            f"the smallest draw has {length:,} bytes, so every arm reads {length:,} {size.tokens / length:.1f} times"
        )
    return arms


def _one_run(run: RunFolder, stream: Tokens, gold: Sequence[GoldSet], size: Size, seed: int, task: Task) -> Run:
    """Train and measure one model, unless that was done already with the same text, gold, recipe and device."""
    texts = [text for s in gold for text in s.texts]
    identity = hash_json([_RECIPE, asdict(size), seed, device(), _digest([stream.tobytes()]), _digest(texts)])
    path = run.path / "proxy" / f"{identity}.json"
    if path.is_file():
        known = read_json(path)
        task.advance(size.steps)
    else:
        bits, loss = train_and_measure(stream, texts, size, seed, task.advance)
        known = {"bits": bits.tolist(), "loss": loss}
        write_json(path, known)
    return np.array(known["bits"], np.float64), float(known["loss"])


def _digest(parts: Sequence[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def _figures(
    arms: Mapping[str, Arm],
    seeds: Sequence[int],
    runs: Mapping[tuple[str, int], Run],
    gold: Sequence[GoldSet],
    scope: str,
    confidence: float,
    seed: int,
) -> dict[str, ArmResult]:
    sizes = {s.name: np.array([len(text) for text in s.texts], np.int64) for s in gold}
    stops = np.cumsum([len(s.texts) for s in gold])
    measured: dict[str, Measured] = {}
    for name in arms:
        bits = np.stack([runs[name, one][0] for one in seeds], axis=1)
        measured[name] = {s.name: bits[stop - len(s.texts) : stop] for s, stop in zip(gold, stops, strict=True)}
    shown = {s.name: [s.name] for s in gold}
    for kind in ("keep", "drop"):
        if of_kind := [s.name for s in gold if s.kind == kind]:
            shown[kind] = of_kind

    def absolute(arm: str, sets: Sequence[str]) -> SeedFigures:
        return t_figures(bits_per_byte(measured[arm], sizes, sets), confidence)

    def relative(arm: str, sets: Sequence[str]) -> Difference:
        return differences(measured[arm], measured[BASELINE], sizes, sets, confidence, seed)

    return {
        name: _arm_result(
            arm,
            scope,
            seeds,
            loss=[runs[name, one][1] for one in seeds],
            bits={key: absolute(name, sets) for key, sets in shown.items()},
            difference={} if name == BASELINE else {key: relative(name, sets) for key, sets in shown.items()},
        )
        for name, arm in arms.items()
    }


def _arm_result(
    arm: Arm,
    default_scope: str,
    seeds: Sequence[int],
    loss: list[float],
    bits: dict[str, SeedFigures],
    difference: dict[str, Difference],
) -> ArmResult:
    method, scope = parse_arm(arm.name, default_scope)
    shares = [arm.shares(seed) for seed in seeds]
    return ArmResult(
        method=method,
        scope=scope,
        records=arm.records,
        tokens=arm.tokens,
        gold_removed=arm.gold,
        overlap_removed=arm.overlapping,
        sources={
            source: sum(share.get(source, 0.0) for share in shares) / len(shares)
            for source in sorted({source for share in shares for source in share})
        },
        loss=loss,
        bits_per_byte=bits,
        difference=difference,
    )


def _tell(result: ProxyResult, seconds: float, log: Log) -> None:
    kinds: list[str] = [kind for kind in ("keep", "drop") if kind in result.arms[BASELINE].bits_per_byte]
    kinds += [name for name, s in result.gold.items() if s.kind == "given"]
    for name, arm in result.arms.items():
        parts = []
        for kind in kinds:
            bits = arm.bits_per_byte[kind]
            spread = "" if bits.sd is None else f" ± {bits.sd:.3f}"
            gain = "" if name == BASELINE else f" ({_difference(arm.difference[kind])} to {BASELINE})"
            parts.append(f"{kind} {bits.mean:.3f}{spread}{gain}")
        log.note(f"{name}: bits per byte on {', '.join(parts)}")
    log.note(f"{len(result.arms) * len(result.seeds)} models in {seconds:,.0f} s on {result.device}")
    log.note(result.caveat)


def _difference(figures: Difference) -> str:
    interval = "" if figures.low is None else f" [{figures.low:+.3f}, {figures.high:+.3f}]"
    return f"{figures.mean:+.3f}{interval}"
