"""What an administrator reads when a host cannot be reached or trusted: cause and next step; the others go on."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pyrsyncbackup import identity

from tests.support import sshd
from tests.support.agent import RunningAgent
from tests.support.collector import NEVER_BY_ITSELF, RunningCollector
from tests.support.commands import Said, say

MODULES = 'modules = { include = ["data", "broken", "away"] }'


class Scene:
    """A host `good` and a host `bad` behind one sshd and agent; `bad` is what the faults change."""

    def __init__(self, base: Path, stack: ExitStack) -> None:
        self.base = base
        self.data = base / "data"
        self.data.mkdir()
        (self.data / "file").write_text("content\n")
        self.sshd = stack.enter_context(sshd.running(base / "sshd"))
        self.agent = RunningAgent(base / "agent")
        self.agent.module("data", self.data)
        self.agent.module("away", "/nonexistent/place")
        (self.agent.modules_dir / "broken.toml").write_text("title = [\n")
        stack.enter_context(self.agent)
        self.collector = RunningCollector(base / "c", NEVER_BY_ITSELF)
        stack.callback(self.collector.stop, signal.SIGKILL)
        self.collector.host("good", self.agent, MODULES)
        self.known_hosts = self.collector.base / "known_hosts"
        self.pin = self.collector.base / "pins" / "bad.pem"
        self.mend()

    def mend(self) -> None:
        """All is well again."""
        self.define()
        self.known_hosts.write_text(self.sshd.known_hosts_line())
        self.trusted(self.agent.certificate_pem)
        self.agent.trust("collector", self.collector.identity.certificate_pem)

    def define(self, **changes: object) -> None:
        """The definition of `bad`, with changes."""
        server = self.sshd
        values = {"address": "127.0.0.1", "user": server.user, "port": server.port, "key": server.user_key}
        values = values | {"agent_port": self.agent.port} | changes
        (self.collector.base / "hosts.d" / "bad.toml").write_text(
            '[[host]]\nname = "bad"\naddress = "{address}"\nagent_port = {agent_port}\n'
            'ssh = {{ user = "{user}", port = {port}, key = "{key}" }}\n'.format(**values)
            + MODULES
            + "\n"
        )

    def trusted(self, certificate: bytes) -> None:
        identity.write_atomically(self.pin, certificate, 0o600)

    def say(self, *arguments: str) -> Said:
        return say(self.collector.file, *arguments)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(tmp_path_factory.mktemp("s"), stack)


def wrong_key(scene: Scene) -> None:
    other = scene.base / "other"
    sshd.make_key(other)
    scene.define(key=other)


def changed_host_key(scene: Scene) -> None:
    line = scene.known_hosts.read_text()
    other = scene.base / "reinstalled"
    sshd.make_key(other)
    kind, key, _ = Path(f"{other}.pub").read_text().split()
    scene.known_hosts.write_text(f"{line.split()[0]} {kind} {key}\n")


def changed_agent_key(scene: Scene) -> None:
    scene.trusted(identity.load_or_create(scene.base / "former", "agent").certificate_pem)


FAULTS: dict[str, tuple[Callable[[Scene], object], str, str]] = {
    "port closed": (
        lambda scene: scene.define(port=1),
        r"bad: 127\.0\.0\.1:1 refuses connections",
        r"is the SSH server running there, on that port\?",
    ),
    "no such name": (
        lambda scene: scene.define(address="no-such-host.invalid"),
        "bad: the name no-such-host.invalid cannot be resolved: .*",
        "correct `address`, or DNS",
    ),
    "wrong user": (
        lambda scene: scene.define(user="nosuchuser"),
        "bad: the SSH server refuses user nosuchuser with the key .*/user_key",
        "add the key that `pyrsyncbackup invitation` prints to that user's authorized_keys",
    ),
    "wrong key": (
        wrong_key,
        "bad: the SSH server refuses user .* with the key .*/other",
        "add the key that `pyrsyncbackup invitation` prints to that user's authorized_keys",
    ),
    "no key": (
        lambda scene: scene.define(key=scene.base / "none"),
        "bad: the SSH key .*/none does not exist",
        "correct `key` in the host's `ssh`; without one the collector's own is used",
    ),
    "agent's port closed": (
        lambda scene: scene.define(agent_port=1),
        "bad: the agent's port 1 does not answer behind SSH: .*",
        r"is pyrsyncbackup-agent running there, on that port\?",
    ),
    "changed SSH host key": (
        changed_host_key,
        r"bad: THE SSH HOST KEY OF \[127\.0\.0\.1\]:[0-9]+ HAS CHANGED: DIR/known_hosts has ssh-ed25519 SHA256:.*, "
        "the server now shows ssh-ed25519 SHA256:.*",
        "somebody may be listening; if it was set up anew: `pyrsyncbackup host trust bad --replace`",
    ),
    "unknown SSH host key": (
        lambda scene: scene.known_hosts.write_text(""),
        r"bad: the SSH host key of \[127\.0\.0\.1\]:[0-9]+ is not known: ssh-ed25519 SHA256:.*",
        "compare it with `ssh-keygen -lf` on the host, then run `pyrsyncbackup host trust bad`",
    ),
    "changed agent key": (
        changed_agent_key,
        "bad: THE AGENT'S KEY HAS CHANGED: pinned is SHA256:.*, it now shows SHA256:.*, the key of good",
        "the way leads to good: correct the address of bad, here or in the agent.toml of its relay",
    ),
    "unknown agent key": (
        lambda scene: scene.pin.unlink(),
        "bad: the agent's key SHA256:.* is not trusted yet: it did not prove to hold an invitation of ours",
        "compare it with `pyrsyncbackup-agent identity` on the host, "
        "then run `pyrsyncbackup host trust bad --fingerprint SHA256:.*`",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_and_the_next_step_are_told_recorded_and_others_go_on(scene: Scene, name: str) -> None:
    fault, cause, hint = FAULTS[name]
    fault(scene)
    try:
        said = scene.say("pull", "bad/data", "good/data")
        assert said.code == 5
        assert said.err == ""
        assert re.search(rf"(?m)^bad +failed *\n  {cause}\n  next: {hint}$", said.out), said.out
        assert re.search(r"(?m)^good/data +(complete|unchanged) ", said.out), said.out
        status = scene.say("status", "--json")
        assert status.code == 14
        (problem,) = (one for one in status.answer["problems"] if one["host"] == "bad")
        assert problem["module"] is None
        assert re.fullmatch(cause, problem["cause"])
        assert problem["since"]
    finally:
        scene.mend()


def test_modules_that_are_broken_absent_or_unknown_are_told_and_the_others_go_on(scene: Scene) -> None:
    said = scene.say("pull", "good/broken", "good/away", "good/data")
    assert said.code == 6
    assert "good/broken  failed" in said.out
    assert re.search(r"(?m)^  good/broken is invalid: /.*/broken\.toml: not TOML: Invalid value .*$", said.out)
    assert "  next: correct its definition on the host\n" in said.out
    assert "  good/away is absent: /nonexistent/place does not exist\n" in said.out
    assert re.search(r"(?m)^good/data +(complete|unchanged) ", said.out), said.out
    listed = scene.say("modules", "good", "--all", "--json").answer["modules"]
    states = {one["module"]: (one["state"], one["reason"]) for one in listed}
    assert states["broken"][0] == "invalid"
    assert "not TOML" in states["broken"][1]
    assert states["away"] == ("absent", "/nonexistent/place does not exist")
    assert states["data"][0] == "ready"
    scene.collector.host("good", scene.agent)
    # What else it has is this machine's.
    for typo, hint in (("nothing", "it has "), ("datta", "did you mean data")):
        said = scene.say("pull", f"good/{typo}")
        assert said.code == 4
        assert f"good has no module {typo}\n  next: {hint}" in said.out
    scene.collector.host("good", scene.agent, MODULES)


def test_the_daemon_records_what_refuses_and_pulls_the_others(scene: Scene) -> None:
    own = RunningAgent(scene.base / "second")
    own.module("data", scene.data)
    with own:
        scene.collector.host("good", own, MODULES)
        scene.agent.distrust()
        with scene.collector.start():
            said = scene.say("pull", "bad/data", "good/data")
            assert said.code == 5
            assert re.search(
                r"bad: the agent \(SHA256:.*\) does not trust this collector\n"
                "  next: on the host, run `pyrsyncbackup-agent accept` with the output of `pyrsyncbackup invitation`",
                said.out,
            ), said.out
            assert re.search(r"(?m)^good/data +(complete|unchanged) ", said.out), said.out
            status = scene.say("status")
            assert status.code == 14
            assert "does not trust this collector" in status.out
            scene.agent.trust("collector", scene.collector.identity.certificate_pem)
            assert scene.say("pull", "bad/data").code == 0
            assert scene.collector.stop() == 0
        assert "Traceback" not in scene.collector.log
