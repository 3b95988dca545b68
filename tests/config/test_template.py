import re

import yaml

from mira.config.settings import Config, EndpointSettings
from mira.config.template import template


def uncommented(text: str) -> list[str]:
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    return [line for line in lines if re.match(r"\s*[a-z_]+:", line)]


def test_the_teachers_endpoint_shows_every_field_at_its_default() -> None:
    block = template().split("teacher:\n", 1)[1].split("  # or,", 1)[0]
    endpoint = yaml.safe_load("\n".join(uncommented(block)))["endpoint"]
    assert set(endpoint) == set(EndpointSettings.model_fields)
    given = {name: endpoint[name] for name in ("base_url", "model", "api_key_env")}
    assert EndpointSettings.model_validate(endpoint) == EndpointSettings.model_validate(given)


def test_other_endpoints_say_what_is_different() -> None:
    text = template()
    assert text.count("those of `teacher.endpoint` above") == 4
    dataman = text.split("#   dataman:\n", 1)[1]
    assert "#     #   # Maximum tokens of a reply; a whole reply has 29.\n#     #   max_tokens: 40\n" in dataman
    assert "#     #   logprobs_from: prompt_logprobs\n" in text and "#     #   top_p: 0.95" not in text


def test_the_live_part_is_the_least_that_is_needed() -> None:
    config = Config.model_validate(yaml.safe_load(template()))
    endpoint = config.teacher.endpoint
    assert endpoint is not None and endpoint.model_fields_set == {"base_url", "model", "api_key_env"}


def test_no_line_is_wider_than_a_page() -> None:
    assert max(map(len, template().splitlines())) <= 130
