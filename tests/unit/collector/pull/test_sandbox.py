"""The sandboxes hold with a real rsync and a real attempt to break out."""

import subprocess
from pathlib import Path

import pytest
from pyrsyncbackup_collector.errors import SandboxUnavailable
from pyrsyncbackup_collector.pull import sandbox as sandbox_module
from pyrsyncbackup_collector.pull.rsync_command import python
from pyrsyncbackup_collector.pull.sandbox import Bubblewrap, Landlock, Limits, Sandbox, Unconfined, choose

from tests.support.sandboxes import need


@pytest.fixture(params=[Bubblewrap(), Landlock()], ids=lambda sandbox: sandbox.kind)
def sandbox(request) -> Sandbox:
    need(request.param)
    return request.param


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    directory = tmp_path / "incoming"
    directory.mkdir(mode=0o700)
    return directory


def run(sandbox: Sandbox, incoming: Path, code: str, limits: Limits | None = None) -> subprocess.CompletedProcess[str]:
    argv = sandbox.wrap([python(), "-IS", "-c", code], incoming, limits or Limits(file_size=1 << 20))
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)


def test_it_can_write_into_its_directory(sandbox, incoming):
    done = run(sandbox, incoming, f"open({str(incoming / 'x')!r}, 'w').write('hello')")
    assert (done.returncode, (incoming / "x").read_text()) == (0, "hello")


def test_it_cannot_write_beside_its_directory(sandbox, incoming):
    run(sandbox, incoming, f"open({str(incoming.parent / 'x')!r}, 'w').write('hello')")
    assert not (incoming.parent / "x").exists()


def test_it_cannot_read_what_is_the_collectors(sandbox, incoming):
    secret = incoming.parent / "key.pem"
    secret.write_text("secret")
    done = run(sandbox, incoming, f"print(open({str(secret)!r}).read())")
    assert done.returncode != 0
    assert "secret" not in done.stdout


def test_it_reaches_no_listener_of_this_machine(sandbox, incoming):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = run(sandbox, incoming, f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)")
    assert done.returncode != 0


def test_no_memory_can_be_filled_as_files(sandbox, incoming):
    code = "import os\nfor d in '/', '/dev', '/dev/shm':\n try: open(d + '/x', 'w'); os.unlink(d + '/x'); print(d)\n"
    done = run(sandbox, incoming, code + " except OSError: pass")
    assert (done.returncode, done.stdout) == (0, "")


def test_it_has_no_rights_in_namespaces_of_its_own(incoming):
    need(Bubblewrap())
    code = f"import ctypes; raise SystemExit(-ctypes.CDLL(None).mount(b'x', {bytes(incoming)!r}, b'tmpfs', 0, None))"
    assert run(Bubblewrap(), incoming, code).returncode == 1


def test_a_file_cannot_grow_past_its_limit(sandbox, incoming):
    code = f"open({str(incoming / 'x')!r}, 'wb').write(b'x' * 5000)"
    run(sandbox, incoming, code, Limits(file_size=4096))
    assert (incoming / "x").stat().st_size == 4096


def test_without_any_sandbox_pulling_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setattr(sandbox_module, "_try", lambda sandbox, rsync: "not here")
    with pytest.raises(SandboxUnavailable) as caught:
        choose("require")
    assert caught.value.cause == ("rsync cannot be run in a sandbox here: bubblewrap: not here; landlock: not here")
    assert caught.value.hint.startswith("install bubblewrap")


def test_off_is_a_choice_that_must_be_written():
    assert isinstance(choose("off"), Unconfined)


def test_the_first_that_works_is_taken(monkeypatch):
    monkeypatch.setattr(sandbox_module, "_try", lambda sandbox, rsync: "no" if sandbox.kind == "bubblewrap" else None)
    assert choose("require").kind == "landlock"
