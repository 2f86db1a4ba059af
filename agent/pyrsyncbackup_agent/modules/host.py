"""What is installed here: commands, packages, systemd units. The only place of detection that runs a program (rpm)."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

COMMAND_DIRS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
UNIT_DIRS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
DPKG_STATUS = Path("/var/lib/dpkg/status")
RPM_DATABASES = (Path("/var/lib/rpm"), Path("/usr/lib/sysimage/rpm"))
RPM_TIMEOUT = 60  # seconds; a full listing takes about one

_DPKG_INSTALLED = re.compile(rb"^Package: (\S+)\n(?:[^\n]+\n)*?Status: \S+ \S+ installed$", re.MULTILINE)


class Host:
    """Looks things up on this host. Package lists are read once and again when the package database changed."""

    def __init__(
        self,
        command_dirs: tuple[str, ...] = COMMAND_DIRS,
        unit_dirs: tuple[str, ...] = UNIT_DIRS,
        dpkg_status: Path = DPKG_STATUS,
        rpm: str = "rpm",
    ) -> None:
        self._command_path = os.pathsep.join(command_dirs)
        self._unit_dirs = unit_dirs
        self._dpkg_status = dpkg_status
        self._rpm = rpm
        self._lock = threading.Lock()
        self._packages: frozenset[str] = frozenset()
        self._packages_mark: object = None

    def has_command(self, name: str) -> bool:
        """Whether a program of that name is in one of the system's directories."""
        return shutil.which(name, path=self._command_path) is not None

    def has_unit(self, name: str) -> bool:
        """Whether systemd has an unmasked unit file of that name; globs allowed, `.service` may be left out."""
        pattern = name if "." in name else f"{name}.service"
        first: dict[str, str] = {}
        for directory in self._unit_dirs:
            for file in glob.glob(os.path.join(glob.escape(directory), pattern)):
                first.setdefault(os.path.basename(file), file)
        return any(os.path.isfile(file) for file in first.values())  # a link to /dev/null is no file

    def has_package(self, name: str) -> bool:
        """Whether the package is installed, by dpkg's status file or else rpm."""
        with self._lock:
            mark = self._database_mark()
            if mark != self._packages_mark:
                self._packages = self._read_dpkg() if self._dpkg_status.exists() else self._ask_rpm()
                self._packages_mark = mark
            return name in self._packages

    def _database_mark(self) -> object:
        marks = []
        for path in (self._dpkg_status, *RPM_DATABASES, *(base / "rpmdb.sqlite" for base in RPM_DATABASES)):
            try:
                status = path.stat()
                marks.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                marks.append((0, 0, 0))
        return tuple(marks)

    def _read_dpkg(self) -> frozenset[str]:
        try:
            content = self._dpkg_status.read_bytes()
        except OSError:
            return frozenset()
        return frozenset(name.decode(errors="replace") for name in _DPKG_INSTALLED.findall(content))

    def _ask_rpm(self) -> frozenset[str]:
        if not self.has_command(self._rpm) and not os.path.isabs(self._rpm):
            return frozenset()
        try:
            listed = subprocess.run(
                [self._rpm, "-qa", "--qf", "%{NAME}\\n"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=RPM_TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return frozenset()
        return frozenset(listed.stdout.decode(errors="replace").split())
