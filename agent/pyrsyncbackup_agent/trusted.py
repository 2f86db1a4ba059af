"""The collectors that this agent trusts: the certificates in collectors.d, as they are there at this moment."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

import structlog
from pyrsyncbackup.proof import parse_secret

log = structlog.get_logger(__name__)


class TrustedCollectors:
    """The present set of certificates, read again whenever a file changes. Thread-safe, cheap to ask."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._seen: object = None
        self._files: dict[bytes, Path] = {}
        self._pem: tuple[bytes, ...] = ()

    def roots(self) -> bytes:
        """All certificates as one PEM text; empty if there are none."""
        with self._lock:
            self._refresh()
            return b"".join(self._pem)

    def trusts(self, der: bytes) -> bool:
        """Say whether exactly this certificate is there now."""
        with self._lock:
            self._refresh()
            return der in self._files

    def secret(self, der: bytes) -> bytes:
        """Return the secret of the invitation that brought this certificate; empty if there is none."""
        with self._lock:
            self._refresh()
            file = self._files.get(der)
        if file is None:
            return b""
        try:
            return parse_secret(file.with_suffix(".secret").read_text())
        except FileNotFoundError:
            return b""
        except (OSError, ValueError) as error:
            log.warning("secret unreadable", file=str(file.with_suffix(".secret")), reason=str(error))
            return b""

    def _refresh(self) -> None:
        seen = self._signature()
        if seen == self._seen:
            return
        files: dict[bytes, Path] = {}
        texts = []
        for file in sorted(self._directory.glob("*.pem")):
            try:
                pem = file.read_text(encoding="ascii").strip() + "\n"
                der = ssl.PEM_cert_to_DER_cert(pem)
                # Parses it. What a certificate of ours must be was checked when it was accepted; here it is compared.
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=der)
            except (OSError, ValueError) as error:
                log.warning("certificate ignored", file=str(file), reason=str(error))
                continue
            files[der] = file
            texts.append(pem.encode())
        self._files, self._pem, self._seen = files, tuple(texts), seen

    def _signature(self) -> object:
        try:
            return sorted(
                (file.name, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
                for file in self._directory.glob("*.pem")
                for status in (file.stat(),)
            )
        except OSError:
            return ()
