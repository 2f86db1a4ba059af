"""The shape of the configuration files: every key, its type, its default.

It holds the rules for single values. What concerns several of them (names used twice, paths that are relative) is the
business of `load`; which of several policies counts is that of `policy`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pyrsyncbackup import DEFAULT_AGENT_PORT, valid_name

from pyrsyncbackup_collector.config import calendar, quantities, spans, zones

M = TypeVar("M")

_HOSTNAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?\Z")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]*\$?\Z")


def _name(value: str) -> str:
    if not valid_name(value):
        raise ValueError(
            f'"{value}" is not a name: it begins with a-z or 0-9, goes on with these, ".", "_" or "-", '
            "and has at most 63 characters"
        )
    return value


def _address(value: str) -> str:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _HOSTNAME.match(value):
            raise ValueError(f'"{value}" is neither a host name nor an IP address') from None
    return value


def _user(value: str) -> str:
    if not _USER.match(value):
        raise ValueError(f'"{value}" is not a user name')
    return value


def _path(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be the path of a file or directory, as text")
    return Path(value)


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _names(value: object) -> object:
    return (value,) if isinstance(value, str) else _tuple(value)


def _before(check: Callable[[object], object]) -> BeforeValidator:
    return BeforeValidator(check)


Duration = Annotated[float, _before(quantities.duration)]
Size = Annotated[int, _before(quantities.size)]
Glob = Annotated[str, _before(quantities.glob)]
Often = Annotated[float | calendar.Calendar | None, _before(calendar.pull_time_or_off)]
Spans = Annotated[tuple[spans.Span, ...], _before(spans.spans)]
FilePath = Annotated[Path, _before(_path)]
Port = Annotated[int, Field(ge=1, le=65535)]
Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """No conversion between types, no unknown keys, no change after loading."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


def _with_a_moment(model: M, windows: tuple[spans.Span, ...], blackouts: tuple[spans.Span, ...]) -> M:
    if windows and spans.leave_nothing(windows, blackouts):
        raise ValueError("leaves no moment: `blackouts` cover all of `windows`")
    return model


class Workers(Strict):
    """As many at a time as are needed, from `min` to `max`."""

    min: Annotated[int, Field(ge=1, le=512)] = 2
    max: Annotated[int, Field(ge=1, le=512)] = 16

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"`min` is {self.min} and `max` {self.max}: the smaller one comes first")
        return self


def _workers(value: object) -> object:
    """A number is a range of one; "auto" is the default one."""
    if isinstance(value, dict):
        return value
    if value == "auto":
        return {}
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= 512:
            raise ValueError(f"must be at {'least 1' if value < 1 else 'most 512'}, not {value}")
        return {"min": value, "max": value}
    shown = f'"{value}"' if isinstance(value, str) else str(value).lower()
    raise ValueError(f'must be "auto", a number such as 8, or {{ min = 2, max = 16 }}, not {shown}')


class Limits(Strict):
    """How much at a time. Sizes in bytes, durations in seconds."""

    pulls: Annotated[Workers, _before(_workers)] = Workers()
    checks: Annotated[int, Field(ge=1, le=512)] = 32
    # sshtunnel waits with select(), which ends at file descriptor 1023: of 500 tunnels in one process 480 failed.
    tunnels: Annotated[int, Field(ge=1, le=250)] = 100
    per_host: Annotated[int, Field(ge=1, le=16)] = 1
    # Pulls that pass through one bastion at a time.
    per_hop: Annotated[int, Field(ge=1, le=512)] = 8
    max_entries: Count = 10_000_000
    max_file_size: Size = 1 << 40
    max_module_size: Size = 10 << 40
    # One batch is one rsync: large enough to forget its 30 ms start, small enough to lose little when it is cut.
    batch_files: Count = 5_000
    batch_size: Size = 1 << 30
    connect: Duration = 30.0
    idle: Duration = 120.0
    check: Duration = 300.0
    list: Duration = 3600.0
    # And a second more for each MiB that is to be transferred.
    transfer: Duration = 86400.0
    commit: Duration = 3600.0
    # Nothing at all arrives for this long: the connection counts as lost.
    stall: Duration = 300.0


class Keep(Strict):
    """Retention: how many of each kind stay, `within` in seconds. Nothing set keeps everything."""

    last: Annotated[int, Field(ge=0)] | None = None
    hourly: Annotated[int, Field(ge=0)] | None = None
    daily: Annotated[int, Field(ge=0)] | None = None
    weekly: Annotated[int, Field(ge=0)] | None = None
    monthly: Annotated[int, Field(ge=0)] | None = None
    yearly: Annotated[int, Field(ge=0)] | None = None
    within: Duration | None = None

    @model_validator(mode="after")
    def _keeps_something(self) -> Keep:
        if self.model_fields_set and not any(getattr(self, name) for name in self.model_fields_set):
            raise ValueError("keeps nothing; leave `keep` out to keep everything")
        return self


class PolicySettings(Strict):
    """A policy as far as it is written: `model_fields_set` says which keys are. Durations in seconds."""

    check: Annotated[float | None, _before(quantities.duration_or_off)] = None
    pull: Annotated[float | calendar.Calendar | None, _before(calendar.pull_time)] = None
    zone: Annotated[str | None, _before(zones.zone_name)] = None
    windows: Spans | None = None
    blackouts: Spans | None = None
    keep: Keep | None = None
    share: Annotated[bool | None, _before(quantities.switch)] = None
    enabled: bool | None = None
    bwlimit: Size | None = None

    @model_validator(mode="after")
    def _leaves_a_moment(self) -> Self:
        return _with_a_moment(self, self.windows or (), self.blackouts or ())


class Rule(PolicySettings):
    """A policy for the modules of the hosts whose names match."""

    hosts: Glob = "*"
    modules: Glob = "*"

    @model_validator(mode="after")
    def _sets_something(self) -> Rule:
        if not self.model_fields_set - {"hosts", "modules"}:
            raise ValueError(f"sets nothing: a rule has at least one of {', '.join(PolicySettings.model_fields)}")
        return self


class SshConfig(Strict):
    """How to log in. No key: the collector's own. `jump` names the host through whose SSH connection it goes."""

    user: Annotated[str, AfterValidator(_user)] = "pyrsyncbackup"
    port: Port = 22
    key: FilePath | None = None
    known_hosts: FilePath | None = None
    jump: Annotated[str, AfterValidator(_name)] | None = None


class ModuleFilter(Strict):
    """Which of the offered modules are pulled: those that match `include` and no pattern of `exclude`."""

    include: Annotated[tuple[Glob, ...], _before(_tuple)] = ("*",)
    exclude: Annotated[tuple[Glob, ...], _before(_tuple)] = ()


class HostConfig(Strict):
    """One host. No address: its name is. `bwlimit` in bytes a second.

    `via` are the hosts whose agents relay to it, by the name `peer`; `hops` says what they and `ssh.jump` may name.
    """

    name: Annotated[str, AfterValidator(_name)]
    address: Annotated[str, AfterValidator(_address)] | None = None
    ssh: SshConfig = SshConfig()
    agent_port: Port = DEFAULT_AGENT_PORT
    transport: Literal["sshtunnel", "openssh", "direct"] = "sshtunnel"
    via: Annotated[tuple[Annotated[str, AfterValidator(_name)], ...], _before(_names)] = ()
    peer: Annotated[str, AfterValidator(_name)] | None = None
    modules: ModuleFilter = ModuleFilter()
    bwlimit: Size | None = None
    enabled: bool = True
    trust: Literal["first-use", "pinned"] = "first-use"
    accept: Literal["auto", "manual"] = "manual"


class HostsFile(Strict):
    """A file of hosts.d."""

    host: Annotated[tuple[HostConfig, ...], _before(_tuple)] = ()
    rule: Annotated[tuple[Rule, ...], _before(_tuple)] = ()


class Upkeep(Strict):
    """When the daemon does what keeps the store well: seconds between two runs, or moments; None: never by itself.

    What is due begins in `windows`, if there are any, and in no blackout, all in the calendar of `zone`.
    """

    zone: Annotated[str | None, _before(zones.zone_name)] = None
    windows: Spans = ()
    blackouts: Spans = ()
    prune: Often = 86400.0
    gc: Often = 86400.0

    @property
    def hours(self) -> spans.Hours:
        """When chores may begin."""
        return spans.Hours(self.zone, self.windows, self.blackouts)

    def rota(self) -> dict[str, float | calendar.Calendar]:
        """How often, by the chore's name; those that are off are left out."""
        names = type(self).model_fields.keys() - {"zone", "windows", "blackouts"}
        found = ((name, getattr(self, name)) for name in sorted(names))
        return {name: every for name, every in found if every is not None}

    @model_validator(mode="after")
    def _leaves_a_moment(self) -> Self:
        return _with_a_moment(self, self.windows, self.blackouts)


class CollectorFile(HostsFile):
    """collector.toml."""

    store: FilePath
    catalog: FilePath
    state: FilePath | None = None
    runtime: FilePath | None = None
    sandbox: Literal["require", "off"] = "require"
    limits: Limits = Limits()
    upkeep: Upkeep = Upkeep()
    policy: PolicySettings = PolicySettings()


@dataclass(frozen=True)
class Config:
    """All files together.

    Paths are absolute; `state` is the private directory of keys, pins and invitations, `runtime` that of sockets. Rules
    and hosts are in the order of the files.
    """

    file: Path
    store: Path
    catalog: Path
    state: Path
    runtime: Path
    sandbox: Literal["require", "off"]
    limits: Limits
    upkeep: Upkeep
    policy: PolicySettings
    rules: tuple[Rule, ...]
    hosts: tuple[HostConfig, ...]

    @cached_property
    def by_name(self) -> dict[str, HostConfig]:
        """The hosts by name."""
        return {host.name: host for host in self.hosts}
