"""The check of an endpoint before anything is spent."""

from collections.abc import Callable
from typing import Any

import pytest

from mira.config.settings import EndpointSettings
from mira.errors import JudgeError
from mira.llm.check import WARNING, check_endpoint
from mira.llm.transport import FakeTransport, HttpTransport, Response
from support.fault_server import FaultServer


def settings(url: str) -> EndpointSettings:
    return EndpointSettings(base_url=url, model="fake")


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Check an endpoint that answers /models with a status and a body."""

    def check(status: int, body: bytes, model: str = "fake") -> list[str]:
        def answer(url: str, request: dict[str, Any]) -> Response:
            assert url == "http://h/v1/models"
            return Response(status, body)

        fake = FakeTransport(answer)
        monkeypatch.setattr(HttpTransport, "start", lambda self: fake.start())
        monkeypatch.setattr(HttpTransport, "get", lambda self, url, timeout_s: fake.get(url, timeout_s))
        return check_endpoint(settings("http://h/v1/").model_copy(update={"model": model}))

    return check


def test_a_server_that_serves_the_model_is_in_order() -> None:
    with FaultServer() as server:
        assert check_endpoint(settings(server.url)) == [f"{server.url} serves fake"]
        assert check_endpoint(settings(f"{server.url}/chat/completions")) == [f"{server.url} serves fake"]


@pytest.mark.parametrize("body", [b"<html>Welcome to\nnginx", b"{}", b'"x"', b"null", b"7"])
def test_a_page_or_other_json_in_place_of_the_models_is_an_error(
    answering: Callable[[int, bytes], list[str]], body: bytes
) -> None:
    with pytest.raises(JudgeError, match=r"is not a list of models: \"[^\n]*\"\n.*ends in /v1"):
        answering(200, body)


def test_a_bare_list_of_models_will_do(answering: Callable[[int, bytes], list[str]]) -> None:
    assert answering(200, b'[{"id": "fake"}]') == ["http://h/v1 serves fake"]


def test_a_server_without_a_list_of_models_is_a_warning(answering: Callable[[int, bytes], list[str]]) -> None:
    (line,) = answering(404, b"not found")
    assert line.startswith(WARNING)
    assert answering(200, b'{"data": []}') == ["http://h/v1 responds, but its list of models is empty"]


def test_a_url_without_http_says_what_to_add() -> None:
    with pytest.raises(JudgeError, match=r"not an HTTP URL\n.*Add .*http://127\.0\.0\.1:18777"):
        check_endpoint(settings("127.0.0.1:18777"))


@pytest.mark.parametrize(
    ("model", "listed"),
    [
        ("gemini-2.5-flash", "models/gemini-2.5-flash"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("llama3", "llama3:latest"),
        ("qwen3:latest", "qwen3"),
        ("deepseek/deepseek-chat:nitro", "deepseek/deepseek-chat"),
        ("gpt-4o", "openai/*"),
        ("openai/gpt-4o", "openai/*"),
        ("GPT-4o", "gpt-4o"),
    ],
)
def test_another_spelling_of_a_model_is_a_warning(
    answering: Callable[[int, bytes, str], list[str]], model: str, listed: str
) -> None:
    (line,) = answering(200, b'{"data": [{"id": "%s"}]}' % listed.encode(), model)
    assert line.startswith(WARNING)
    assert listed in line


@pytest.mark.parametrize("listed", ["models/gemini-2.5-pro", "llama3.1:latest", "other/fake-2", "x/fake*r"])
def test_another_model_is_an_error(answering: Callable[[int, bytes, str], list[str]], listed: str) -> None:
    with pytest.raises(JudgeError, match="does not serve model 'fake'"):
        answering(200, b'{"data": [{"id": "%s"}]}' % listed.encode(), "fake")
