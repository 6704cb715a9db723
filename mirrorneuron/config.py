"""Every setting, typed, in one place; read from the environment, secrets also from `NAME_FILE`.

A wrong value stops the start and is named: what was found, what is allowed. Engine numbers that are not
meant to be set live in `apps.runs.core.limits`.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from email.utils import parseaddr
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from mirrorneuron.base.crash import POINTS
from mirrorneuron.base.errors import ConfigurationError

SECRETS = ("MN_SECRET_KEY", "DATABASE_URL", "BROKER_URL", "CHANNEL_URL", "MN_SMTP_URL", "OPENAI_API_KEY")

GOOD_KEY_LENGTH = 32
"""Characters a secret key should have at least."""
LEAST_KEY_LENGTH = 16
"""A shorter one is no secret; a server refuses to start with it."""
_NOT_SETTINGS = ("MN_TEST_", "MN_SCREENSHOTS")
"""What the tests read; no setting of the product."""


class Config(BaseSettings):
    # A trace of a wrong value is printed by whoever does not know better, and must not quote a password.
    model_config = SettingsConfigDict(
        extra="ignore", case_sensitive=True, populate_by_name=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **named: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `read_config` hands over: it has read the environment and the secrets' files itself."""
        return (init_settings,)

    data: Path = Field(Path(".mirrorneuron"), alias="MN_DATA")
    """Folder of this installation: database (laptop), files, outbox, key, lock."""
    database_url: str = Field("", alias="DATABASE_URL")
    """`postgres://user:password@host:5432/name`; empty means SQLite under MN_DATA."""
    broker_url: str = Field("", alias="BROKER_URL")
    """`redis://…` or `amqp://…`; empty means the in-memory transport of one process."""
    channel_url: str = Field("", alias="CHANNEL_URL")
    """`redis://…` for live hints between processes; empty means through PostgreSQL, where there is one."""
    secret_key: SecretStr = Field(SecretStr(""), alias="MN_SECRET_KEY")
    """Signs sessions and encrypts credentials; generated into MN_DATA on a laptop when empty."""
    base_url: str = Field("", alias="MN_BASE_URL")
    """Where people reach the pages, for links in messages; empty means the address `mn up` listens on."""
    allowed_hosts: str = Field("", alias="MN_ALLOWED_HOSTS")
    """Comma-separated host names the pages answer to, besides localhost."""
    egress_allow: str = Field("", alias="MN_EGRESS_ALLOW")
    """Comma-separated hosts or networks that tools may reach although they are private."""
    smtp_url: str = Field("", alias="MN_SMTP_URL")
    """`smtp://user:password@host:587`; empty means messages become files under MN_DATA/outbox/."""
    mail_from: str = Field("MirrorNeuron <noreply@mirrorneuron.invalid>", alias="MN_MAIL_FROM")
    embedded: bool = Field(False, alias="MN_EMBEDDED")
    """True inside `mn up`: the worker lives in the web process."""
    lease_seconds: int = Field(20, alias="MN_LEASE_SECONDS", ge=2, le=600)
    poll_seconds: float = Field(1.0, alias="MN_POLL_SECONDS", ge=0.02, le=60)
    max_queued: int = Field(250_000, alias="MN_MAX_QUEUED", ge=0)
    """Runs of one workspace that may wait in one queue; a start beyond it is refused. 0: no bound."""
    queue_deadline_seconds: float = Field(0.0, alias="MN_QUEUE_DEADLINE_SECONDS", ge=0)
    """A run that has not begun so long after its start fails, unless its contract says otherwise. 0: none."""
    keep_runs_days: int = Field(365, alias="MN_KEEP_RUNS_DAYS", ge=0, le=36_500)
    """Days an ended run stays in the database; then it is archived and removed. 0: for ever."""
    keep_simulated_days: int = Field(30, alias="MN_KEEP_SIMULATED_DAYS", ge=0, le=36_500)
    """The same for simulated and demo runs."""
    keep_classes: str = Field("", alias="MN_KEEP_CLASSES")
    """Days for runs of single workflow classes, `invoices=2555,chat=30`; `acme/chat=7` is the class of one
    workspace. Goes before the two above."""
    keep_effects_days: int = Field(400, alias="MN_KEEP_EFFECTS_DAYS", ge=1, le=36_500)
    """Days an effect, and the key of a removed run, are remembered after their run is gone."""
    keep_audit_days: int = Field(0, alias="MN_KEEP_AUDIT_DAYS", ge=0, le=36_500)
    """Days an audit entry stays; 0: for ever."""
    archive: bool = Field(True, alias="MN_ARCHIVE")
    """Write every run to the archive before it is removed."""
    archive_folder: Path | None = Field(None, alias="MN_ARCHIVE_FOLDER")
    """Where archives lie; `archive/` under MN_DATA unless set. Workers on several machines need one they
    share."""
    debug: bool = Field(False, alias="MN_DEBUG")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="MN_LOG_LEVEL")
    log_format: Literal["text", "json"] = Field("text", alias="MN_LOG_FORMAT")
    faults: bool = Field(False, alias="MN_FAULTS")
    crash_at: str = Field("", alias="MN_CRASH_AT")
    openai_api_key: SecretStr = Field(SecretStr(""), alias="OPENAI_API_KEY")
    openai_base_url: str = Field("", alias="OPENAI_BASE_URL")

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        return _scheme(value, ("postgres", "postgresql", "sqlite"))

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: str) -> str:
        return _scheme(value, ("redis", "rediss", "amqp", "amqps", "memory"))

    @field_validator("channel_url")
    @classmethod
    def _channel(cls, value: str) -> str:
        return _scheme(value, ("redis", "rediss"))

    @field_validator("smtp_url")
    @classmethod
    def _smtp(cls, value: str) -> str:
        return _scheme(value, ("smtp", "smtps"))

    @field_validator("base_url", "openai_base_url")
    @classmethod
    def _http(cls, value: str) -> str:
        return _scheme(value, ("http", "https"))

    @field_validator("keep_classes")
    @classmethod
    def _classes(cls, value: str) -> str:
        for part in _parts(value):
            name, equals, days = part.rpartition("=")
            if not equals or not name.strip() or not days.strip().isdigit() or int(days) > 36_500:
                raise ValueError(f"{part!r} is not a class and its days, such as invoices=2555")
        return value

    @field_validator("egress_allow")
    @classmethod
    def _egress(cls, value: str) -> str:
        for part in _parts(value):
            if "/" in part:
                try:
                    ipaddress.ip_network(part, strict=False)
                except ValueError:
                    raise ValueError(f"{part!r} is not a network such as 10.0.0.0/8") from None
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: str) -> str:
        for part in _parts(value):
            if re.search(r"[/:\s]", part) and not _is_address(part.strip("[]")):
                raise ValueError(f"{part!r} is not a bare host name such as flows.example.org")
        return value

    @field_validator("mail_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        address = parseaddr(value)[1]
        if not re.fullmatch(r"[^@\s<>]+@[^@\s<>]+", address) or "\n" in value or "\r" in value:
            raise ValueError("expected an address such as Flows <flows@example.org>")
        return value

    @field_validator("crash_at")
    @classmethod
    def _crash_point(cls, value: str) -> str:
        point, _, nth = value.partition(":")
        if value and (point not in POINTS or not (nth or "1").isdigit() or int(nth or 1) < 1):
            raise ValueError(f"expected <point> or <point>:<nth> with a point of {' '.join(POINTS)}")
        return value

    @model_validator(mode="after")
    def _key_is_a_secret(self) -> Config:
        length = len(self.secret_key.get_secret_value())
        if not self.is_sqlite and 0 < length < LEAST_KEY_LENGTH:
            raise ValueError(
                f"MN_SECRET_KEY has {length} characters; a server needs {GOOD_KEY_LENGTH} random ones, "
                f"and refuses fewer than {LEAST_KEY_LENGTH}"
            )
        return self

    @model_validator(mode="after")
    def _faults_only_when_asked(self) -> Config:
        if self.crash_at and not self.faults:
            raise ValueError("MN_CRASH_AT is for fault tests only and is refused unless MN_FAULTS=1")
        return self

    @property
    def is_sqlite(self) -> bool:
        return not self.database_url or self.database_url.startswith("sqlite")

    @property
    def days_by_class(self) -> dict[str, int]:
        """Days to keep ended runs, by `class` or `workspace/class`."""
        found = {}
        for part in _parts(self.keep_classes):
            name, _, days = part.rpartition("=")
            found[name.strip()] = int(days)
        return found

    @property
    def hosts(self) -> list[str]:
        named = [urlsplit(self.base_url).hostname or ""] if self.base_url else []
        return [h for h in ["localhost", "127.0.0.1", "[::1]", *named, *_parts(self.allowed_hosts)] if h]

    @property
    def egress(self) -> list[str]:
        return _parts(self.egress_allow)

    def folder(self, name: str) -> Path:
        """A folder under MN_DATA, made on first use."""
        path = self.data / name
        if not self.data.exists():
            make_private(self.data)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path


def make_private(folder: Path) -> None:
    """Make a folder that only this user enters; one that is there already keeps its rights."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _scheme(value: str, allowed: tuple[str, ...]) -> str:
    if value and urlsplit(value).scheme not in allowed:
        raise ValueError(f"expected a URL that starts with one of {', '.join(a + '://' for a in allowed)}")
    return value


def read_config(environ: dict[str, str] | None = None) -> Config:
    """Read and check the environment.

    Raises ConfigurationError that names every wrong setting at once, what was found and what is allowed.
    """
    values: dict[str, Any] = dict(os.environ if environ is None else environ)
    for name in SECRETS:
        path = values.get(name + "_FILE")
        if path:
            if values.get(name):
                raise ConfigurationError(
                    f"{name} and {name}_FILE are both set, and only one can count.",
                    next=f"Unset {name} or {name}_FILE.",
                )
            try:
                values[name] = Path(path).read_text().strip()
            except OSError as exc:
                raise ConfigurationError(
                    f"{name}_FILE names {path!r}, which cannot be read ({exc.strerror}).",
                    next=f"Make the file readable or unset {name}_FILE.",
                ) from exc
    names = {field.alias for field in Config.model_fields.values() if field.alias}
    try:
        config = Config.model_validate({k: v for k, v in values.items() if k in names and v != ""})
    except ValidationError as exc:
        raise ConfigurationError(_explain(exc), next="Correct the environment and start again.") from exc
    return config.model_copy(update={"data": config.data.expanduser().absolute()})


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """A sentence for every MN_ variable that nothing reads, with the nearest name that something does."""
    fields = {field.alias for field in Config.model_fields.values() if field.alias}
    known = {"MN_TOKEN", *fields, *(f"{name}_FILE" for name in SECRETS)}
    ours = sorted(name for name in known if name.startswith("MN_"))
    sentences = []
    for name in sorted(environ):
        if name.startswith("MN_") and name not in known and not name.startswith(_NOT_SETTINGS):
            near = difflib.get_close_matches(name, ours, n=1, cutoff=0.75)
            advice = f"; did you mean {near[0]}?" if near else "."
            sentences.append(f"{name} is set, but there is no such setting{advice}")
    return sentences


def _explain(exc: ValidationError) -> str:
    lines = []
    for error in exc.errors():
        name = str(error["loc"][0]) if error["loc"] else "environment"
        shown = "(hidden)" if name in SECRETS else repr(error.get("input"))
        message = error["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}; found {shown}." if error["loc"] else f"{message}.")
    return " ".join(lines)


@lru_cache(maxsize=1)
def config() -> Config:
    """The configuration of this process, read once."""
    return read_config()
