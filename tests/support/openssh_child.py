"""Opens a connection by OpenSSH's client and waits to be killed: PORT KEY KNOWN_HOSTS FOLDER ADDRESS."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from pyrsyncbackup_collector.fleet.hosts import Host, Ssh
from pyrsyncbackup_collector.transport.host_keys import KnownHosts
from pyrsyncbackup_collector.transport.openssh import OpenSsh

port, key, known_hosts, folder, address = sys.argv[1:]
ssh = Ssh("", int(port), Path(key), known_hosts=Path(known_hosts))
link = OpenSsh(
    Host("web1", address, "openssh", ssh, 9737),
    KnownHosts(Path("/nonexistent"), [Path(known_hosts)]),
    30,
    None,
    Path(folder),
)
print("open", flush=True)
signal.pause()
