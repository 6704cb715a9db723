"""No line of the log lets in whoever reads it."""

from __future__ import annotations

import logging
from logging.config import DictConfigurator  # type: ignore[attr-defined]

import pytest

from mirrorneuron.base.ids import secret
from mirrorneuron.base.logs import logging_config

SECRETS = {"/sign-in/": secret(), "mn_": secret(), "mnh_": secret(), "whsec_": secret()}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("begins", list(SECRETS))
def test_a_secret_is_hidden_wherever_it_stands_in_a_line(form: str, begins: str) -> None:
    key = SECRETS[begins]
    formatter = DictConfigurator(logging_config("INFO", form)).configure_formatter(
        logging_config("INFO", form)["formatters"]["structured"]
    )
    try:
        raise ValueError(f"no use for\n{begins}{key}")
    except ValueError as exc:
        kind = (ValueError, exc, exc.__traceback__)
    address = f"https://flows.example{'' if begins[0] == '/' else '/'}{begins}{key}"
    record = logging.LogRecord(
        "django.security.csrf", logging.WARNING, "", 0, "Forbidden (%s): %s", ("no cookie", address), kind
    )
    line = formatter.format(record)
    assert key not in line and f"{begins}[hidden]" in line
    assert "no cookie" in line and "no use for" in line


def test_other_lines_stay_as_they_are() -> None:
    formatter = DictConfigurator(logging_config("INFO", "json")).configure_formatter(
        logging_config("INFO", "json")["formatters"]["structured"]
    )
    record = logging.LogRecord("x", logging.INFO, "", 0, "GET /sign-in/ok by mn_wrong", (), None)
    assert "GET /sign-in/ok by mn_wrong" in formatter.format(record)
