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

from pyrsyncbackup_collector.config import calendar, copies, quantities, spans, zones
from pyrsyncbackup_collector.config.copies import Place

M = TypeVar("M")

_HOSTNAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_-]+)*\.?\Z")
# What is shorter would free nothing sooner that matters, and throw away what a cut-off pull goes on with.
LEAST_GRACE: Final = 3600.0
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
    # No sign of life of a chore: far longer than the removal of a million rows, or an upload over a slow line.
    chore: Duration = 7200.0


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
    freeze: Annotated[float | None, _before(quantities.percent_or_off)] = None
    share: Annotated[bool | None, _before(quantities.switch)] = None
    validators: Annotated[bool | None, _before(quantities.switch)] = None
    enabled: bool | None = None
    mirror: bool | None = None
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


# Runs in which each object is verified once.
VERIFY_TURNS: Final = 30


class Upkeep(Strict):
    """When the daemon does what keeps the store well: seconds between two runs, or moments; None: never by itself.

    What is due begins in `windows`, if there are any, and in no blackout, all in the calendar of `zone`. `verify` is
    how often it reads each object, `verify_rate` how fast, in bytes a second.
    """

    zone: Annotated[str | None, _before(zones.zone_name)] = None
    windows: Spans = ()
    blackouts: Spans = ()
    prune: Often = 86400.0
    gc: Often = 86400.0
    verify: Annotated[float | None, _before(quantities.duration_or_off)] = 30 * 86400.0
    verify_rate: Size = 20 << 20
    drill: Often = 7 * 86400.0

    @property
    def hours(self) -> spans.Hours:
        """When chores may begin."""
        return spans.Hours(self.zone, self.windows, self.blackouts)

    def rota(self) -> dict[str, float | calendar.Calendar]:
        """How often, by the chore's name; those that are off are left out."""
        names = type(self).model_fields.keys() - {"zone", "windows", "blackouts", "verify_rate"}
        found = ((name, getattr(self, name)) for name in sorted(names))
        rota = {name: every for name, every in found if every is not None}
        if self.verify is not None:
            # Each time those whose turn it is: a thirtieth, where they were written evenly.
            rota["verify"] = self.verify / VERIFY_TURNS
        return rota

    @model_validator(mode="after")
    def _leaves_a_moment(self) -> Self:
        return _with_a_moment(self, self.windows, self.blackouts)


class CopyConfig(Strict):
    """One second copy. `every` in seconds, or moments of the calendar of [upkeep]; None: by command only.

    `keep` unset: all that ever came stays.
    """

    name: Annotated[str, AfterValidator(_name)]
    to: Annotated[Place, _before(copies.place)]
    every: Often = 86400.0
    keep: Keep | None = None
    hosts: Glob = "*"
    modules: Glob = "*"
    recheck: Duration = 30 * 86400.0
    encrypt_to: Annotated[tuple[Annotated[str, AfterValidator(copies.recipient)], ...], _before(_names)] = ()
    endpoint: Annotated[str, AfterValidator(copies.endpoint)] | None = None
    region: str | None = None
    credentials: FilePath | None = None
    key: FilePath | None = None

    @model_validator(mode="after")
    def _fits(self) -> CopyConfig:
        options = {"endpoint": self.endpoint, "region": self.region, "credentials": self.credentials, "key": self.key}
        copies.fit(self.to, {name for name, value in options.items() if value is not None})
        return self


def _grace(value: object) -> float:
    seconds = quantities.duration(value)
    if seconds < LEAST_GRACE:
        raise ValueError(
            f"must be at least {LEAST_GRACE / 3600:.0f}h: a pull that was cut off goes on with what it has"
        )
    return seconds


class Space(Strict):
    """What pulls leave free on the store's file system, and how garbage goes.

    `min_free` in bytes or as a part of the file system, None: nothing; `grace` in seconds, `gc_rate` in objects a
    second.
    """

    min_free: Annotated[quantities.Share | int | None, _before(quantities.share_or_size)] = quantities.Share(1.0)
    min_free_inodes: Annotated[quantities.Share | int | None, _before(quantities.share_or_count)] = quantities.Share(
        1.0
    )
    grace: Annotated[float, _before(_grace)] = 86400.0
    # A tenth of what a disk can do, so that pulls and people notice nothing.
    gc_rate: Annotated[int, Field(ge=10, le=1_000_000)] = 2_000


class CollectorFile(HostsFile):
    """collector.toml."""

    store: FilePath
    catalog: FilePath
    state: FilePath | None = None
    runtime: FilePath | None = None
    mirror_dir: FilePath | None = None
    sandbox: Literal["require", "off"] = "require"
    limits: Limits = Limits()
    upkeep: Upkeep = Upkeep()
    space: Space = Space()
    policy: PolicySettings = PolicySettings()
    copies: Annotated[tuple[CopyConfig, ...], _before(_tuple)] = Field(default=(), alias="copy")


@dataclass(frozen=True)
class Config:
    """All files together.

    Paths are absolute; `mirror_dir` is where plain trees of modules are kept, `state` the private directory of keys,
    pins and invitations, `runtime` that of sockets. Rules and hosts are in the order of the files.
    """

    file: Path
    store: Path
    catalog: Path
    state: Path
    runtime: Path
    mirror_dir: Path
    sandbox: Literal["require", "off"]
    limits: Limits
    upkeep: Upkeep
    space: Space
    policy: PolicySettings
    rules: tuple[Rule, ...]
    hosts: tuple[HostConfig, ...]
    copies: tuple[CopyConfig, ...] = ()

    @cached_property
    def by_name(self) -> dict[str, HostConfig]:
        """The hosts by name."""
        return {host.name: host for host in self.hosts}

    def copy(self, name: str) -> CopyConfig | None:
        """The second copy of that name."""
        return next((copy for copy in self.copies if copy.name == name), None)
