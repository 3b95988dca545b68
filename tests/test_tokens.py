from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from mira.errors import ConfigError
from mira.tokens import tokenizer

TEXTS = ["", "hello world", "a <|im_end|> b <|endoftext|>", "写一个函数 🙂\x00", "x" * 10_000]


@pytest.mark.parametrize("name", ["qwen3", "cl100k_base", "o200k_base", "llama3"])
def test_counts_are_the_encodings_lengths_and_decoding_gives_the_text_back(name: str) -> None:
    it = tokenizer(name)
    assert it.count(TEXTS) == [len(it.encode(t)) for t in TEXTS]
    assert [it.decode(it.encode(t)) for t in TEXTS] == TEXTS
    assert it.count([]) == []
    assert (it.name, it.identity) == (name, name)


def test_special_tokens_in_the_text_are_plain_text() -> None:
    # qwen3's vocabulary has <|im_end|> as one special token; as plain text it takes several
    assert tokenizer("qwen3").count(["<|im_end|>"]) == [6]
    assert tokenizer("qwen3").encode("hello world") == [14990, 1879]


def test_a_tokenizer_json(tmp_path: Path) -> None:
    made = Tokenizer(models.WordLevel({"hello": 0, "world": 1, "<": 2, "eos": 3, ">": 4, "?": 5}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken("<eos>", special=True)])
    made.enable_truncation(2)
    made.enable_padding(length=50)
    made.save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path / "tokenizer.json", tmp_path):
        it = tokenizer(str(path))
        assert it.count(["hello", "hello world hello", "<eos>"]) == [1, 3, 3]
        assert it.encode("hello <eos>") == [0, 2, 3, 4]
        assert it.identity.startswith("tokenizer.json:")
        assert it.name == str(path)


def test_unknown_and_unreadable_tokenizers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'qwen-3' is not known; did you mean qwen3\?\n.*cl100k_base"):
        tokenizer("qwen-3")
    with pytest.raises(ConfigError, match=r"no\.json is not a file"):
        tokenizer(str(tmp_path / "no.json"))
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"bad\.json"):
        tokenizer(str(tmp_path / "bad.json"))
