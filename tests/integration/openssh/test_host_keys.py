"""Host keys on the way by OpenSSH's own client: which are known, which are refused, and what is told about them."""

from __future__ import annotations

import subprocess

import pytest
from pyrsyncbackup_collector import errors
from pyrsyncbackup_collector.transport.host_keys import Server
from pyrsyncbackup_collector.transport.openssh import shown_host_key

from tests.support.fleet import changed
from tests.support.openssh import TIMEOUT, failure
from tests.support.sshd import make_key


@pytest.mark.parametrize("careless", ["StrictHostKeyChecking no", "NoHostAuthenticationForLocalhost yes"])
def test_careless_settings_do_not_let_an_unknown_server_in(connect, host, sshd, ssh_config, careless):
    ssh_config(careless)
    (sshd.folder / "user_known_hosts").write_text("")
    assert type(failure(connect, host)) is errors.HostKeyUnknown
    assert "Accepted" not in sshd.log()


def test_an_unknown_host_key_is_refused_in_our_words_until_trusted(connect, host, sshd, known, folder):
    (sshd.folder / "user_known_hosts").write_text("")
    error = failure(connect, host)
    server, key = shown_host_key(host, known(host), TIMEOUT, None, folder)
    assert server == Server("127.0.0.1", sshd.port)
    assert type(error) is errors.HostKeyUnknown
    with pytest.raises(errors.HostKeyUnknown) as expected:
        known(host).check("web1", server, key)
    assert str(error) == str(expected.value)
    assert "Accepted" not in sshd.log()
    known(host).trust("web1", server, key)
    assert connect(host).alive
    assert [path.name for path in folder.iterdir()] != []


def test_a_changed_host_key_is_refused_with_both_fingerprints(connect, host, sshd, known, folder):
    server, old = shown_host_key(host, known(host), TIMEOUT, None, folder)
    sshd.new_host_keys()
    sshd.restart()
    error = failure(connect, host)
    _, new = shown_host_key(host, known(host), TIMEOUT, None, folder)
    assert type(error) is errors.HostKeyChanged
    assert old.fingerprint in error.cause
    assert new.fingerprint in error.cause
    known(host).trust("web1", server, new, replace=True)
    assert connect(host).alive


def test_our_known_hosts_decides_alone(connect, host, sshd, known, folder):
    server, key = shown_host_key(host, known(host), TIMEOUT, None, folder)
    known(host).trust("web1", server, key)
    sshd.new_host_keys()
    sshd.restart()
    # The user's file has the new one already.
    host.ssh.known_hosts.write_text(sshd.known_hosts_line())
    assert type(failure(connect, host)) is errors.HostKeyChanged


def test_a_revoked_key_in_any_file_is_refused(connect, host, sshd, known, folder):
    line = sshd.known_hosts_line()
    host.ssh.known_hosts.write_text(line + "@revoked * " + line.split(" ", 1)[1])
    assert "revoked" in failure(connect, host).cause
    host.ssh.known_hosts.write_text(line)
    known(host).own.write_text("@revoked * " + line.split(" ", 1)[1])
    error = failure(connect, host)
    assert type(error) is errors.HostKeyChanged
    assert "marked as revoked" in error.cause


def test_a_key_that_only_the_clients_own_files_contradict_has_changed_too(connect, host, sshd, ssh_config, tmp_path):
    (tmp_path / "more").write_text(sshd.known_hosts_line())
    sshd.new_host_keys()
    sshd.restart()
    ssh_config(f"UserKnownHostsFile {tmp_path}/more")
    error = failure(connect, changed(host, ssh_known_hosts=None))
    assert type(error) is errors.HostKeyChanged
    assert f"{tmp_path}/more has another one" in error.cause
    assert "--replace" in error.hint


def test_certificates_of_host_authorities_count_as_the_client_has_them(connect, host, sshd, ssh_config, tmp_path):
    make_key(tmp_path / "ca")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", tmp_path / "ca", "-I", "web1", "-h", sshd.folder / "host_ed25519.pub"],
        check=True,
        capture_output=True,
    )
    sshd.options = [f"HostCertificate {sshd.folder}/host_ed25519-cert.pub"]
    sshd.restart()
    authority = (tmp_path / "ca.pub").read_text()
    (tmp_path / "more").write_text(f"@cert-authority * {authority}")
    ssh_config(f"UserKnownHostsFile {tmp_path}/more")
    assert connect(changed(host, ssh_known_hosts=None)).alive


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_the_kind_of_host_key_that_is_known_is_asked_for(connect, host, sshd, known, folder, kind):
    sshd.host_key_kinds = ["ed25519", kind]
    sshd.new_host_keys()
    sshd.restart()
    host.ssh.known_hosts.write_text(sshd.known_hosts_line(kind))
    assert connect(host).alive
    assert kind in shown_host_key(host, known(host), TIMEOUT, None, folder)[1].kind
