"""Hosts that are far away: what counts there is how often something is asked and waited for."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.delay_proxy import delay_proxy
from tests.support.network import needs_network
from tests.support.routes_world import SSH_PORT, routes_world
from tests.support.topologies import BASTION, with_peers

pytestmark = [needs_network, pytest.mark.root]

# As between continents, and then some: the work of a busy machine shall be little beside it.
ROUND_TRIP = 0.5

# Checks of one host on one route, as the daemon makes them; prints how long each took, in seconds.
_CHECKS = """
import json, sys, time
from pathlib import Path
from pyrsyncbackup_collector import config
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.discovery.offers import discover
from pyrsyncbackup_collector.fleet.hosts import Fleet
from pyrsyncbackup_collector.transport.connections import Connections

settings = config.load(Path(sys.argv[1]))
connections = Connections(settings, SystemClock())
host, took = Fleet.from_config(settings).host(sys.argv[2]), []
for _ in range(6):
    began = time.monotonic()
    with connections.agent(host) as agent:
        assert discover(agent, host, check=None).ready[0].fingerprint
    took.append(time.monotonic() - began)
connections.close()
print(json.dumps(took))
"""


@pytest.mark.parametrize("transport", ["sshtunnel", "openssh"])
def test_an_unchanged_check_behind_a_relay_takes_three_round_trips_at_most(transport, tmp_path):
    with routes_world() as world:
        with_peers(world)
        world.sites["db1"].fill(20, 100)
        assert world.pull("db1") == {"db1": ("complete", None)}
        sshd = world.sshds["bastion"]
        with delay_proxy(
            tmp_path / "seen", "127.0.0.1:2200", f"{BASTION}:{SSH_PORT}", ROUND_TRIP / 2, world.prefix
        ) as proxy:
            (world.collector / "known_hosts").write_text(
                sshd.known_hosts_line().replace(f"[{BASTION}]:{SSH_PORT}", "[127.0.0.1]:2200")
            )
            login = f'ssh = {{ user = "{sshd.user}", port = 2200 }}'
            world.define("bastion", 'address = "127.0.0.1"', login, f'transport = "{transport}"')
            argv = [*world.prefix, sys.executable, "-c", _CHECKS, str(world.config), "db1"]
            done = subprocess.run(argv, env=world.environment, capture_output=True, text=True, check=False, timeout=90)
            assert done.returncode == 0, done.stderr
            opening, *checks = json.loads(done.stdout)
            # The way is as far as it should be, and all of it was one SSH connection.
            assert opening > 3 * ROUND_TRIP
            assert proxy.connections == 1
        # A fourth would show whole.
        assert min(checks) < 4 * ROUND_TRIP, [round(took / ROUND_TRIP, 2) for took in (opening, *checks)]
