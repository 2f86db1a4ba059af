"""Fixtures of the tests about second copies: what is copied, and where to. For `pytest_plugins` of a test's module."""

import shutil

import pytest

from tests.support import copies, sshd, swift
from tests.support.estate import Estate


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Another machine that lets us in by SSH."""
    with sshd.running(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """An S3 server with a bucket."""
    with swift.running(tmp_path_factory.mktemp("swift")) as running:
        yield running


@pytest.fixture(scope="module")
def confined(tmp_path_factory):
    """Another machine, whose key runs nothing but rrsync."""
    with sshd.running(tmp_path_factory.mktemp("confined")) as running:
        yield running


@pytest.fixture
def estate(tmp_path):
    """What is copied: nothing as yet."""
    (tmp_path / "source").mkdir()
    made = Estate(tmp_path / "source")
    yield made
    made.close()


@pytest.fixture
def target(tmp_path, estate):
    """A directory with an empty copy of the estate."""
    made = copies.directory(tmp_path / "copy")
    copies.make(made, estate.store)
    yield made
    made.close()


_RRSYNC = pytest.param("rrsync", marks=pytest.mark.skipif(not shutil.which("rrsync"), reason="rrsync is not installed"))


@pytest.fixture(params=["directory", "ssh", "s3", _RRSYNC])
def anywhere(request, tmp_path):
    """A place without a copy, of each kind."""
    if request.param == "directory":
        made = copies.directory(tmp_path / "copy")
    elif request.param == "ssh":
        made = copies.over_ssh(tmp_path / "copy", request.getfixturevalue("server"))
    elif request.param == "rrsync":
        server = request.getfixturevalue("confined")
        key = server.user_key.with_suffix(".pub").read_text()
        server.authorized_keys.write_text(f'command="rrsync -no-lock {tmp_path}/copy",restrict {key}')
        made = copies.over_ssh(tmp_path / "copy", server, path="/")
    else:
        made = copies.in_bucket(request.getfixturevalue("bucket"))
    yield made
    made.close()
