"""Reply parsing: replies per second on one core, clean and messy, beside json.loads and orjson.loads of as many bytes.

    python benchmarks/parsing.py

Takes the demo's real teacher replies. "Messy" are the same replies rewritten line by line in the ways of other models
(bold, bullets, hyphens, `8 / 10`, missing `/10`, renamed dimensions, rationales on the next line, thinking, fences).
The fast path for the card's form reads none of these. Every messy reply must give the scores of its original.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import orjson

from mira.judging.grammar.reply import ParsedReply, parse_reply
from mira.rubric.rubric import Rubric

DATA = Path(str(files("mira.demo_project") / "data"))
Reply = tuple[str, tuple[str, ...]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="CPU time a measurement takes")
    seconds = parser.parse_args().seconds
    clean = real_replies()
    variants = {
        "clean": clean,
        "clean, slots permuted": [(permuted(text, random.Random(i)), names) for i, (text, names) in enumerate(clean)],
        "clean, in a think block": [(f"<think>\nHm.\n</think>\n\n{text}", names) for text, names in clean],
        "cut in the middle": [(text[: len(text) // 2], names) for text, names in clean],
        "messy": [(messy(text, random.Random(i)), names) for i, (text, names) in enumerate(clean)],
    }
    check(clean, variants)
    size = sum(len(text.encode()) for text, _ in clean) / len(clean)
    print(f"{len(clean)} real replies of {size:,.0f} bytes, 15 slots; one core, CPU time\n")
    print(f"{'':28}{'replies/s':>12}{'MB/s':>8}")
    for name, replies in variants.items():
        report(name, parse_reply, replies, seconds)
    lines = [(json.dumps({"reply": text}, ensure_ascii=False), ()) for text, _ in clean]
    fields = [(json.dumps(as_fields(parse_reply(*reply)), ensure_ascii=False), ()) for reply in clean]
    for name, load in (("json.loads", json.loads), ("orjson.loads", orjson.loads)):
        report(f"{name}, one string", lambda text, _, load=load: load(text), lines, seconds)
        report(f"{name}, 15 fields", lambda text, _, load=load: load(text), fields, seconds)


def real_replies() -> list[Reply]:
    rubrics = {g: Rubric.load(DATA / f"text_group_{g}_dim_anchors.jsonl") for g in "AB"}
    names = {group: tuple(anchor.name for anchor in rubric.anchors) for group, rubric in rubrics.items()}
    lines = map(orjson.loads, (DATA / "teacher_replies.jsonl").read_bytes().splitlines())
    return [(line["reply"], names[line["group"]]) for line in lines]


def permuted(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    slots = lines[:15]
    rng.shuffle(slots)
    return "\n".join([*slots, *lines[15:]])


def messy(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    out = [messy_line(line, rng) for line in lines[:15]] + ["", *(f"**{line}" for line in lines[15:])]
    out[-4:] = [line.replace(": ", ":** ", 1) for line in out[-4:]]
    head = rng.choice(["", "Here is my judgement:\n\n", "<think>\n[A1] maybe 3/10\n</think>\n", "```\n"])
    return head + "\n".join(out) + ("\n```" if head.startswith("`") else "")


def messy_line(line: str, rng: random.Random) -> str:
    head, _, rest = line.partition(": ")
    score, _, rationale = rest.partition("/10 — ")
    slot, _, name = head.partition(" ")
    name = rng.choice([name, name, name.upper(), f"{name} of it all"])
    head = rng.choice([f"**{slot} {name}:**", f"- {slot} {name}:", f"{slot[1:-1]}. {name} —", f"{slot} {name} -"])
    score = rng.choice([f"{score}/10", f"{score} / 10", score, f"**{score}/10**"])
    return f"{head} {score}" + rng.choice([" — ", " – ", " - ", ": ", "\n  "]) + rationale.lstrip("0123456789.")


def check(clean: Sequence[Reply], variants: dict[str, list[Reply]]) -> None:
    expected = [parse_reply(*reply).scores for reply in clean]
    for name, replies in variants.items():
        found = [parse_reply(*reply).scores for reply in replies]
        if name != "cut in the middle" and found != expected:
            wrong = sum(f != e for f, e in zip(found, expected, strict=True))
            raise SystemExit(f"{name}: {wrong} replies give other scores")


def as_fields(parsed: ParsedReply) -> dict[str, Any]:
    rows = zip(parsed.scores, parsed.rationales, strict=True)
    return {f"A{i}": {"score": score, "rationale": text} for i, (score, text) in enumerate(rows, 1)}


def report(name: str, parse: Callable[..., Any], replies: Sequence[Reply], seconds: float) -> None:
    done, spent = 0, 0.0
    while spent < seconds:
        started = time.process_time()
        for reply in replies:
            parse(*reply)
        spent += time.process_time() - started
        done += 1
    size = sum(len(text.encode()) for text, _ in replies)
    print(f"{name:28}{done * len(replies) / spent:12,.0f}{done * size / spent / 1e6:8.1f}")


if __name__ == "__main__":
    main()
