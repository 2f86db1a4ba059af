"""Modules as an agent offers them, checked: names, roots, hints and every text are a host's word."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyrsyncbackup import valid_name

from pyrsyncbackup_collector.entry import MAX_NAME, MAX_PATH, check_path, order, printable
from pyrsyncbackup_collector.errors import AgentMisbehaved
from pyrsyncbackup_collector.transport.offer import (
    Fingerprint,
    Hints,
    ModuleOffer,
    ModuleState,
    Offers,
    Root,
    Validator,
)

_STATES = {1: ModuleState.READY, 2: ModuleState.ABSENT, 3: ModuleState.INVALID}
_KEEP = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
# An honest host has some dozens of modules, a module some roots and rules.
MAX_MODULES = 1000
_MAX_ROOTS = 1000
_MAX_NAMES = 10_000
_MAX_RULES = 10_000
# Rules and paths of roots stand in one line of every manifest: characters or bytes of all of them.
_MAX_FACTS = 256 * 1024
_MAX_TITLE = 200
_MAX_REASON = 1000
_MAX_DIGEST = 64
# Of a validator: arguments, modules, directories; and the characters of all.
_MAX_WORDS = 50
_MAX_ARGUMENTS = 8000


def offers(modules: Iterable[Any]) -> Offers:
    """All modules of an answer; those without a usable name are dropped, with a reason."""
    kept: dict[str, ModuleOffer] = {}
    dropped = []
    for count, module in enumerate(modules):
        if count == MAX_MODULES:
            dropped.append(f"the agent offers more than {MAX_MODULES} modules: the rest is ignored")
            break
        name = module.name
        if not valid_name(name):
            dropped.append(f"module {printable(name[:80])!r}: not a valid name")
        elif name in kept:
            dropped.append(f"module {name!r}: offered twice, only the first counts")
        else:
            kept[name] = offer(module)
    return Offers(tuple(kept.values()), tuple(dropped))


def offer(module: Any) -> ModuleOffer:
    """One module whose name is valid; what does not hold together makes it invalid, with the reason."""
    state = _STATES.get(module.state, ModuleState.INVALID)
    reason = printable(module.reason[:_MAX_REASON])
    roots: tuple[Root, ...] = ()
    excludes: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    try:
        roots = _roots(module.roots)
        rules = (*module.excludes[: _MAX_RULES + 1], *module.includes[: _MAX_RULES + 1])
        if len(rules) > _MAX_RULES or sum(map(len, rules)) > _MAX_FACTS:
            raise AgentMisbehaved("the agent sent too many rules")
        excludes, includes = tuple(module.excludes), tuple(module.includes)
        if state is ModuleState.READY and not roots:
            raise AgentMisbehaved("the agent calls it ready, without any root")
    except AgentMisbehaved as error:
        state, reason, roots = ModuleState.INVALID, error.cause, ()
    return ModuleOffer(
        name=module.name,
        title=printable(module.title[:_MAX_TITLE]),
        state=state,
        reason=reason,
        roots=roots,
        excludes=excludes,
        includes=includes,
        hints=_hints(module.hints),
        has_hooks=module.has_hooks,
        fingerprint=fingerprint(module.fingerprint) if module.HasField("fingerprint") else None,
        validator=_validator(module.validator),
    )


def fingerprint(message: Any) -> Fingerprint:
    """A fingerprint of plausible size; raises AgentMisbehaved."""
    if not 0 < len(message.digest) <= _MAX_DIGEST:
        raise AgentMisbehaved("the agent sent an impossible fingerprint")
    return Fingerprint(message.digest, message.settled, message.entries)


def _roots(messages: Any) -> tuple[Root, ...]:
    if len(messages) > _MAX_ROOTS or sum(len(m.names) + len(m.aliases) for m in messages) > _MAX_NAMES:
        raise AgentMisbehaved("the agent sent too many roots")
    if sum(len(m.path) + sum(map(len, m.aliases)) for m in messages) > _MAX_FACTS:
        raise AgentMisbehaved("the agent sent too many roots")
    roots = tuple(_root(message) for message in messages)
    if len({root.id for root in roots}) != len(roots):
        raise AgentMisbehaved("the agent sent two roots with one number")
    if len({root.path for root in roots}) != len(roots):
        raise AgentMisbehaved("the agent sent two roots with one path")
    whole: Root | None = None
    # In this order what lies below a root follows it.
    for root in sorted(roots, key=lambda root: order(root.path)):
        if whole and _within(root.path, whole.path):
            raise AgentMisbehaved(f"the agent sent overlapping roots: {printable(whole.path)}, {printable(root.path)}")
        whole = whole if root.names else root
    return roots


def _within(path: bytes, directory: bytes) -> bool:
    return not directory or path.startswith(directory + b"/")


def _root(message: Any) -> Root:
    if message.id == 0:
        raise AgentMisbehaved("the agent sent a root with the number 0")
    if message.path:  # the top directory itself has none
        check_path(message.path)
    for name in message.names:
        if b"/" in check_path(name) or len(name) > MAX_NAME:
            raise AgentMisbehaved(f"the agent sent an impossible name in a root: {printable(name[:200])}")
    aliases = tuple(alias[:MAX_PATH] for alias in message.aliases)
    return Root(message.id, message.path, frozenset(message.names), aliases)


def _hints(message: Any) -> Hints:
    keep = {key: message.keep[key] for key in _KEEP if key in message.keep}
    return Hints(message.check[:32] or None, message.pull[:32] or None, keep)


def _validator(message: Any) -> Validator:
    """What does not hold together is no validator: it says nothing about the files."""
    if len(message.command) > _MAX_WORDS or len(message.beside) > _MAX_WORDS or len(message.directories) > _MAX_WORDS:
        return Validator()
    command, beside, directories = tuple(message.command), tuple(message.beside), tuple(message.directories)
    if sum(map(len, (*command, *directories))) > _MAX_ARGUMENTS or any("\0" in word for word in command):
        return Validator()
    program = command[0] if command else ""
    if not program or "/" in program or not all(map(valid_name, beside)) or not all(map(_plain, directories)):
        return Validator()
    return Validator(command, beside, directories)


def _plain(directory: str) -> bool:
    names = directory.split("/")
    return names[0] == "" and not {"", ".", ".."}.intersection(names[1:]) and "\0" not in directory
