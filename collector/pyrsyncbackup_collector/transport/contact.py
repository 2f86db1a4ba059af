"""Whether who answers at the end of a way is the right agent: its key, its proof, and which error says best why not.

The way's own reason names a failure before that of a TLS probe, and that before gRPC's.
"""

from __future__ import annotations

from pyrsyncbackup.identity import Identity

from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.config.model import Config
from pyrsyncbackup_collector.errors import AgentRefused, AgentUnreachable, ConnectError, ConnectionLost
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport import trust
from pyrsyncbackup_collector.transport.agent_client import AgentClient
from pyrsyncbackup_collector.transport.listing import Limits
from pyrsyncbackup_collector.transport.offer import AgentInfo
from pyrsyncbackup_collector.transport.route import Route
from pyrsyncbackup_collector.transport.stream import Timeouts


class Contact:
    """Makes clients of agents that showed to be the right ones. Thread-safe."""

    def __init__(self, config: Config, own: Identity, trusted: trust.Trust, clock: Clock) -> None:
        limits = config.limits
        self._own, self._trust, self._clock = own, trusted, clock
        self._entry_limits = Limits(entries=limits.max_entries)
        self.timeouts = Timeouts(
            call=limits.connect, check=limits.check, list_idle=limits.stall, list_total=limits.list
        )

    def client(self, host: Host, route: Route, relay: str) -> AgentClient:
        """A client of the right agent, which answered; or the error that says best why not.

        `relay` is the last relay on the way, empty where there is none.
        """
        pinned = self._trust.pinned(host.name)
        if pinned is None:
            pinned = self._first(host, route, relay)
        client = self._new(host, route, pinned)
        try:
            client.checked_info(self.timeouts.call)
        except (ConnectionLost, AgentRefused) as error:
            client.close()
            raise _with_invitation(self._diagnosis(host, route, relay, pinned, error), host, relay) from error
        except BaseException:
            client.close()
            raise
        return client

    def shown(self, host: Host, route: Route, relay: str) -> bytes:
        """The certificate (PEM) of whoever is at the end of the way. Raises ConnectError."""
        wrong = f"correct the address of {host.peer} in the agent.toml of {relay}" if relay else "check `agent_port`"
        try:
            return self._trust.shown(host.name, route.endpoint, self.timeouts.call, wrong)
        except (AgentUnreachable, AgentRefused) as error:
            # A way that is cut looks like a refusal, too.
            raise route.why() or _with_invitation(error, host, relay) from error

    def ask(self, host: Host, route: Route, certificate_pem: bytes) -> AgentInfo:
        """Who answers with exactly this certificate."""
        client = self._new(host, route, certificate_pem)
        try:
            return client.info(self.timeouts.call)
        except ConnectionLost as error:
            raise route.why() or error from error
        finally:
            client.close()

    def _first(self, host: Host, route: Route, relay: str) -> bytes:
        shown = self.shown(host, route, relay)
        info = self.ask(host, route, shown)
        if host.trust != "first-use":
            raise trust.key_unknown(host.name, shown, "`trust` is set to pinned keys only")
        if not self._trust.proven(host.name, shown, info.proof, relay):
            if relay and self._trust.proven(host.name, shown, info.proof):
                raise trust.key_unknown(
                    host.name, shown, f"it has the fleet's invitation, whose secret relay {relay} may have as well"
                )
            raise trust.key_unknown(host.name, shown, "it did not prove to hold an invitation of ours")
        self._trust.pin(host.name, shown)
        return shown

    def _diagnosis(self, host: Host, route: Route, relay: str, pinned: bytes, error: ConnectError) -> ConnectError:
        try:
            shown = self.shown(host, route, relay)
        except ConnectError as better:
            return better
        return self._trust.changed(host.name, pinned, shown) if shown != pinned else error

    def _new(self, host: Host, route: Route, certificate_pem: bytes) -> AgentClient:
        return AgentClient(
            route.endpoint.target,
            host=host.name,
            identity=self._own,
            agent_certificate=certificate_pem,
            clock=self._clock,
            limits=self._entry_limits,
            timeouts=self.timeouts,
        )


def _with_invitation(error: ConnectError, host: Host, relay: str) -> ConnectError:
    """A refusal by the agent of a host behind a relay, with the invitation that counts there as the next step."""
    if not relay or not isinstance(error, AgentRefused):
        return error
    made = f"`pyrsyncbackup invitation {host.name} --via {relay}`"
    return type(error)(error.cause, f"on the host, run `pyrsyncbackup-agent accept` with the output of {made}").at(
        error.hop
    )
