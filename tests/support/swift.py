"""A real S3 server: OpenStack Swift with its S3 API, one node of it in a temporary folder, on loopback ports.

Four processes (proxy, account, container, object), from Debian's packages; data lies in the folder, as it would on a
storage node.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import obstore
from obstore.store import S3Store

from tests.support.tcp import closed_port
from tests.support.waiting import until

ACCESS, SECRET = "test:tester", "testing"
REGION = "us-east-1"
BUCKET = "backup"
_PARTS = ("account", "container", "object")

_PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
log_level = WARNING
[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth dlo slo proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
error_suppression_limit = 1000000
conn_timeout = 60
node_timeout = 60
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{nothing}
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {region}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:dlo]
use = egg:swift#dlo
[filter:slo]
use = egg:swift#slo
[filter:proxy-logging]
use = egg:swift#proxy_logging
"""
_STORAGE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
log_level = WARNING
[pipeline:main]
pipeline = {part}-server
[app:{part}-server]
use = egg:swift#{part}
# By default a list lacks what took the container's server longer than a second: it is told later, by nobody here.
conn_timeout = 60
node_timeout = 60
container_update_timeout = 60
"""


class Swift:
    """One server; `endpoint` is the URL of its S3 API."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = closed_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Lay it out, start it, and wait until it answers."""
        (self.folder / "devices" / "one").mkdir(parents=True)
        ports = {part: closed_port() for part in _PARTS}
        for part, port in ports.items():
            self._ring(part, port)
            self._write(part, _STORAGE.format(part=part, port=port, folder=self.folder))
        values = {"port": self.port, "folder": self.folder, "region": REGION, "secret": SECRET}
        self._write("proxy", _PROXY.format(nothing=closed_port(), **values))
        try:
            # A proxy that finds no storage server leaves it alone for a minute.
            for part in ports:
                self._run(part)
            for port in ports.values():
                until(partial(self._listens, port))
            self._run("proxy")
            until(self._answers)
        except BaseException:
            self.kill()
            raise

    def _ring(self, part: str, port: int) -> None:
        builder = self.folder / f"{part}.builder"
        tool = shutil.which("swift-ring-builder")
        assert tool, "swift is not installed"
        for words in ("create 2 1 1", f"add r1z1-127.0.0.1:{port}/one 1", "rebalance"):
            done = subprocess.run([tool, builder, *words.split()], capture_output=True, text=True)
            assert done.returncode in (0, 1), done.stdout + done.stderr

    def _write(self, part: str, text: str) -> None:
        (self.folder / f"{part}.conf").write_text(text)

    def _run(self, part: str) -> None:
        with open(self.folder / f"{part}.log", "wb") as log:
            argv = [f"swift-{part}-server", str(self.folder / f"{part}.conf"), "--verbose"]
            self._processes.append(
                subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            )

    def _listens(self, port: int) -> bool:
        assert all(process.poll() is None for process in self._processes), self.log()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def _answers(self) -> bool:
        assert all(process.poll() is None for process in self._processes), self.log()
        with contextlib.suppress(OSError):
            request = urllib.request.Request(self._signed(""), method="PUT")  # noqa: S310 - our own
            try:
                return urllib.request.urlopen(request, timeout=30).status == 200  # noqa: S310
            except urllib.error.HTTPError as error:
                return error.code == 409  # it is there: an attempt came about whose answer was late
        return False

    def _signed(self, name: str) -> str:
        """An URL by which a PUT may be done without credentials: the library makes objects, but no buckets."""
        return obstore.sign(self.store(), "PUT", name, timedelta(minutes=5))

    def store(self) -> S3Store:
        """The bucket, past all that is tested."""
        return S3Store(
            BUCKET,
            endpoint=self.endpoint,
            region=REGION,
            access_key_id=ACCESS,
            secret_access_key=SECRET,
            client_options={"allow_http": True},
        )

    def log(self) -> str:
        """What its processes said."""
        return "".join(file.read_text(errors="replace") for file in sorted(self.folder.glob("*.log")))

    def kill(self) -> None:
        """End it, without a farewell."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Swift]:
    """A started server with an empty bucket, killed at the end of the block."""
    swift = Swift(folder)
    swift.start()
    try:
        yield swift
    finally:
        swift.kill()
