"""The agent as a process: puts the parts together, serves, drains and stops. The only module that knows all others."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from pyrsyncbackup.v1 import agent_pb2, agent_pb2_grpc, relay_pb2, relay_pb2_grpc

from pyrsyncbackup_agent import memory
from pyrsyncbackup_agent.about import about
from pyrsyncbackup_agent.errors import AgentError
from pyrsyncbackup_agent.key import Key
from pyrsyncbackup_agent.lease import Leases
from pyrsyncbackup_agent.modules import Registry
from pyrsyncbackup_agent.processes import adopt_orphans
from pyrsyncbackup_agent.relay import RelayService
from pyrsyncbackup_agent.service import AgentService
from pyrsyncbackup_agent.settings import Settings
from pyrsyncbackup_agent.slots import SPARE_STREAMS, STREAMS_PER_SESSION, UNARY_WORKERS, Gate
from pyrsyncbackup_agent.trusted import TrustedCollectors

# Between two looks whether the certificates of running streams are still trusted; only while there are streams.
TRUST_INTERVAL: Final = 2.0
_MESSAGE_LIMIT: Final = 4 * 1024 * 1024

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
        streams = settings.max_sessions * STREAMS_PER_SESSION + SPARE_STREAMS
        self._gate = Gate(self._trusted, streams)
        self._health = health.HealthServicer()
        self._stopped = threading.Event()
        workers = streams + UNARY_WORKERS
        self._server = grpc.server(
            ThreadPoolExecutor(workers, thread_name_prefix="rpc"),
            interceptors=[self._gate],
            maximum_concurrent_rpcs=2 * workers,
            options=[
                ("grpc.max_receive_message_length", _MESSAGE_LIMIT),
                ("grpc.max_send_message_length", _MESSAGE_LIMIT),
                ("grpc.max_metadata_size", 16 * 1024),
                ("grpc.keepalive_time_ms", 20_000),
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.so_reuseport", 0),
            ],
        )
        self._add_services()

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
        self._server.start()
        draft = self._settings.runtime_dir / ".address"
        draft.write_text(f"{self.address}\n")
        draft.replace(self._settings.runtime_dir / "address")
        threading.Thread(target=self._watch_trust, name="trust", daemon=True).start()
        self._set_health(health_pb2.HealthCheckResponse.SERVING)
        log.info("ready", address=self.address, name=self._settings.name, fingerprint=self._own.fingerprint)

    def reload(self) -> None:
        """Read definitions and certificates again."""
        self._registry.reload()
        self._end_untrusted()
        log.info("reloaded")

    def stop(self, grace: float) -> None:
        """Take no new sessions, let the open ones go on for `grace` seconds, then end them, and wait for the end."""
        self._health.enter_graceful_shutdown()
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
        facts = about(settings.name, settings.rsync)
        service = AgentService(facts, certificate, self._registry, self._leases, self._trusted)
        agent_pb2_grpc.add_AgentServiceServicer_to_server(service, self._server)
        relay_pb2_grpc.add_RelayServiceServicer_to_server(RelayService(), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

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
            self._gate.occupied.wait()
            self._end_untrusted()
            self._stopped.wait(TRUST_INTERVAL)


_SERVICES: Final = tuple(
    service.full_name for module in (agent_pb2, relay_pb2) for service in module.DESCRIPTOR.services_by_name.values()
)


def serve(settings: Settings, own: Key, grace: float) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads definitions and certificates again. Return the exit code.

    `grace` is how long open sessions may go on after that, in seconds.
    """
    if reason := adopt_orphans():
        log.warning("cannot adopt orphans of hooks", reason=reason)
    memory.settle()
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


_STOPPING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _signals() -> Callable[[], int]:
    """From here on signals wait in line; the value returns the next one."""
    # sigwait would be simpler, but a blocked signal stays blocked in the children.
    pending: queue.SimpleQueue[int] = queue.SimpleQueue()

    def arrived(number: int, _: FrameType | None) -> None:
        pending.put(number)

    for number in _STOPPING:
        signal.signal(number, arrived)
    return pending.get


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
