"""Whatever a host says or names things, it does not paint, retitle or turn round the terminal of who looks at it."""

from __future__ import annotations

import io
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup_collector import cli

from tests.support.hostile_agent import TOP, HostileAgent, directory, file
from tests.support.plain_agent import serving

# Escapes of two kinds, markup of rich, a link of markup, an emoji's name, line ends, C1 controls, writing direction.
EVIL = (
    "\x1b[2J\x1b]0;owned\x07\x1b]8;;http://evil\x1b\\[bold red]x[/bold red][/][link=http://evil]y[/link]:smile:"
    "\r\n\x9b31m\x90\u202eesrever\u2066\u200b\u2028\ttab\x7f\x00"
)
NAME = EVIL.replace("\x00", "").replace("/", "|").encode()


class Terminal(io.StringIO):
    """Where rich paints."""

    def isatty(self) -> bool:
        return True


def run(config: Path, *arguments: str, terminal: bool) -> tuple[int, str]:
    """Exit code and everything shown, on a terminal or in a pipe."""
    out, err = sys.stdout, sys.stderr
    stream = Terminal() if terminal else io.StringIO()
    sys.stdout = sys.stderr = stream
    try:
        code = cli.run(["--config", str(config), *arguments])
    finally:
        sys.stdout, sys.stderr = out, err
    return code, stream.getvalue()


def clean(shown: str, *, terminal: bool) -> None:
    """Nothing in it acts, but for what the program itself paints a terminal with."""
    if terminal:
        for evil in (
            "\x1b[2J",
            "\x1b]",
            "\x07",
            "\x9b",
            "\x90",
            "\u202e",
            "\u2066",
            "\u200b",
            "\u2028",
            "\x7f",
            "\x00",
        ):
            assert evil not in shown, repr(evil)
        assert "\U0001f604" not in shown
        assert "\x1b[1;31mx" not in shown
        return
    odd = {char for char in shown if unicodedata.category(char)[0] == "C" and char != "\n"}
    assert not odd - {"\t"}
    assert "\u2028" not in shown


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileAgent]:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NO_COLOR", raising=False)
    agent = HostileAgent(tmp_path / "evil", {NAME: EVIL.encode(), b"plain": b"plain\n"})
    agent.module.title = EVIL
    agent.module.reason = EVIL
    agent.module.excludes.append(EVIL)
    agent.module.hints.check = EVIL[:30]
    agent.module.roots[0].aliases.append(NAME)
    agent.modules += [
        pb.Module(name="broken", title=EVIL, state=pb.MODULE_STATE_INVALID, reason=EVIL),
        pb.Module(name="absent", title=EVIL, state=pb.MODULE_STATE_ABSENT, reason=EVIL),
        pb.Module(name=EVIL, title=EVIL, state=pb.MODULE_STATE_READY),
    ]
    agent.last_words = EVIL
    agent.info = dict.fromkeys(("name", "version", "os", "kernel", "machine_id", "rsync_version"), EVIL)
    agent.bend = unreadable_too
    return agent


def unreadable_too(entries: list[pb.Entry]) -> list[pb.Entry]:
    error = pb.EntryError(kind=pb.ENTRY_ERROR_KIND_DENIED, message=EVIL)
    more = [
        pb.Entry(path=TOP + b"/link", type=pb.ENTRY_TYPE_SYMLINK, root=1, target=NAME, user=NAME, group=NAME),
        file(TOP + b"/" + NAME + b"2", b"", error=error, user=NAME, group=NAME, mtime_s=1 << 61),
        directory(TOP + b"/dir" + NAME, error=error, user=NAME, mtime_s=-(1 << 61)),
        file(TOP + b"/gone" + NAME, b"never there"),
    ]
    return sorted([*entries, *more], key=lambda entry: entry.path.replace(b"/", b"\0"))


@pytest.fixture
def show(tmp_path: Path, agent: HostileAgent) -> Iterator[Callable[..., int]]:
    config = tmp_path / "collector" / "collector.toml"
    run(config, "init", str(config.parent), terminal=False)
    text = config.read_text()
    runtime = next(line for line in text.splitlines() if line.startswith("# runtime = "))
    config.write_text(text.replace(runtime, 'runtime = "run"'))
    own = identity.load_or_create(config.parent / "identity", "collector")
    with serving(agent, [own.certificate_pem]):
        port = agent.address.rpartition(":")[2]
        (config.parent / "hosts.d" / "evil.toml").write_text(
            f'[[host]]\nname = "evil"\naddress = "127.0.0.1"\ntransport = "direct"\nagent_port = {port}\n'
        )

        def show(*arguments: str, codes: tuple[int, ...] = (0,)) -> str:
            everything = ""
            for terminal in (False, True):
                code, shown = run(config, *arguments, terminal=terminal)
                assert code in codes, f"{arguments}: {code}\n{shown}"
                assert "Traceback" not in shown
                clean(shown, terminal=terminal)
                everything += shown
            return everything

        show("host", "trust", "evil", "--fingerprint", identity.fingerprint(agent.identity.certificate_pem))
        yield show


def test_what_a_host_says_of_itself_and_its_modules_is_only_text(show):
    show("host", "test", "evil", codes=(0, 1, 6))
    show("pull", "evil", "--dry-run", codes=(0, 1, 6))
    show("pull", "evil", codes=(0, 1, 6, 13))
    for command in (["host", "list"], ["modules", "--all"], ["status"]):
        shown = show(*command, codes=(0, 14))
        assert "[bold red]" in shown or command[0] != "modules"
        show(*command, "--json", codes=(0, 14))


def test_names_contents_and_owners_in_a_snapshot_are_only_text(show, agent, tmp_path):
    show("pull", "evil/data", codes=(0, 13))
    agent.files[b"plain"] = EVIL.encode() + b"\nmore\n"
    agent.files[NAME] = EVIL.encode() * 2
    show("pull", "evil/data", codes=(0, 13))
    shown = show("ls", "evil/data", "--recursive")
    assert "[bold red]x" in shown
    show("ls", "evil/data", "--recursive", "--json")
    show("snapshots", "evil", "--json")
    show("snapshots")
    show("diff", "evil/data@1", "evil/data@latest", codes=(0, 4))
    show("diff", "evil/data@#1", "evil/data", codes=(0, 2, 4))
    show("ls", "evil/data", "/" + TOP.decode() + "/nothing" + EVIL.replace("\0", ""), codes=(4,))
    for number in range(2):
        target = tmp_path / f"restored-{number}"
        show("restore", "evil/data", "--to", str(target), codes=(0, 1, 12, 13))
        assert os.fsencode(os.listdir(target)[0]) == b"srv"
        shutil.rmtree(target)


@pytest.mark.parametrize("code", ["INTERNAL", "FAILED_PRECONDITION", "UNKNOWN", "PERMISSION_DENIED", "NOT_FOUND"])
def test_the_reason_of_a_failure_is_only_text(show, agent, code):
    status = getattr(grpc.StatusCode, code)
    agent.opening = lambda context: context.abort(status, "hook failed: " + EVIL.replace("\0", ""))
    show("pull", "evil/data", codes=(4, 5, 6, 7))
    show("pull", "evil/data", "--json", codes=(4, 5, 6, 7))
    show("status", codes=(14,))
    show("status", "--json", codes=(14,))


def test_what_the_hosts_rsync_says_is_only_text(show, agent):
    words = EVIL.encode()
    error = ((7 + 3) << 24 | len(words)).to_bytes(4, "little") + words

    def send(requests: Iterator[pb.TransferRequest]) -> Iterator[pb.TransferResponse]:
        yield pb.TransferResponse(data=b"@RSYNCD: 31.0 sha512 sha256 sha1 md5 md4\n@RSYNCD: OK\n\0seed" + error * 9)
        yield pb.TransferResponse(exit=pb.DaemonExit(code=11, messages=EVIL))

    agent.sender = send
    show("pull", "evil/data", codes=(7, 8))
    show("status", codes=(14,))
    agent.sender = lambda requests: iter(
        [
            pb.TransferResponse(data=b"@RSYNCD: 31.0 md5\n@ERROR: " + words + b"\n"),
            pb.TransferResponse(exit=pb.DaemonExit(code=5, messages=EVIL)),
        ]
    )
    show("pull", "evil/data", "--json", codes=(7, 8))
    show("status", "--json", codes=(14,))
