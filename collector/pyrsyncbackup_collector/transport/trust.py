"""Which agent certificate is the right one for a host: the pins, and the proof at first contact.

A pin is <state>/pins/HOST.pem; a file may hold exactly one certificate, and nothing but `pin` writes it. The secrets of
the invitations are <state>/invitations/fleet.secret and HOST.secret: an agent that computes the proof with one of them
was invited by us, so its key may be pinned without a person comparing fingerprints.
"""

from __future__ import annotations

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

    def pin(self, host: str, certificate_pem: bytes, *, replace: bool = False) -> None:
        """From now on this one is right for the host. AgentKeyChanged for another than the pin without `replace`."""
        certificate_pem = identity.check_certificate(certificate_pem)
        self._pins.mkdir(mode=0o700, parents=True, exist_ok=True)
        pinned = self.pinned(host) if not replace else None
        if pinned is not None and pinned != certificate_pem:
            raise key_changed(host, pinned, certificate_pem)
        identity.write_atomically(self._pins / f"{host}.pem", certificate_pem, 0o600)

    def proven(self, host: str, certificate_pem: bytes, proof: bytes) -> bool:
        """Whether `proof`, given by who holds this certificate, was made with the secret of an invitation of ours."""
        ders = identity.certificate_der(certificate_pem), identity.certificate_der(self._own.certificate_pem)
        return any(hmac.compare_digest(identity.proof(secret, *ders), proof) for secret in self._secrets(host))

    def _secrets(self, host: str) -> list[bytes]:
        secrets = []
        for name in (FLEET, host):
            file = self._invitations / f"{name}.secret"
            try:
                secrets.append(identity.parse_secret(file.read_text()))
            except FileNotFoundError:
                continue
            except (InvalidIdentity, OSError) as error:
                raise BackupError(f"{file} cannot be used: {error}", "remove it, then make a new invitation") from error
        return secrets

    def shown(self, host: str, endpoint: Endpoint, timeout: float) -> bytes:
        """The certificate (PEM) of whoever listens there, by one TLS 1.3 handshake with our own certificate.

        Raises AgentRefused if it does not accept ours, AgentUnreachable if it is no agent or not there.
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
                f"{host}: what listens on the agent's port is no agent of ours: {error}", "check `agent_port`"
            ) from error
        except (ssl.SSLError, EOFError) as error:
            raise AgentUnreachable(
                f"{host}: what listens on the agent's port does not speak TLS 1.3 as an agent does",
                "check `agent_port`",
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


def key_changed(host: str, pinned: bytes, shown: bytes) -> AgentKeyChanged:
    """The loud refusal, with both fingerprints."""
    return AgentKeyChanged(
        f"{host}: THE AGENT'S KEY HAS CHANGED: pinned is {identity.fingerprint(pinned)}, "
        f"it now shows {identity.fingerprint(shown)}",
        f"somebody may be in between; if the agent was set up anew: `pyrsyncbackup host trust {host} --replace`",
    )


def key_unknown(host: str, shown: bytes, reason: str) -> AgentKeyUnknown:
    """Not pinned, and not to be pinned by itself for `reason`."""
    fingerprint = identity.fingerprint(shown)
    return AgentKeyUnknown(
        f"{host}: the agent's key {fingerprint} is not trusted yet: {reason}",
        "compare it with `pyrsyncbackup-agent identity` on the host, then run "
        f"`pyrsyncbackup host trust {host} --fingerprint {fingerprint}`",
    )
