"""Which agent certificate is the right one for a host: the pins, and the proof at first contact.

A pin is <state>/pins/HOST.pem; a file may hold exactly one certificate, and nothing but `pin` writes it. The secrets of
the invitations are <state>/invitations/fleet.secret, HOST.secret and via/RELAY.secret: an agent that computes the proof
with one of them was invited by us, so its key may be pinned without a person comparing fingerprints. Behind a relay the
fleet's secret proves nothing: the relay may have it too, and could answer in the place of its peer.
"""

from __future__ import annotations

import fcntl
import hmac
import ssl
from pathlib import Path

from pyrsyncbackup import identity
from pyrsyncbackup.identity import Identity, InvalidIdentity

from pyrsyncbackup_collector.errors import (
    AgentKeyChanged,
    AgentKeyUnknown,
    AgentRefused,
    AgentUnreachable,
    BackupError,
)
from pyrsyncbackup_collector.transport.route import Endpoint

FLEET = "fleet"
VIA = "via"


class Trust:
    """The pins and secrets in the collector's state directory. Thread-safe: each call reads the files anew."""

    def __init__(self, state: Path, own: Identity) -> None:
        self._identity_dir = state / "identity"
        self._pins = state / "pins"
        self._invitations = state / "invitations"
        self._own = own

    def pinned(self, host: str) -> bytes | None:
        """The certificate (PEM) that is right for this host; None if none was pinned yet."""
        file = self._pins / f"{host}.pem"
        try:
            return identity.check_certificate(file.read_bytes())
        except FileNotFoundError:
            return None
        except (InvalidIdentity, OSError) as error:
            raise BackupError(
                f"{host}: the pin {file} cannot be used: {error}", "restore or remove that file"
            ) from error

    def stamp(self, host: str) -> tuple[int, int, int] | None:
        """Another one whenever the pin of this host was written anew; None where there is none."""
        try:
            found = (self._pins / f"{host}.pem").stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def pin(self, host: str, certificate_pem: bytes, *, replace: bool = False) -> None:
        """From now on this one is right for the host.

        Raises AgentKeyChanged for another than the pin without `replace`, AgentKeyUnknown for one that is another
        host's: two names for one agent would be two histories of one machine, or a relay that leads astray.
        """
        certificate_pem = identity.check_certificate(certificate_pem)
        self._pins.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One at a time: two names for one agent may come at the same moment.
        with open(self._pins / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._pin(host, certificate_pem, replace)

    def _pin(self, host: str, certificate_pem: bytes, replace: bool) -> None:
        pinned = self.pinned(host) if not replace else None
        if pinned is not None and pinned != certificate_pem:
            raise self.changed(host, pinned, certificate_pem)
        if pinned is None and (other := self._pinned_for(certificate_pem, host)):
            raise AgentKeyUnknown(
                f"{host}: the agent there is that of {other}: it shows the key {identity.fingerprint(certificate_pem)}",
                f"two names for one agent: remove one of the two hosts; if {other} is gone, remove its pin "
                f"{self._pins / other}.pem; of a cloned machine, remove the clone's identity directory",
            )
        identity.write_atomically(self._pins / f"{host}.pem", certificate_pem, 0o600)

    def changed(self, host: str, pinned: bytes, shown: bytes) -> AgentKeyChanged:
        """The loud refusal of another key than the pinned one, naming whose it is if that is known."""
        return key_changed(host, pinned, shown, self._pinned_for(shown, host))

    def _pinned_for(self, certificate_pem: bytes, host: str) -> str:
        """The other host whose pin this certificate is; empty if there is none."""
        wanted = identity.certificate_der(certificate_pem)
        for pin in sorted(self._pins.glob("*.pem")):
            try:
                if pin.stem != host and identity.certificate_der(pin.read_bytes()) == wanted:
                    return pin.stem
            except (InvalidIdentity, OSError, ValueError):
                continue  # told when that host is used
        return ""

    def proven(self, host: str, certificate_pem: bytes, proof: bytes, relay: str = "") -> bool:
        """Whether `proof`, given by who holds this certificate, was made with the secret of an invitation of ours.

        `relay` is the last relay on the way to it, empty where there is none.
        """
        ders = identity.certificate_der(certificate_pem), identity.certificate_der(self._own.certificate_pem)
        names = [f"{VIA}/{relay}" if relay else FLEET]
        # Of a host that is called so, the secret is that of the fleet.
        names += [host] if host != FLEET else []
        secrets = self._secrets(*names)
        return any(hmac.compare_digest(identity.proof(secret, *ders), proof) for secret in secrets)

    def _secrets(self, *names: str) -> list[bytes]:
        secrets = []
        for name in names:
            file = self._invitations / f"{name}.secret"
            try:
                secrets.append(identity.parse_secret(file.read_text()))
            except FileNotFoundError:
                continue
            except (InvalidIdentity, OSError) as error:
                raise BackupError(f"{file} cannot be used: {error}", "remove it, then make a new invitation") from error
        return secrets

    def shown(self, host: str, endpoint: Endpoint, timeout: float, wrong: str = "check `agent_port`") -> bytes:
        """The certificate (PEM) of whoever listens there, by one TLS 1.3 handshake with our own certificate.

        `wrong` is the next step where that is no agent. Raises AgentRefused if it does not accept ours,
        AgentUnreachable if it is no agent or not there.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # it is compared by the caller, byte for byte
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(self._identity_dir / identity.CERTIFICATE_FILE, self._identity_dir / identity.KEY_FILE)
        try:
            with endpoint.connect(timeout) as plain, context.wrap_socket(plain) as connection:
                der = connection.getpeercert(binary_form=True) or b""
                certificate_pem = identity.check_certificate(ssl.DER_cert_to_PEM_cert(der).encode())
                _await_welcome(host, connection, certificate_pem)
                return certificate_pem
        except InvalidIdentity as error:
            raise AgentUnreachable(
                f"{host}: what listens on the agent's port is no agent of ours: {error}", wrong
            ) from error
        except (ssl.SSLError, EOFError, ConnectionResetError, BrokenPipeError) as error:
            raise AgentUnreachable(
                f"{host}: what listens on the agent's port does not speak TLS 1.3 as an agent does",
                wrong,
            ) from error
        except TimeoutError as error:
            raise AgentUnreachable(
                f"{host}: the agent's port accepts connections and says nothing", "look at the agent's log on the host"
            ) from error
        except OSError as error:
            raise AgentUnreachable(
                f"{host}: the agent's port does not answer: {error.strerror or error}", "is the agent running there?"
            ) from error


def _await_welcome(host: str, connection: ssl.SSLSocket, certificate_pem: bytes) -> None:
    """TLS 1.3 judges the client's certificate after the handshake: wait for HTTP/2's first bytes, or the refusal."""
    try:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        refused = not connection.recv(1)
    except TimeoutError:
        raise
    except (OSError, ssl.SSLError):
        refused = True
    if refused:
        raise AgentRefused(
            f"{host}: the agent ({identity.fingerprint(certificate_pem)}) does not trust this collector",
            "on the host, run `pyrsyncbackup-agent accept` with the output of `pyrsyncbackup invitation`",
        )


def key_changed(host: str, pinned: bytes, shown: bytes, owner: str = "") -> AgentKeyChanged:
    """The loud refusal, with both fingerprints; `owner` is another host whose key it is."""
    whose = f", the key of {owner}" if owner else ""
    anew = f"somebody may be in between; if the agent was set up anew: `pyrsyncbackup host trust {host} --replace`"
    astray = f"the way leads to {owner}: correct the address of {host}, here or in the agent.toml of its relay"
    return AgentKeyChanged(
        f"{host}: THE AGENT'S KEY HAS CHANGED: pinned is {identity.fingerprint(pinned)}, "
        f"it now shows {identity.fingerprint(shown)}{whose}",
        astray if owner else anew,
    )


def key_unknown(host: str, shown: bytes, reason: str) -> AgentKeyUnknown:
    """Not pinned, and not to be pinned by itself for `reason`."""
    fingerprint = identity.fingerprint(shown)
    return AgentKeyUnknown(
        f"{host}: the agent's key {fingerprint} is not trusted yet: {reason}",
        "compare it with `pyrsyncbackup-agent identity` on the host, then run "
        f"`pyrsyncbackup host trust {host} --fingerprint {fingerprint}`",
    )
