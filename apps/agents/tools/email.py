"""`draft_email` and `send_email`.

A message goes to the server that MN_SMTP_URL names, or, without one, becomes a file in MN_DATA/outbox. The
file's name is the idempotency key, so writing it again changes nothing; what happens behind an SMTP server
nobody can ask, so that way is opaque (ENGINE rule 28). The Message-ID is made from the key: two copies of one
message are recognisable as one.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.policy import EmailPolicy
from email.utils import format_datetime, getaddresses, parseaddr
from hashlib import sha256
from pathlib import Path
from typing import Any

from apps.agents.tools import smtp
from apps.agents.tools.base import DefiniteFailure, EffectClass, StepError, Tool, ToolRun, ToolSpec
from mirrorneuron.base.clock import now
from mirrorneuron.config import config

MAX_RECIPIENTS = 50
MAX_BODY = 500_000
_WIRE = SMTP_POLICY.clone(cte_type="7bit")  # fits every server, 8BITMIME or not
# People open and search these files, so they stay as plain as the format allows.
_FILE = SMTP_POLICY.clone(cte_type="8bit", linesep="\n", max_line_length=998)
_LOCAL = re.compile(r"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$")
_LABEL = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$")
_SAFE_KEY = re.compile(r"^[A-Za-z0-9_-]{1,128}$")
_BLANK = re.compile(r"\{\{[^{}\n]{0,200}\}\}|\[(?:name|company|date|your name)\]", re.I)
"""A place left to fill in; bounded, so that a body of opening brackets is read in linear time."""

_ADDRESSES: dict[str, Any] = {
    "description": "One address, or several: as a list, or in one text with commas between.",
    "x-message": "Write at least one e-mail address, such as ann@example.com.",
    "anyOf": [
        {"type": "string", "minLength": 3, "maxLength": 4000},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_RECIPIENTS},
    ],
}
_PROPERTIES: dict[str, Any] = {
    "to": _ADDRESSES,
    "subject": {"type": "string", "minLength": 1, "maxLength": 300},
    "body": {"type": "string", "minLength": 1, "maxLength": MAX_BODY, "description": "Plain text."},
    "cc": _ADDRESSES,
    "bcc": _ADDRESSES,
    "reply_to": {"type": "string", "maxLength": 320},
}
_LIST = {"type": "array", "items": {"type": "string"}}

DRAFT = ToolSpec(
    name="draft_email",
    description="Check an e-mail and give it its final form; nothing is sent.",
    permission="draft e-mail",
    parameters={
        "type": "object",
        "required": ["subject", "body"],
        "additionalProperties": False,
        "properties": _PROPERTIES,
    },
    output={
        "type": "object",
        "required": ["to", "subject", "body"],
        "properties": {
            "to": _LIST,
            "cc": _LIST,
            "bcc": _LIST,
            "subject": {"type": "string"},
            "body": {"type": "string"},
            "reply_to": {"type": "string"},
            "notes": {**_LIST, "description": "What a person should look at."},
        },
    },
    effect=EffectClass.READ,
    actions=("draft",),
    open_world=False,
    timeout_seconds=5.0,
)


def send_spec() -> ToolSpec:
    """`send_email` as the configuration makes it."""
    by_smtp = bool(config().smtp_url)
    way = "through the mail server" if by_smtp else "as a file in the outbox folder"
    return ToolSpec(
        name="send_email",
        description=f"Send one e-mail, {way}.",
        permission="send e-mail",
        parameters={
            "type": "object",
            "required": ["to", "subject", "body"],
            "additionalProperties": False,
            "properties": _PROPERTIES,
        },
        output={
            "type": "object",
            "required": ["message_id", "to", "delivery"],
            "properties": {
                "message_id": {"type": "string"},
                "to": {**_LIST, "description": "Everybody it went to."},
                "subject": {"type": "string"},
                "delivery": {"type": "string", "enum": ["smtp", "outbox"]},
                "file": {"type": ["string", "null"], "description": "Name in the outbox folder."},
                "response": {"type": ["string", "null"], "description": "What the mail server said."},
            },
        },
        effect=EffectClass.OPAQUE if by_smtp else EffectClass.IDEMPOTENT,
        actions=("send", "contact_customer"),
        sinks=("to", "cc", "bcc", "reply_to"),
        open_world=False,
        timeout_seconds=60.0 if by_smtp else 15.0,
    )


def draft(call: ToolRun) -> dict[str, Any]:
    """The message with its addresses checked and its lines ended alike. Raises StepError (permanent)."""
    shaped = shape(call.arguments, needs_recipient=False)
    notes = [] if shaped["to"] else ["There is no recipient yet."]
    blanks = sorted(set(_BLANK.findall(shaped["body"])))
    notes += [f"The body still holds the blank {blank}." for blank in blanks[:10]]
    return {**shaped, "notes": notes}


def send(call: ToolRun) -> dict[str, Any]:
    """Send, or write the outbox file.

    Raises DefiniteFailure before the message has left, AmbiguousOutcome after.
    """
    shaped = shape(call.arguments, needs_recipient=True)
    url = config().smtp_url
    message = build(shaped, call.key, _WIRE if url else _FILE)
    everybody = list(dict.fromkeys(addr(a) for field in ("to", "cc", "bcc") for a in shaped[field]))
    result: dict[str, Any] = {
        "message_id": message["Message-ID"],
        "to": everybody,
        "subject": shaped["subject"],
        "delivery": "outbox",
        "file": None,
        "response": None,
    }
    if url:
        sender = parseaddr(config().mail_from)[1]
        said = smtp.deliver(url, sender, everybody, message.as_bytes(), call.seconds_left())
        return {**result, "delivery": "smtp", "response": said}
    if shaped["bcc"]:
        # A file has no envelope: without this line nobody would know whom else it was meant for.
        message["X-Envelope-Bcc"] = ", ".join(shaped["bcc"])
    return {**result, "file": _to_outbox(call.key, message.as_bytes())}


def shape(arguments: Mapping[str, Any], *, needs_recipient: bool) -> dict[str, Any]:
    """Addresses as lists, one-line headers, `\\n` line ends.

    Raises StepError (permanent) that names the field: an address that is none, a line break in a header.
    """
    shaped: dict[str, Any] = {}
    for field in ("to", "cc", "bcc"):
        shaped[field] = addresses_of(arguments.get(field), field)
    if needs_recipient and not shaped["to"]:
        raise _wrong("to", "holds no address")
    if sum(len(shaped[f]) for f in ("to", "cc", "bcc")) > MAX_RECIPIENTS:
        raise _wrong("to", f"and the other fields hold more than {MAX_RECIPIENTS} addresses")
    shaped["subject"] = _one_line(arguments["subject"], "subject").strip()
    if not shaped["subject"]:
        raise _wrong("subject", "is empty")
    body = str(arguments["body"]).replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    shaped["body"] = body.encode("utf-8", "replace").decode()
    if arguments.get("reply_to"):
        shaped["reply_to"] = ", ".join(addresses_of(arguments["reply_to"], "reply_to"))
    return shaped


def addresses_of(value: Any, field: str) -> list[str]:
    """Checked addresses, `name@host` or `Name <name@host>`, each once."""
    texts = value if isinstance(value, list) else [value] if value else []
    found: list[str] = []
    for text in texts:
        line = _one_line(text, field)
        pairs = getaddresses([line])
        # The library is forgiving: what it drops or joins must not become another address than is shown.
        bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", line)
        is_plain = bare.count("<") == bare.count(">") and not set(bare) & set('()"[]')
        count = sum(bool(address) for _, address in pairs)
        if line.strip() and (not count or not is_plain or bare.count("@") != count):
            raise _wrong(field, f"holds {line[:80]!r}, which is no e-mail address")
        for name, address in pairs:
            if not address and not name:
                continue
            found.append(_checked(name, address, field))
    return list(dict.fromkeys(found))


def addr(text: str) -> str:
    return parseaddr(text)[1]


def _checked(name: str, address: str, field: str) -> str:
    local, at, domain = address.rpartition("@")
    problem = ""
    if not at or not local or not domain:
        problem = "which is no e-mail address"
    elif not local.isascii():
        problem = "whose part before the @ holds letters that mail servers do not take"
    elif not _LOCAL.fullmatch(local) or len(local) > 64:
        problem = "whose part before the @ is not valid"
    else:
        try:
            domain = domain.encode("idna").decode("ascii")
        except UnicodeError:
            domain = ""
        labels = domain.split(".")
        if not domain or len(domain) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
            problem = "whose part after the @ is no host name"
        elif len(labels) < 2 and domain != "localhost":
            problem = "whose part after the @ is not complete"
    if problem:
        raise _wrong(field, f"holds {address[:80]!r}, {problem}")
    checked = Address(display_name=name.strip(), username=local, domain=domain)
    return str(checked) if name.strip() else checked.addr_spec


def _one_line(value: Any, field: str) -> str:
    text = str(value).encode("utf-8", "replace").decode()
    # Not only CR and LF: some programs take these others for the end of a line, too.
    if any((ord(c) < 32 and c != "\t") or c in "\x7f\x85\u2028\u2029" for c in text):
        raise _wrong(field, "holds a line break or another control character")
    return text.replace("\t", " ")


def _wrong(field: str, problem: str) -> StepError:
    return StepError(
        f'"{field}" {problem}.',
        permanent=True,
        code="bad_email",
        fields={field: problem},
        next="Correct it and try again.",
    )


def build(shaped: Mapping[str, Any], key: str, policy: EmailPolicy[Any]) -> EmailMessage:
    """The message as it will travel; Bcc stays out of it."""
    message = EmailMessage(policy=policy)
    message["From"] = config().mail_from
    message["To"] = ", ".join(shaped["to"])
    if shaped["cc"]:
        message["Cc"] = ", ".join(shaped["cc"])
    if shaped.get("reply_to"):
        message["Reply-To"] = shaped["reply_to"]
    message["Subject"] = shaped["subject"]
    message["Date"] = format_datetime(now())
    message["Message-ID"] = message_id(key)
    message.set_content(shaped["body"])
    return message


def message_id(key: str) -> str:
    """`<key@domain>`: the same for every copy of one message."""
    domain = addr(config().mail_from).rpartition("@")[2] or "mirrorneuron.invalid"
    return f"<{_file_key(key)}@{domain}>"


def _file_key(key: str) -> str:
    return key if _SAFE_KEY.fullmatch(key) else sha256(key.encode("utf-8", "replace")).hexdigest()


def _to_outbox(key: str, data: bytes) -> str:
    """Write the message under its key: complete and flushed before the name appears, or not at all."""
    folder = config().folder("outbox")
    place = folder / f"{_file_key(key)}.eml"
    if place.exists():
        return place.name
    partial = folder / f".{place.stem}.{os.getpid()}-{threading.get_ident()}.part"
    try:
        _write_through(partial, data)
        partial.replace(place)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as exc:
        partial.unlink(missing_ok=True)
        raise DefiniteFailure(
            f"The message could not be written to the outbox folder ({exc.strerror}).",
            code="outbox_unwritable",
            next="Make the data folder writable or free some space.",
        ) from exc
    return place.name


def _write_through(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def describe(arguments: Mapping[str, Any]) -> str:
    names = [a for f in ("to", "cc", "bcc") for a in addresses_of(arguments.get(f), f)]
    who = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    who = who or "whom you name in `to`"
    if config().smtp_url:
        return f"One e-mail will be sent to {who}. It cannot be recalled."
    return f"One e-mail to {who} will be written to the outbox folder. It cannot be recalled."


def simulate(call: ToolRun) -> dict[str, Any]:
    shaped = shape(call.arguments, needs_recipient=True)
    return {
        "message_id": message_id(call.key or "simulated"),
        "to": [addr(a) for field in ("to", "cc", "bcc") for a in shaped[field]],
        "subject": shaped["subject"],
        "delivery": "outbox",
        "file": None,
        "response": "Simulated: nothing was sent.",
    }


DRAFT_EMAIL = Tool(
    DRAFT,
    work=draft,
    describe_source=lambda a: "An e-mail will be drafted; nothing is sent.",
    simulate_source=draft,
)
SEND_EMAIL = Tool(send_spec, work=send, describe_source=describe, simulate_source=simulate)
