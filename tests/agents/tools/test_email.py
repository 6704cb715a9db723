from __future__ import annotations

import email
import email.policy
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.agents.tools.base import AmbiguousOutcome, DefiniteFailure, EffectClass, StepError
from apps.agents.tools.email import DRAFT_EMAIL, SEND_EMAIL, addresses_of
from mirrorneuron.config import config
from tests.agents.tools.conftest import make_call

MAIL = {"to": "ann@quay.example", "subject": "Pilot numbers", "body": "Dear Ann,\n\nall went well.\n"}


def send(key: str = "a1b2c3", seconds: float = 10.0, **changes: Any) -> dict[str, Any]:
    return SEND_EMAIL.run(make_call({**MAIL, **changes}, key=key, seconds=seconds))


def read(path: Path) -> email.message.EmailMessage:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage)
    return message


class TestOutbox:
    def test_a_message_becomes_one_file_named_by_its_key(self, data_folder: Path) -> None:
        result = send()
        (path,) = (data_folder / "outbox").iterdir()
        message = read(path)
        assert (path.name, result["file"], result["delivery"]) == ("a1b2c3.eml", "a1b2c3.eml", "outbox")
        assert (message["To"], message["Subject"]) == ("ann@quay.example", "Pilot numbers")
        assert message.get_content() == "Dear Ann,\n\nall went well.\n"
        assert message["Message-ID"] == result["message_id"] == "<a1b2c3@mirrorneuron.invalid>"

    def test_the_same_key_again_changes_nothing(self, data_folder: Path) -> None:
        first = send()
        before = (data_folder / "outbox/a1b2c3.eml").read_bytes()
        assert send() == first
        assert (data_folder / "outbox/a1b2c3.eml").read_bytes() == before
        assert len(list((data_folder / "outbox").iterdir())) == 1

    def test_two_keys_are_two_messages(self, data_folder: Path) -> None:
        send("k1")
        send("k2")
        assert len(list((data_folder / "outbox").glob("*.eml"))) == 2

    def test_a_key_is_never_a_path(self, data_folder: Path) -> None:
        send("../../etc/passwd")
        send("a\n")
        assert len(list((data_folder / "outbox").glob("*.eml"))) == 2

    def test_a_dead_process_leaves_no_half_message(
        self, data_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(DefiniteFailure, match="No space left"):
            send()
        assert list((data_folder / "outbox").iterdir()) == []

    def test_letters_of_the_world_arrive(self, data_folder: Path) -> None:
        send(to="Jürgen Groß <j@grün.example>", subject="Grüße an 客户 🚢", body="Öl – 5 €\n.\n..dots")
        message = read(data_folder / "outbox/a1b2c3.eml")
        assert (message["To"], message["Subject"]) == (
            "Jürgen Groß <j@xn--grn-ioa.example>",
            "Grüße an 客户 🚢",
        )
        assert message.get_content() == "Öl – 5 €\n.\n..dots\n"

    def test_a_person_can_read_the_file(self, data_folder: Path) -> None:
        send(body="Öl für den Kai: " + "ein langer Satz " * 20)
        assert "Öl für den Kai: " + "ein langer Satz " * 20 in (data_folder / "outbox/a1b2c3.eml").read_text()

    def test_hidden_recipients_are_named_in_the_file(self, data_folder: Path) -> None:
        result = send(bcc=["boss@quay.example"], cc="bob@quay.example")
        message = read(data_folder / "outbox/a1b2c3.eml")
        assert (message["Cc"], message["Bcc"]) == ("bob@quay.example", None)
        assert result["to"] == ["ann@quay.example", "bob@quay.example", "boss@quay.example"]


class TestAddressesAndHeaders:
    @pytest.mark.parametrize(
        "to",
        [
            "", "ann", "ann@", "@quay.example", "ann@quay", "ann@@quay.example", "ann@quay..example",
            "a b@quay.example", "eve@evil.example (ann@quay.example)", "ann@quay.example)eve@evil.example",
            "ann@-quay.example", ".ann@quay.example", "ann@quay.example\nBcc: eve@evil.example",
            "ann@quay.example, nonsense", ["ann@quay.example", "x"], "ann@[127.0.0.1]",
            "ann@quay.example\u2028x",
            '"a\r\nb"@quay.example', "ånn@quay.example", "Ann <ann@quay.example", [], "ann@quay.example\n",
        ],
    )  # fmt: skip
    def test_what_is_no_address_is_refused(self, to: Any, data_folder: Path) -> None:
        with pytest.raises(StepError) as caught:
            send(to=to)
        assert (caught.value.permanent, caught.value.fields.keys()) == (True, {"to"})
        assert not (data_folder / "outbox").exists() or not list((data_folder / "outbox").iterdir())

    def test_several_addresses_in_one_text(self) -> None:
        found = addresses_of('Ann <ann@quay.example>, bob@quay.example, "Fenn, T." <t@quay.example>', "to")
        assert found == ["Ann <ann@quay.example>", "bob@quay.example", '"Fenn, T." <t@quay.example>']

    def test_too_many_recipients(self) -> None:
        with pytest.raises(StepError, match="more than 50"):
            send(to=[f"a{i}@quay.example" for i in range(40)], cc=[f"b{i}@quay.example" for i in range(20)])

    @given(
        field=st.sampled_from(["to", "subject", "cc", "bcc", "reply_to"]),
        before=st.text(max_size=20),
        mark=st.sampled_from(
            ["\r", "\n", "\r\n", "\x00", "\x0b", "\x0c", "\x1e", "\x85", "\u2028", "\u2029"]
        ),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
    def test_no_header_can_be_injected(self, field: str, before: str, mark: str) -> None:
        with pytest.raises(StepError):
            send(**{field: f"{before}{mark}Bcc: eve@evil.example"})

    @given(
        subject=st.text(min_size=1, max_size=300),
        body=st.text(min_size=1, max_size=500),
        name=st.text(max_size=30),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
    def test_a_message_has_exactly_its_own_headers(
        self, data_folder: Path, subject: str, body: str, name: str
    ) -> None:
        for path in (data_folder / "outbox").glob("*"):
            path.unlink()
        quoted = name.replace("\\", "").replace('"', "")
        try:
            send(subject=subject, body=body, to=f'"{quoted}" <ann@quay.example>')
        except StepError as exc:
            assert exc.permanent
            return
        message = read(data_folder / "outbox/a1b2c3.eml")
        assert sorted(k.lower() for k in message) == sorted(
            [
                "from",
                "to",
                "subject",
                "date",
                "message-id",
                "mime-version",
                "content-type",
                "content-transfer-encoding",
            ]
        )
        assert [a.addr_spec for a in message["To"].addresses] == ["ann@quay.example"]


class TestDraft:
    def test_shapes_and_sends_nothing(self, data_folder: Path) -> None:
        found = DRAFT_EMAIL.run(make_call({**MAIL, "body": "Dear [Name],\r\nhello"}))
        assert (found["to"], found["body"]) == (["ann@quay.example"], "Dear [Name],\nhello")
        assert found["notes"] == ["The body still holds the blank [Name]."]
        assert not (data_folder / "outbox").exists()
        assert DRAFT_EMAIL.spec.effect is EffectClass.READ

    def test_a_recipient_may_come_later(self) -> None:
        found = DRAFT_EMAIL.run(make_call({"subject": "s", "body": "b"}))
        assert found["notes"] == ["There is no recipient yet."]


def test_effect_class_and_words_follow_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SEND_EMAIL.spec.effect is EffectClass.IDEMPOTENT
    assert SEND_EMAIL.describe(MAIL) == (
        "One e-mail to ann@quay.example will be written to the outbox folder. It cannot be recalled."
    )
    monkeypatch.setattr(config(), "smtp_url", "smtp://mail.example")
    assert SEND_EMAIL.spec.effect is EffectClass.OPAQUE
    assert SEND_EMAIL.describe(MAIL) == "One e-mail will be sent to ann@quay.example. It cannot be recalled."


def test_simulation_leaves_the_outbox_alone(data_folder: Path) -> None:
    found = SEND_EMAIL.simulate(make_call(MAIL, key=""))
    assert "Simulated" in found["response"]
    assert not (data_folder / "outbox").exists()


class Sink:
    """A mail server on the loopback that answers as it is told; `replies[verb]` overrides one answer."""

    def __init__(self) -> None:
        self.replies: dict[str, str] = {}
        self.commands: list[str] = []
        self.messages: list[bytes] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.loop, daemon=True).start()

    def loop(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rwb") as stream:

            def say(verb: str, usual: str) -> bool:
                reply = self.replies.get(verb, usual)
                if reply == "drop":
                    return False
                if reply.startswith("hang"):
                    time.sleep(float(reply.partition(":")[2] or 3))
                    return False
                stream.write(reply.encode() + b"\r\n")
                stream.flush()
                return True

            if not say("CONNECT", "220 sink"):
                return
            while line := stream.readline():
                verb = line.decode().split()[0].upper()
                self.commands.append(line.decode().strip())
                if verb == "QUIT":
                    say("QUIT", "221 bye")
                    return
                if verb == "DATA":
                    if not say("DATA", "354 go on"):
                        return
                    if not self.replies.get("DATA", "354").startswith("354"):
                        continue
                    content = b""
                    while (part := stream.readline()) != b".\r\n":
                        if not part:
                            return
                        content += part[1:] if part.startswith(b"..") else part
                    self.messages.append(content)
                    if not say("END", "250 2.0.0 kept as 17"):
                        return
                elif not say(verb, {"EHLO": "250-sink\r\n250 SIZE 1000000"}.get(verb, "250 ok")):
                    return


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    made = Sink()
    monkeypatch.setattr(config(), "smtp_url", f"smtp://127.0.0.1:{made.port}")
    yield made
    made.listener.close()


class TestSmtp:
    def test_delivers_once_to_everybody(self, sink: Sink) -> None:
        result = send(cc="bob@quay.example", bcc="boss@quay.example", body="one\n.\n..two\n")
        (data,) = sink.messages
        message = email.message_from_bytes(data, policy=email.policy.default)
        assert [c for c in sink.commands if c.startswith("rcpt")] == [
            f"rcpt TO:<{who}@quay.example>" for who in ("ann", "bob", "boss")
        ]
        assert (result["delivery"], result["response"]) == ("smtp", "250 2.0.0 kept as 17")
        assert message["Message-ID"] == "<a1b2c3@mirrorneuron.invalid>"
        assert b"boss@" not in data
        assert message.get_content().replace("\r\n", "\n") == "one\n.\n..two\n"

    @pytest.mark.parametrize(
        ("verb", "reply", "permanent"),
        [
            ("CONNECT", "554 go away", True), ("CONNECT", "421 busy", False), ("CONNECT", "drop", False),
            ("MAIL", "550 no", True), ("RCPT", "550 unknown user", True), ("RCPT", "450 greylisted", False),
            ("RCPT", "drop", False), ("DATA", "554 no", True), ("DATA", "451 later", False),
            ("DATA", "drop", False),
            ("END", "554 5.7.1 spam", True),
        ],
    )  # fmt: skip
    def test_until_the_message_is_taken_a_failure_is_definite(
        self, sink: Sink, verb: str, reply: str, permanent: bool
    ) -> None:
        sink.replies[verb] = reply
        with pytest.raises(DefiniteFailure) as caught:
            send()
        assert caught.value.permanent is permanent

    def test_one_refused_recipient_stops_the_message(self, sink: Sink) -> None:
        sink.replies["RCPT"] = "550 unknown user"
        with pytest.raises(DefiniteFailure, match=r"ann@quay\.example.*unknown user"):
            send(cc="bob@quay.example")
        assert sink.messages == []

    @pytest.mark.parametrize("reply", ["drop", "hang", "451 try later"])
    def test_after_the_message_left_nobody_knows(self, sink: Sink, reply: str) -> None:
        sink.replies["END"] = reply
        began = time.monotonic()
        with pytest.raises(AmbiguousOutcome):
            send(seconds=0.5)
        assert time.monotonic() - began < 2
        assert len(sink.messages) == 1

    @pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "RCPT"])
    def test_silence_before_is_definite_and_ends_in_time(self, sink: Sink, verb: str) -> None:
        sink.replies[verb] = "hang"
        began = time.monotonic()
        with pytest.raises(DefiniteFailure):
            send(seconds=0.5)
        assert time.monotonic() - began < 2.5

    def test_a_lost_goodbye_does_not_matter(self, sink: Sink) -> None:
        sink.replies["QUIT"] = "drop"
        assert send()["response"].startswith("250")

    def test_nobody_listening_is_definite(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        monkeypatch.setattr(config(), "smtp_url", f"smtp://127.0.0.1:{port}")
        with pytest.raises(DefiniteFailure, match="No connection"):
            send()

    def test_a_refused_login_is_definite_and_keeps_the_password(
        self, sink: Sink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(config(), "smtp_url", f"smtp://me:pass-word-1@127.0.0.1:{sink.port}")
        sink.replies |= {"EHLO": "250-sink\r\n250 AUTH PLAIN", "AUTH": "535 no"}
        with pytest.raises(DefiniteFailure) as caught:
            send()
        assert caught.value.permanent
        assert "pass-word-1" not in str(caught.value.as_json())

    def test_a_password_is_not_sent_unencrypted(self, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            "socket.getaddrinfo",
            lambda *a, **k: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", sink.port))],
        )
        monkeypatch.setattr(config(), "smtp_url", f"smtp://me:pass-word-1@mail.example:{sink.port}")
        with pytest.raises(DefiniteFailure, match="no encryption"):
            send()
        assert not any("AUTH" in c.upper() for c in sink.commands)
