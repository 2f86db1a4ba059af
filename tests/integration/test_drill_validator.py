"""Validators in their sandbox: real programs on restored trees, and what a hostile host could name instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pyrsyncbackup_collector.drill import validator
from pyrsyncbackup_collector.drill.validator import FAILED, NOT_RUN, PASSED, TIMED_OUT, Validation, run
from pyrsyncbackup_collector.errors import Cancelled
from pyrsyncbackup_collector.pull.cancel import Cancel

from tests.support.anybody import let_through
from tests.support.orphans import naming
from tests.support.waiting import until

NGINX = ("nginx", "-t", "-c", "{root}/etc/nginx/nginx.conf")
DIRECTORIES = ("/run", "/var/lib/nginx", "/var/log/nginx")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An nginx that includes a file by its absolute path, listens on port 80, and runs as a user of its host."""
    nginx = tmp_path / "tree" / "etc" / "nginx"
    nginx.mkdir(parents=True)
    (nginx / "nginx.conf").write_text(
        "user www;\nevents {}\nhttp { access_log /var/log/nginx/a.log; include /etc/nginx/site.conf; }\n"
    )
    (nginx / "site.conf").write_text("server { listen 80; root /var/www; }\n")
    (tmp_path / "tree" / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/false\n")
    (tmp_path / "tree" / "etc" / "group").write_text("root:x:0:\nwww:x:33:\n")
    return tmp_path / "tree"


def try_out(tree: Path, *command: str, roots: tuple[bytes, ...] = (b"etc",), directories=()) -> Validation:
    return run(command, tree, roots, directories, Cancel())


def test_a_configuration_that_is_right_passes(tree: Path) -> None:
    found = try_out(tree, *NGINX, directories=DIRECTORIES)
    assert (found.outcome, found.lines[-1]) == (
        PASSED,
        "nginx: configuration file /restored/etc/nginx/nginx.conf test is successful",
    )


def test_one_that_is_wrong_fails_and_says_where(tree: Path) -> None:
    (tree / "etc" / "nginx" / "site.conf").write_text("server { listn 80; }\n")
    found = try_out(tree, *NGINX, directories=DIRECTORIES)
    assert found.outcome == FAILED
    assert any('unknown directive "listn" in /etc/nginx/site.conf:1' in line for line in found.lines)


def test_sshd_reads_the_keys_that_came_back(tmp_path: Path) -> None:
    ssh = tmp_path / "tree" / "etc" / "ssh"
    ssh.mkdir(parents=True)
    key = ssh / "ssh_host_ed25519_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (ssh / "sshd_config").write_text("HostKey /etc/ssh/ssh_host_ed25519_key\nUsePAM no\n")
    (tmp_path / "tree" / "etc" / "passwd").write_text("sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n")
    command = ("sshd", "-t", "-f", "{root}/etc/ssh/sshd_config")
    assert try_out(tmp_path / "tree", *command, directories=("/run/sshd",)).outcome == PASSED
    (ssh / "sshd_config").write_text("HostKey /etc/ssh/ssh_host_ed25519_key\nPermitRootLogin perhaps\n")
    found = try_out(tmp_path / "tree", *command, directories=("/run/sshd",))
    assert found.outcome == FAILED
    assert any("perhaps" in line for line in found.lines)


def shell(tree: Path, script: str, **more: object) -> Validation:
    return try_out(tree, "sh", "-c", script, **more)  # type: ignore[arg-type]


def test_it_sees_the_restored_files_and_no_file_of_this_machine(tree: Path) -> None:
    found = shell(tree, "cat /etc/passwd; ls -A / | tr '\\n' ' '; ls /restored; cat /proc/1/environ; ls /root /home")
    assert "www:x:33:33::/:/bin/false" in found.lines
    names = next(line.split() for line in found.lines if "restored" in line.split())
    assert {"root", "home", "srv", "opt", "boot", "mnt", "media", "work"}.isdisjoint(names)
    hidden = shell(tree, "cat /etc/shadow /etc/hostname", roots=())
    assert hidden.outcome == FAILED
    assert all("No such file" in line for line in hidden.lines)


def test_it_has_no_network_and_no_rights(tree: Path) -> None:
    found = shell(tree, "cat /proc/net/dev | tail -n +3 | cut -d: -f1; grep CapEff /proc/self/status; id -u")
    assert [line.split("\\t")[-1].strip() for line in found.lines] == ["lo", "0000000000000000", "1000"]


def test_it_cannot_write_to_what_was_restored(tree: Path) -> None:
    found = shell(tree, "echo x > /etc/passwd; echo x > /restored/new; touch /usr/x")
    assert found.outcome == FAILED
    assert len(found.lines) == 3
    assert not (tree / "new").exists()
    assert "www" in (tree / "etc" / "passwd").read_text()


def test_a_link_that_leads_out_of_the_tree_shows_nothing(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret of this machine")
    (tree / "etc" / "out").symlink_to(tmp_path / "secret")
    (tree / "srv").symlink_to(tmp_path)
    found = shell(tree, "cat /etc/out /restored/etc/out /srv/secret", roots=(b"etc", b"srv"))
    assert not any("a secret of this machine" in line for line in found.lines)


def test_roots_over_the_programs_of_the_system_are_left_out(tree: Path) -> None:
    (tree / "usr" / "bin").mkdir(parents=True)
    (tree / "usr" / "bin" / "id").write_text("#!/bin/sh\necho taken over\n")
    (tree / "usr" / "bin" / "id").chmod(0o755)
    found = shell(tree, "id -u", roots=(b"", b"usr", b"usr/bin", b"proc", b"restored", b"lib64"))
    assert (found.outcome, found.lines) == (PASSED, ("1000",))


def test_a_flood_of_words_is_cut_and_shown_without_its_tricks(tree: Path) -> None:
    found = shell(tree, "i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done; printf '\\033[2Jend\\n'")
    assert len(found.lines) == validator.LINES
    assert found.lines[-1] == "\\x1b[2Jend"


def test_one_that_does_not_end_is_ended(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validator, "SECONDS", 1.0)
    sleep = f"sleep 1000{os.getpid()}"  # nobody else's
    assert shell(tree, f"echo begun; {sleep} & {sleep}").outcome == TIMED_OUT
    until(lambda: naming(sleep) == {})


def test_processes_without_number_are_held(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validator, "SECONDS", 3.0)
    marker = f"marker{os.getpid()}"
    shell(tree, f"{marker}() {{ {marker} | {marker} & }}; {marker}; sleep 2")
    until(lambda: naming(marker) == {})


def test_memory_that_it_fills_is_small(tree: Path) -> None:
    found = shell(tree, "dd if=/dev/zero of=/run/x bs=1M count=100", directories=("/run",))
    assert found.outcome == FAILED
    assert any("No space left on device" in line for line in found.lines)


def test_nothing_else_that_it_can_write_to_is_in_memory(tree: Path) -> None:
    found = shell(tree, "for at in / /dev /dev/shm /etc /home /proc/sys; do touch $at/x && echo $at; done 2> /dev/null")
    assert found.lines == ("/dev/shm",)
    found = shell(tree, "dd if=/dev/zero of=/dev/shm/x bs=1M count=30")
    assert any("No space left on device" in line for line in found.lines)


@pytest.mark.parametrize("setting", ["kernel/core_pattern", "vm/compact_memory", "fs/file-max"])
def test_it_cannot_set_up_the_machine_of_a_collector_that_is_root(tree: Path, setting: str) -> None:
    assert shell(tree, f"test -w /proc/sys/{setting}").outcome == FAILED


def test_it_makes_no_namespaces_in_which_it_would_be_root(tree: Path) -> None:
    assert shell(tree, "echo begun; unshare --user --map-root-user true").outcome == FAILED


def test_it_is_the_first_to_go_when_memory_is_short(tree: Path) -> None:
    assert shell(tree, "cat /proc/self/oom_score_adj").lines == ("1000",)


@pytest.mark.parametrize("target", ["/oldroot{}", "../../oldroot{}", "{}"])
def test_a_link_makes_no_directory_outside(tree: Path, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tree / "etc" / "link").symlink_to(target.format(outside))
    found = shell(tree, "true", directories=("/etc/link/made", "/etc/link/made/more", "/run"))
    assert (found.outcome, list(outside.iterdir())) == (PASSED, [])


def test_a_directory_of_the_module_that_is_to_be_written_to_is_in_memory(tree: Path) -> None:
    (tree / "etc" / "nginx" / "cache").mkdir()
    directories = ("/etc/nginx/cache", "/etc/nginx/missing", "/etc/passwd/no")
    assert shell(tree, "touch /etc/nginx/cache/x", directories=directories).outcome == PASSED
    assert list((tree / "etc" / "nginx" / "cache").iterdir()) == []


def test_it_is_ended_when_stopping_is_asked_for(tree: Path) -> None:
    cancel = Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        run(("sleep", "1000"), tree, (), (), cancel)


# A collector that is the first process of a container, where number 2 is free again: bubblewrap's child has it inside.
_CONTAINED = """
import os, sys
from pathlib import Path
from pyrsyncbackup_collector.drill.validator import run
from pyrsyncbackup_collector.pull.cancel import Cancel
if (child := os.fork()) == 0:
    os._exit(0)
os.waitpid(child, 0)
assert os.getpid() == 1 and not Path("/proc/2").exists()
print(run(("test", "-s", "{root}/etc/passwd"), Path(sys.argv[1]), (), (), Cancel()))
"""


def test_it_works_in_a_container_of_few_processes(tree: Path) -> None:
    container = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    told = subprocess.run(
        [*container, sys.executable, "-c", _CONTAINED, str(tree)], capture_output=True, text=True, check=False
    )
    assert (told.stdout.strip(), told.stderr) == (str(Validation(PASSED)), "")


def test_a_sandbox_that_cannot_start_is_no_verdict_on_the_host(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validator, "INSIDE", "/proc/1/nowhere")
    found = try_out(tree, "true")
    assert found.outcome == NOT_RUN
    assert found.lines[0].startswith("bwrap: ")


def test_a_program_that_is_not_there_is_known_before(tmp_path: Path) -> None:
    assert validator.program(("no-such-program", "-t")) is None
    assert validator.program(("nginx", "-t")) == shutil.which("nginx", path="/usr/sbin")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_it_works_for_a_collector_that_is_not_root(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_through(tmp_path)
    # This program and its interpreter may lie where only root can go.
    monkeypatch.setattr(validator, "python", lambda: "/usr/bin/python3")
    monkeypatch.setattr(validator, "_PORTS", Path(shutil.copy(validator._PORTS, tmp_path)))
    argv = validator.arguments(NGINX, tree, (b"etc",), DIRECTORIES)
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    done = subprocess.run([*other, *argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
