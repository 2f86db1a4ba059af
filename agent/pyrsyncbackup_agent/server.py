"""The agent as a process: puts the parts together, serves, drains and stops. The only module that knows all others."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pyrsyncbackup.v1 import agent_pb2, agent_pb2_grpc, relay_pb2, relay_pb2_grpc

from pyrsyncbackup_agent import memory, peers
from pyrsyncbackup_agent.about import about
from pyrsyncbackup_agent.errors import AgentError, SettingsError
from pyrsyncbackup_agent.key import Key
from pyrsyncbackup_agent.lease import Leases
from pyrsyncbackup_agent.modules import Registry
from pyrsyncbackup_agent.processes import adopt_orphans
from pyrsyncbackup_agent.relay import RelayService
from pyrsyncbackup_agent.restores import Restores
from pyrsyncbackup_agent.service import AgentService
from pyrsyncbackup_agent.settings import Settings, load
from pyrsyncbackup_agent.slots import SPARE_STREAMS, STREAMS_PER_SESSION, UNARY_WORKERS, Gate, Limit
from pyrsyncbackup_agent.trusted import TrustedCollectors

# Between two looks whether the certificates of running streams are still trusted; only while there are streams.
TRUST_INTERVAL: Final = 2.0
# Clients that have the peers listed at a time: each listing may take seconds.
LISTINGS: Final = 4
# Calls that wait for a worker, most of them to be refused in 0.1 ms: more than the 1,000 above which gRPC itself begins
# to drop them. With fewer, calls of GetInfo were refused among 10,000 connections that came at once.
WAITING: Final = 2000
# Files and sockets beside the connections that are passed on: sessions, clients, probes of peers.
DESCRIPTORS: Final = 768
_MESSAGE_LIMIT: Final = 4 * 1024 * 1024
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MESSAGE_LIMIT),
    ("grpc.max_send_message_length", _MESSAGE_LIMIT),
    ("grpc.max_metadata_size", 16 * 1024),
    # A client that is gone without a word holds workers and slots: it is noticed within 45 s. Not sooner: a ping waits
    # behind what is on its way, up to 2 MiB. The timeout of keepalive alone, gRPC 1.85 never sets.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 30_000),
    ("grpc.http2.ping_timeout_ms", 30_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.so_reuseport", 0),
    # What a client may send before it is taken, each stream by itself. gRPC's own way, which adapts it to the line, let
    # 200 streams whose peers take nothing grow to 3.5 GB within 12 s, and on; with this it is 0.2 GB. The price: a
    # client sends no faster than 9 MB/s at 50 ms there and back. What it receives goes by its own settings.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 512 * 1024),
)

log = structlog.get_logger(__name__)


class AgentServer:
    """One agent. `start`, then `stop` once; also after a failed start."""

    def __init__(self, settings: Settings, own: Key) -> None:
        self._settings = settings
        self.address = ""
        self._own = own
        try:
            settings.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise AgentError(
                f"cannot make {settings.runtime_dir}: {error.strerror}",
                "run the agent as the user that may, or set `runtime_dir` to a directory of its own",
            ) from error
        self._trusted = TrustedCollectors(settings.collectors_dir)
        self._registry = Registry(settings)
        self._leases = Leases(settings.runtime_dir, settings.max_sessions, settings.rsync)
        self._relay = RelayService(settings.relay.enabled)
        streams = Limit(
            settings.max_sessions * STREAMS_PER_SESSION + SPARE_STREAMS, "streams are open, no more are allowed"
        )
        apart = _relay_limits(settings)
        self._gate = Gate(self._trusted, streams, apart)
        self._health = health.HealthServicer()
        self._stopped = threading.Event()
        workers = streams.most + UNARY_WORKERS + sum(limit.most for limit in apart.values())
        self._server = grpc.server(
            ThreadPoolExecutor(workers, thread_name_prefix="rpc"),
            interceptors=[self._gate],
            maximum_concurrent_rpcs=workers + WAITING,
            options=_OPTIONS,
        )
        self._add_services()
        self._own_peers = settings.relay.peers
        self._read_peers()

    def start(self) -> None:
        """Listen. Raise AgentError if the address cannot be used."""
        initial = self._certificates()
        credentials = grpc.dynamic_ssl_server_credentials(
            initial, self._certificates, require_client_authentication=True
        )
        try:
            port = self._server.add_secure_port(self._settings.listen, credentials)
        except RuntimeError as error:
            raise AgentError(
                f"cannot listen on {self._settings.listen}", "see which program uses the port, or change `listen`"
            ) from error
        host = self._settings.listen.rpartition(":")[0]
        self.address = f"{host}:{port}"
        # Before anybody can ask: who finds the address finds it serving.
        self._set_health(health_pb2.HealthCheckResponse.SERVING)
        self._server.start()
        draft = self._settings.runtime_dir / ".address"
        draft.write_text(f"{self.address}\n")
        draft.replace(self._settings.runtime_dir / "address")
        threading.Thread(target=self._watch_trust, name="trust", daemon=True).start()
        log.info("ready", address=self.address, name=self._settings.name, fingerprint=self._own.fingerprint)

    def reload(self) -> None:
        """Read definitions, peers and certificates again."""
        self._registry.reload()
        self._read_peers()
        self._end_untrusted()
        log.info("reloaded")

    def stop(self, grace: float) -> None:
        """Take no new sessions, let the open ones go on for `grace` seconds, then end them, and wait for the end."""
        self._health.enter_graceful_shutdown()
        self._relay.stop()
        self._leases.drain(grace)
        self._stopped.set()
        self._gate.occupied.set()
        self._server.stop(1.0).wait()
        with contextlib.suppress(OSError):
            (self._settings.runtime_dir / "address").unlink()
        log.info("stopped")

    def _add_services(self) -> None:
        settings = self._settings
        certificate = ssl.PEM_cert_to_DER_cert(self._own.certificate_pem.decode())
        facts = about(settings.name, settings.rsync, settings.relay.enabled)
        restores = Restores(settings.restore, settings.runtime_dir, settings.rsync)
        service = AgentService(facts, certificate, self._registry, self._leases, self._trusted, restores)
        agent_pb2_grpc.add_AgentServiceServicer_to_server(service, self._server)
        relay_pb2_grpc.add_RelayServiceServicer_to_server(self._relay, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

    def _read_peers(self) -> None:
        """Also those in agent.toml; what else is in there holds until a restart."""
        settings = self._settings
        if not settings.relay.enabled:
            return
        if settings.file is not None:
            try:
                self._own_peers = load(settings.file).relay.peers
            except SettingsError as error:
                log.warning("settings not read again", problems=error.problems)
        found = peers.read(self._own_peers, settings.peers_dir)
        for problem in found.problems:
            log.warning("peer ignored", reason=problem)
        self._relay.peers = found

    def _certificates(self) -> grpc.ServerCertificateConfiguration:
        # gRPC wants at least one root. Our own lets nobody in, since nobody else has its key.
        roots = self._trusted.roots() or self._own.certificate_pem
        pair = (self._own.key_pem, self._own.certificate_pem)
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=roots)

    def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", *_SERVICES):
            self._health.set(service, status)

    def _end_untrusted(self) -> None:
        self._leases.end_of_clients(self._trusted.trusts)
        self._gate.end_removed()

    def _watch_trust(self) -> None:
        while not self._stopped.is_set():
            if not self._gate.occupied.is_set():
                memory.give_back()
                self._gate.occupied.wait()
            self._end_untrusted()
            self._stopped.wait(TRUST_INTERVAL)


_SERVICES: Final = tuple(
    service.full_name for module in (agent_pb2, relay_pb2) for service in module.DESCRIPTOR.services_by_name.values()
)
_RELAY: Final = relay_pb2.DESCRIPTOR.services_by_name["RelayService"].full_name


def _relay_limits(settings: Settings) -> dict[str, Limit]:
    """What a relay allows at a time, by method; nothing where there is no relay."""
    if not settings.relay.enabled:
        return {}
    return {
        f"/{_RELAY}/Connect": Limit(
            settings.relay.max_connections, "connections are passed on, no more are allowed (max_connections)"
        ),
        f"/{_RELAY}/ListPeers": Limit(LISTINGS, "clients have the peers listed, no more are allowed; try again"),
    }


def serve(settings: Settings, own: Key, grace: float) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads definitions and certificates again. Return the exit code.

    `grace` is how long open sessions may go on after that, in seconds.
    """
    if reason := adopt_orphans():
        log.warning("cannot adopt orphans of hooks", reason=reason)
    memory.settle()
    _allow_descriptors(settings)
    server = AgentServer(settings, own)
    signals = _signals()
    try:
        server.start()
        memory.give_back()
        notify("READY=1")
        while True:
            number = signals()
            if number != signal.SIGHUP:
                break
            notify("RELOADING=1")
            server.reload()
            notify("READY=1")
        log.info("stopping", signal=signal.Signals(number).name)
        notify("STOPPING=1")
    finally:
        server.stop(grace)
        # A second SIGTERM while the interpreter ends must not make a failure of it; it leaves ignored signals alone.
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)
    return 0


def _allow_descriptors(settings: Settings) -> None:
    """A connection that is passed on needs one; the usual limit of 1,024 leaves too few for the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.relay.max_connections + DESCRIPTORS if settings.relay.enabled else 0
    if soft < wanted and soft != resource.RLIM_INFINITY:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


_STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _signals() -> Callable[[], int]:
    """From here on signals wait in line; the value returns the next one."""
    # sigwait would be simpler, but a blocked signal stays blocked in the children. With a queue that a handler fills, a
    # signal just before its reader began to wait was seen at the next one only; a pipe is read in any case.
    line, entrance = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(entrance, False)
    signal.set_wakeup_fd(entrance)
    for number in _STOPPING:
        signal.signal(number, lambda *_: None)

    def next_one() -> int:
        while True:
            number = os.read(line, 1)[0]
            if number in _STOPPING:
                return number

    return next_one


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); does nothing when nobody asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(address)
        channel.sendall(state.encode())
