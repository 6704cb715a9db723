"""A PostgreSQL server of the tests' own, which they may restart, crash, copy and promote.

It is made by `initdb` in a temporary folder and runs as the user `postgres` when the tests run as root, since
PostgreSQL refuses root. `missing()` says in words why there can be none.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests.fake_remote import closed_port


def binaries() -> Path | None:
    """The newest installed version's folder with `initdb`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).parent if on_path else None


def missing() -> str:
    """Why no throw-away server can be made here; empty when one can."""
    if binaries() is None:
        return "PostgreSQL's server programs (initdb, postgres) are not installed"
    if os.getuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "the tests run as root and there is no user postgres to run a server as"
    return ""


class Cluster:
    """One server with its data folder; `start`, `stop`, `restart`, `standby`."""

    def __init__(self, folder: Path | None = None, *, port: int = 0, **settings: str) -> None:
        path = binaries()
        assert path is not None, missing()
        self._bin = path
        self.port = port or closed_port()
        # Not below pytest's folder, which only its owner may enter.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="mn-pg-"))
        self.data = self.folder / "data"
        self.log = self.folder / "server.log"
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        self.settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "max_connections": "100",
            "shared_buffers": "32MB",
            **settings,
        }

    @classmethod
    def create(cls, **settings: str) -> Cluster:
        cluster = cls(**settings)
        cluster._run("initdb", "-D", str(cluster.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N")
        cluster.start()
        return cluster

    def url(self, database: str = "postgres", port: int = 0) -> str:
        return f"postgres://postgres@127.0.0.1:{port or self.port}/{database}"

    def start(self, wait: bool = True) -> None:
        options = " ".join(f"-c {k}='{v}'" for k, v in {**self.settings, "port": str(self.port)}.items())
        for attempt in range(20):
            done = self._run(
                "pg_ctl", "-D", str(self.data), "-l", str(self.log), "-o", options,
                "-w" if wait else "-W", "-t", "60", "start", check=False,
            )  # fmt: skip
            if done.returncode == 0:
                return
            time.sleep(0.1 * (attempt + 1))
        raise AssertionError(f"PostgreSQL does not start:\n{self.log.read_text()[-3000:]}")

    def stop(self, mode: str = "fast") -> None:
        """`smart`, `fast`, or `immediate`: no checkpoint, as after a crash."""
        self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "-t", "60", "stop", check=False)

    def restart(self, mode: str = "immediate") -> None:
        self.stop(mode)
        self.start()

    def standby(self, name: str) -> Cluster:
        """A copy that follows this server; `name` is what synchronous_standby_names calls it."""
        copy = Cluster(**{k: v for k, v in self.settings.items() if k in ("max_connections",)})
        copy._run(
            "pg_basebackup", "-d", f"{self.url()}?application_name={name}", "-D", str(copy.data),
            "-R", "-X", "stream", "-c", "fast",
        )  # fmt: skip
        copy.start()
        return copy

    def promote(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def sql(self, text: str, database: str = "postgres") -> list[tuple]:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(text)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []

    def remove(self) -> None:
        with contextlib.suppress(Exception):
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(self._bin / program), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        # A server keeps what it inherits open, so it gets files and no pipe that somebody waits on.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", text=True
            )
            output.seek(0)
            said = output.read()
        assert not check or done.returncode == 0, f"{' '.join(command)} failed:\n{said}"
        return done
