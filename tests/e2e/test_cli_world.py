"""The commands as an administrator types them, against a real host behind a real sshd."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support.waiting import until
from tests.support.world import World

pytestmark = pytest.mark.skipif(
    not shutil.which("sshd", path="/usr/sbin:" + os.environ["PATH"]) or not shutil.which("rsync"),
    reason="needs sshd and rsync",
)

HOSTILE = "x\x1b[2J\n[bold]"


@pytest.fixture
def world():
    # Sockets allow 107 bytes of path: pytest's own directories are too long.
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as folder:
        world = World(Path(folder))
        try:
            world.make_host()
            (world.site / "index.html").write_text("hello\nworld\n")
            (world.site / "sub").mkdir()
            (world.site / "sub" / HOSTILE).write_text("\x1b[31mred\n")
            world.start_host()
            world.make_collector('modules = { include = ["site"] }')
            yield world
        finally:
            world.close()


def test_from_nothing_to_a_restored_file(world):
    world.make_trust()
    pulled = world.ask("pull", "web1")["pulls"]
    assert [(each["module"], each["outcome"], each["error"]) for each in pulled] == [("site", "complete", None)]

    (world.site / "index.html").write_text("hello\nmoon\n")
    assert "1 modified" in world.run("pull", "web1/site")
    assert "unchanged" in world.run("pull", "web1")

    snapshots = world.ask("snapshots", "web1/site")["snapshots"]
    assert [each["sequence"] for each in snapshots] == [1, 2]
    assert {each["state"] for each in snapshots} == {"complete"}

    listed = world.run("ls", "web1/site")
    assert listed.startswith(f"{world.site}\n")
    assert re.search(r"12 B|11 B", listed)
    assert re.search(r"index\.html$", listed, re.MULTILINE)
    everything = world.run("ls", "web1/site", "--recursive")
    assert "\x1b" not in everything
    assert "x\\x1b[2J\\n[bold]" in everything

    page = str(world.site / "index.html")
    assert world.run("cat", "web1/site@1", page) == "hello\nworld\n"
    shown = world.run("diff", "web1/site@1", "web1/site@latest")
    assert "    -world\n    +moon\n" in shown
    assert "no differences" in world.run("diff", "web1/site@1", "web1/site@1", page)
    world.run("diff", "web1/site@1", "web1/site@2", "/nowhere", codes=(4,))

    world.run("restore", "web1/site@1", page, "--to", "out")
    assert (world.folder / "out" / page.lstrip("/")).read_text() == "hello\nworld\n"

    world.run("catalog", "rebuild")
    assert world.problems() == []
    modules = world.ask("modules", "web1")["modules"]
    assert [module["snapshots"] for module in modules if module["module"] == "site"] == [2]


def test_each_refusal_on_the_way_to_trust_says_the_command_that_helps(world):
    unknown = world.command("host", "test", "web1")
    assert unknown.returncode == 5
    assert "is not known" in unknown.stderr
    assert "pyrsyncbackup host trust web1" in unknown.stderr

    asked = world.command("host", "trust", "web1")
    assert asked.returncode == 5
    helps = re.search(r"then run: (pyrsyncbackup host trust web1 --ssh-fingerprint \S+)", asked.stderr)
    assert helps, asked.stderr
    wrong = world.command("host", "trust", "web1", "--ssh-fingerprint", "SHA256:" + "A" * 43)
    assert wrong.returncode == 5
    assert "not SHA256:AAAA" in wrong.stderr

    world.sshd.authorize(world.collector / "ssh" / "id_ed25519.pub")
    not_invited = world.command(*shlex.split(helps[1])[1:])
    assert not_invited.returncode == 5
    assert "pyrsyncbackup-agent accept" in not_invited.stderr

    world.make_trust()
    steps = world.ask("host", "test", "web1")["steps"]
    names = [step["step"] for step in steps]
    assert names == ["name", "tcp", "ssh host key", "ssh login", "agent", "protocol", "modules"]
    assert all(step["ok"] for step in steps)

    world.sshd.new_host_keys()
    world.sshd.restart()
    changed = world.command("pull", "web1")
    assert changed.returncode == 5
    assert "HAS CHANGED" in changed.stdout
    assert "--replace" in changed.stdout
    again = world.command("host", "trust", "web1", "--replace", "--ssh-fingerprint", world.sshd.fingerprint)
    assert again.returncode == 0, again.stderr


def test_after_new_keys_were_trusted_the_daemon_checks_at_once(world):
    world.make_trust()
    world.config.write_text(world.config.read_text() + '\n[[rule]]\ncheck = "1s"\n')
    world.start_daemon()
    until(lambda: world.ask("snapshots")["snapshots"], 60, "the daemon's first pull")
    world.sshd.new_host_keys()
    world.sshd.restart()
    # A connection that was cut comes again by itself, in half a minute.
    changed = "HAS CHANGED"
    (problem,) = until(
        lambda: [each for each in world.problems() if changed in each["cause"]], 180, "the daemon to meet the new key"
    )
    trusted = world.command("host", "trust", "web1", "--replace", "--ssh-fingerprint", world.sshd.fingerprint)
    assert trusted.returncode == 0, trusted.stderr
    assert "the daemon checks it now" in trusted.stderr
    until(lambda: not world.problems(), 60, "the daemon to check again")
    # By itself it would have come then.
    assert world.ask("status")["hosts"][0]["checked"] < problem["next_try"]


def test_a_dry_run_lists_and_changes_nothing(world):
    world.make_trust()
    plan = world.run("pull", "web1", "--dry-run")
    assert f"+ {world.site}/index.html  12 B" in plan
    assert world.ask("snapshots")["snapshots"] == []
    planned = world.ask("pull", "web1/site", "--dry-run")["plans"]
    assert [(each["name"], each["files"]) for each in planned] == [("web1/site", 2)]


def test_one_host_that_is_away_does_not_keep_the_others_from_being_pulled(world):
    world.make_trust()
    (world.collector / "hosts.d" / "gone.toml").write_text(
        '[[host]]\nname = "gone"\naddress = "127.0.0.1"\nssh = { port = 1 }\n'
    )
    done = world.command("pull", "*")
    assert done.returncode == 5
    assert "web1/site  complete" in done.stdout
    assert "127.0.0.1:1 refuses connections" in done.stdout

    told = world.problems()
    assert [(each["host"], each["state"]) for each in told] == [("gone", "unreachable")]
    assert told[0]["since"]
    words = world.run("status", codes=(14,))
    assert "\nunreachable gone since " in words


def test_with_a_daemon_the_command_asks_it_and_follows(world):
    world.make_trust()
    world.start_daemon()
    until(lambda: world.ask("snapshots")["snapshots"], what="the daemon's first pull")
    (world.site / "index.html").write_text("hello\nstars\n")
    pulled = world.ask("pull", "web1/site")["pulls"]
    assert [(each["outcome"], each["snapshot"][:6]) for each in pulled] == [("complete", "000002")]

    missing = world.command("pull", "web1/nothing")
    assert (missing.returncode, "left out by the host's definition" in missing.stderr) == (1, True)
    second = world.command("daemon")
    assert second.returncode == 10
    assert "error: " in second.stderr
    assert world.stop_daemon() == 0
    told = world.ask("status", codes=(14,))
    assert told["daemon"] is None
    assert [(each["host"], each["state"]) for each in told["problems"]] == [("daemon", "stopped")]
    assert told["problems"][0]["since"]


def test_buf_curl_works_with_the_line_that_tunnel_prints(world):
    world.make_trust()
    tunnel = subprocess.Popen(
        ["pyrsyncbackup", "host", "tunnel", "web1"], env=world.environment, stdout=subprocess.PIPE, text=True
    )
    assert tunnel.stdout is not None
    with tunnel.stdout:
        try:
            line = next(line for line in tunnel.stdout if line.startswith("buf ") and "GetInfo" in line)
            asked = subprocess.run(shlex.split(line), env=world.environment, capture_output=True, check=False)
            assert asked.returncode == 0, asked.stderr
            assert json.loads(asked.stdout)["name"] == "web1"
        finally:
            tunnel.send_signal(signal.SIGINT)
            assert tunnel.wait(60) == 0


def test_sigterm_ends_a_pull_in_order_and_the_next_one_goes_on(world):
    world.make_trust()
    for number in range(60):
        (world.site / f"large{number}").write_bytes(os.urandom(1 << 20))
    hosts = world.collector / "hosts.d" / f"{world.host}.toml"
    at_full_speed = hosts.read_text()
    hosts.write_text(at_full_speed.replace("agent_port =", 'bwlimit = "200K"\nagent_port ='))  # it takes five minutes
    pull = subprocess.Popen(
        ["pyrsyncbackup", "pull", "web1"],
        env=world.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        incoming = world.collector / "store" / "incoming"
        until(lambda: any(incoming.iterdir()) or pull.poll() is not None, what="the transfer")
    finally:
        pull.send_signal(signal.SIGTERM)
    _, errors = pull.communicate(timeout=60)
    assert pull.returncode == 130
    assert errors == "error: asked to stop by SIGTERM\n  next: run it again; what was transferred is kept\n"
    assert not list(incoming.iterdir())
    hosts.write_text(at_full_speed)
    assert "complete" in world.run("pull", "web1")


def test_check_tells_every_part_and_the_first_that_fails_decides(world):
    assert world.run("check").count(" ok  ") == 6
    (world.collector / "catalog.sqlite").write_bytes(b"this is no database")
    broken = world.command("check")
    assert broken.returncode == 11
    assert "catalog rebuild" in broken.stderr
    world.run("catalog", "rebuild")
    world.run("check")
