"""The agent's commands: one row each in `COMMANDS`. Decides what is printed and the exit code, nothing else.

Results go to stdout, problems as `error: cause` with the next step to stderr. Whatever came from the host's files is
made printable first; JSON carries it as it is, escaped by JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup_agent import __version__, key, peers, probing, readiness, settings
from pyrsyncbackup_agent.errors import AgentError, RelayDisabled, SettingsError
from pyrsyncbackup_agent.modules import DetectedModule, ModuleState, Registry, Root
from pyrsyncbackup_agent.printable import printable

EXIT_CODES = "exit codes: 0 done, 1 failed, 2 wrong usage, 3 configuration, 4 identity or invitation, 5 modules"

Arguments = argparse.Namespace


def _no_options(parser: argparse.ArgumentParser) -> None:
    del parser


@dataclass(frozen=True)
class Command:
    """A subcommand: `run` gets the parsed arguments and returns the exit code."""

    name: str
    summary: str
    run: Callable[[Arguments], int]
    options: Callable[[argparse.ArgumentParser], None] = _no_options


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    try:
        return command.run(arguments)
    except SettingsError as error:
        _complain(error.problems, error.hint)
        return error.exit_code
    except AgentError as error:
        _complain([error.cause], error.hint)
        return error.exit_code
    except BrokenPipeError:
        # Who read our output has seen enough; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyrsyncbackup-agent",
        description="Offers the backup modules of this host to the collectors that it trusts.",
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    _add_config(parser, default=None)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(command.name, help=command.summary, description=command.summary, epilog=EXIT_CODES)
        # Accepted before and after the command's name; not given after it, the one before stays.
        _add_config(sub, default=argparse.SUPPRESS)
        command.options(sub)
        sub.set_defaults(command=command)
    return parser


def _add_config(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=default,
        help=f"settings of the agent (default: {settings.DEFAULT_FILE}, which may be missing)",
    )


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _complain(problems: Sequence[str], hint: str) -> None:
    for problem in problems:
        print(f"error: {printable(problem)}", file=sys.stderr)
    if hint:
        print(f"  next: {printable(hint)}", file=sys.stderr)


def _modules_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="MODULE", help="only these modules")
    parser.add_argument("--json", action="store_true", help="print JSON, with everything that is known")


def _modules(arguments: Arguments) -> int:
    registry = Registry(settings.load(arguments.config))
    found = registry.modules()
    if arguments.names:
        unknown = set(arguments.names) - {module.name for module in found}
        if unknown:
            _complain([f"no module is named {name}" for name in sorted(unknown)], "list them without a name")
            return 5
        found = [module for module in found if module.name in arguments.names]
    if arguments.json:
        json.dump({"modules": [_as_json(module) for module in found]}, sys.stdout, indent=2)
        print()
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print("\n".join(_table(found, width)))
    _complain(registry.problems(), "")
    return 0


# Columns, of a terminal: less is too little for a path.
MIN_COLUMN = 40

_STATE_ORDER = (ModuleState.READY, ModuleState.INVALID, ModuleState.ABSENT)


def _table(modules: Sequence[DetectedModule], width: int | None = None) -> list[str]:
    """Name, state, title, and the paths of a ready module, else the reason; one line each, or wrapped to `width`."""
    ordered = sorted(modules, key=lambda module: (_STATE_ORDER.index(module.state), module.name))
    rows = [("MODULE", "STATE", "TITLE", "PATHS, OR WHY NOT")]
    for module in ordered:
        says = " ".join(map(_shown, module.roots)) or module.reason
        rows.append((module.name, module.state.value, printable(module.title), says))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [line for row in rows for line in _row(row, widths, width)]
    count = {state: sum(module.state is state for module in modules) for state in _STATE_ORDER}
    lines += ["", ", ".join(f"{number} {state.value}" for state, number in count.items())]
    return lines + [f"note: {module.name}: {note}" for module in ordered for note in module.notes]


def _row(cells: tuple[str, ...], widths: Sequence[int], width: int | None) -> list[str]:
    *fixed, last = cells
    start = "  ".join(cell.ljust(size) for cell, size in zip(fixed, widths, strict=True)) + "  "
    if width is None:
        return [start + last]
    # A narrow last column makes long lists of single words: below it is better read.
    below = width - len(start) < MIN_COLUMN
    indent = " " * (4 if below else len(start))
    wrapped = textwrap.wrap(last, width - len(indent), break_long_words=False, break_on_hyphens=False) or [""]
    first = [start.rstrip(), indent + wrapped[0]] if below else [start + wrapped[0]]
    return [*first, *(indent + line for line in wrapped[1:])]


def _shown(root: Root) -> str:
    directory = b"/" + root.path
    if not root.names:
        return printable(directory)
    return " ".join(printable(os.path.join(directory, name)) for name in sorted(root.names))


def _as_json(module: DetectedModule) -> dict[str, object]:
    return {
        "name": module.name,
        "title": module.title,
        "state": module.state.value,
        "reason": module.reason,
        "roots": [
            {
                "id": root.id,
                "path": "/" + os.fsdecode(root.path),
                "names": sorted(map(os.fsdecode, root.names)),
                "aliases": ["/" + os.fsdecode(alias) for alias in root.aliases],
            }
            for root in module.roots
        ],
        "exclude": list(module.excludes),
        "include": list(module.includes),
        "hooks": {"before": module.hooks.before, "after": module.hooks.after, "timeout": module.hooks.timeout},
        "validate": {"command": module.validator.command, "with": module.validator.beside},
        "hints": {"check": module.hints.check, "pull": module.hints.pull, "keep": module.hints.keep},
    }


def _check(arguments: Arguments) -> int:
    loaded = settings.load(arguments.config)
    registry = Registry(loaded)
    modules = registry.modules()
    found = peers.read(loaded.relay.peers, loaded.peers_dir) if loaded.relay.enabled else peers.Peers()
    problems = readiness.problems(loaded) + list(found.problems)
    faults = [f"module {module.name}: {module.reason}" for module in modules if module.state is ModuleState.INVALID]
    faults += registry.problems()
    _complain(problems + faults, "")
    ready = sum(module.ready for module in modules)
    read_from = loaded.file or "defaults (no file)"
    if problems or faults:
        print(f"settings: {read_from}; {len(problems) + len(faults)} problems", file=sys.stderr)
        return SettingsError.exit_code if problems else 5
    print(f"settings: {read_from}; {ready} of {len(modules)} modules ready; no problems")
    print("\n".join(_about_peers(loaded, found)))
    print(printable(f"restores: into {loaded.restore.directory}" if loaded.restore.enabled else "restores: refused"))
    return 0


def _about_peers(loaded: settings.Settings, found: peers.Peers) -> list[str]:
    """A peer that does not answer is no problem of this agent."""
    if not loaded.relay.enabled:
        ignored = len(loaded.relay.peers)
        return [f"relay: off; the peers in the file are ignored ({ignored})" if ignored else "relay: off"]
    if not found.by_name:
        return [f"relay: on, but it knows no peer; define some in {loaded.peers_dir}"]
    answers = probing.probe_all(found.by_name.values())
    count = sum(answer.answers for answer in answers)
    return [f"relay: on; {count} of {len(answers)} peers answer"] + [
        printable(f"note: peer {answer.peer.name}: {answer.peer.address}: {answer.reason}")
        for answer in answers
        if not answer.answers
    ]


def _peers(arguments: Arguments) -> int:
    loaded = settings.load(arguments.config)
    if not loaded.relay.enabled:
        raise RelayDisabled("this agent has no relay mode", "set [relay] enabled = true in its agent.toml")
    found = peers.read(loaded.relay.peers, loaded.peers_dir)
    answers = probing.probe_all(found.by_name.values())
    if arguments.json:
        json.dump({"peers": [_peer_as_json(answer) for answer in answers]}, sys.stdout, indent=2)
        print()
    else:
        rows = [("PEER", "ADDRESS", "TITLE", "ANSWERS")]
        rows += [
            (
                answer.peer.name,
                printable(answer.peer.address),
                printable(answer.peer.title),
                printable(answer.reason) or f"in {answer.connect_us / 1000:.1f} ms",
            )
            for answer in answers
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        print("\n".join(line for row in rows for line in _row(row, widths, None)))
    _complain(found.problems, "")
    return SettingsError.exit_code if found.problems else 0


def _peer_as_json(answer: probing.Answer) -> dict[str, object]:
    return {
        "name": answer.peer.name,
        "address": answer.peer.address,
        "title": answer.peer.title,
        "answers": answer.answers,
        "reason": answer.reason,
        "connect_us": answer.connect_us,
    }


def _serve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verbose", action="store_true", help="log more")
    parser.add_argument(
        "--grace",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="time for open sessions after SIGTERM (10)",
    )


def _serve(arguments: Arguments) -> int:
    loaded = settings.load(arguments.config)
    own = key.read(loaded.identity_dir)
    if not arguments.verbose:
        # Its lines about a port in use or a failed handshake say less than ours, in a form of their own.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # gRPC takes a quarter of a second to import: the other commands go without.
    from pyrsyncbackup_agent import logs, server

    logs.configure(arguments.verbose)
    return server.serve(loaded, own, arguments.grace)


def _identity(arguments: Arguments) -> int:
    from pyrsyncbackup_agent import identity

    loaded = settings.load(arguments.config)
    own = identity.own(loaded.identity_dir)
    if arguments.json:
        facts = {"name": loaded.name, "fingerprint": own.fingerprint, "certificate": own.certificate_pem.decode()}
        json.dump(facts, sys.stdout, indent=2)
        print()
    else:
        print(f"{loaded.name}  {own.fingerprint}")
    return 0


def _accept_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="the invitation, as `pyrsyncbackup invitation` prints it; - for stdin"
    )
    parser.add_argument("--replace", action="store_true", help="also if the collector is known with another key")


def _accept(arguments: Arguments) -> int:
    from pyrsyncbackup_agent import identity

    loaded = settings.load(arguments.config)
    accepted = identity.accept(
        identity.read_invitation(arguments.file), loaded.collectors_dir, replace=arguments.replace
    )
    again = " already" if accepted.was_known else ""
    own = identity.own(loaded.identity_dir)
    print(f"collector {accepted.name} is trusted{again}: {accepted.fingerprint}")
    print(f"this agent is {loaded.name}: {own.fingerprint}")
    where = f"127.0.0.1:{loaded.listen_port}"
    print("To let it in through SSH, add this line to the authorized_keys of the user it logs in as:")
    print(f'restrict,port-forwarding,permitopen="{where}" {printable(accepted.ssh_public_key)}')
    return 0


COMMANDS: tuple[Command, ...] = (
    Command("serve", "offer the modules to the collectors, until stopped", _serve, _serve_options),
    Command("modules", "show the modules of this host: ready, absent or invalid, and why", _modules, _modules_options),
    Command("peers", "show the peers of a relay, and which of them answer now", _peers, _json_option),
    Command("check", "check settings, module definitions, peers, rsync and directories", _check),
    Command("identity", "show this agent's name and the fingerprint of its key", _identity, _json_option),
    Command("accept", "trust the collector of an invitation", _accept, _accept_options),
)
