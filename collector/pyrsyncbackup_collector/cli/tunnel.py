"""`host tunnel`: a way to an agent for other programs, with ready command lines for them."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path

from pyrsyncbackup_collector.cli import screen
from pyrsyncbackup_collector.cli.hosts import HostArgument, host_app
from pyrsyncbackup_collector.cli.options import NOT_GIVEN, ConfigOption, exit_codes
from pyrsyncbackup_collector.cli.workplace import Workplace
from pyrsyncbackup_collector.errors import Cancelled

SERVICE = "pyrsyncbackup.v1.AgentService"


@host_app.command("tunnel", epilog=exit_codes(4, 5), short_help="Open a way to an agent for other programs.")
def tunnel(name: HostArgument, config: ConfigOption = NOT_GIVEN) -> None:
    """Open a tunnel to a host's agent, print command lines for grpcurl and buf, and keep it open until Ctrl-C.

    The near end is a Unix socket that only you can open (of a `direct` host: the agent's own port). Ctrl-C and
    SIGTERM end it with code 0.
    """
    place = Workplace.load(config)
    host = place.fleet.host(name)
    with place.connections() as connections:
        credentials = connections.credentials(host)
        with connections.endpoint(host) as endpoint:
            address = endpoint.address
            screen.say(f"tunnel to {name}: {address if isinstance(address, str) else '{}:{}'.format(*address)}")
            for title, line in command_lines(address, *credentials):
                screen.say()
                screen.say(f"# {title}", screen.QUIET)
                screen.say(line)
            screen.say()
            screen.note("open until Ctrl-C")
            screen.out().file.flush()
            try:
                threading.Event().wait()
            except (KeyboardInterrupt, Cancelled):
                screen.note("closed")


def command_lines(
    address: str | tuple[str, int], certificate: Path, key: Path, pin: Path, server_name: str
) -> list[tuple[str, str]]:
    """(what it does, command line) for each program; `pin` is the agent's certificate, the only authority."""
    grpcurl = ["grpcurl", "-cacert", str(pin), "-cert", str(certificate), "-key", str(key), "-authority", server_name]
    buf = ["buf", "curl", "--protocol", "grpc", "--cacert", str(pin), "--cert", str(certificate), "--key", str(key)]
    buf += ["--servername", server_name]
    if isinstance(address, str):
        grpcurl += ["-unix", address]
        buf += ["--unix-socket", address]
        url = f"https://{server_name}"
    else:
        grpcurl.append(f"{address[0]}:{address[1]}")
        url = f"https://{address[0]}:{address[1]}"
    with_fingerprints = ["-d", '{"with_fingerprints": true}', f"{url}/{SERVICE}/ListModules"]
    return [
        ("what the agent offers, by reflection", shlex.join([*grpcurl, "list"])),
        ("who it is", shlex.join([*grpcurl, f"{SERVICE}/GetInfo"])),
        ("who it is, with buf", shlex.join([*buf, f"{url}/{SERVICE}/GetInfo"])),
        ("its modules with fingerprints, with buf", shlex.join([*buf, *with_fingerprints])),
    ]
