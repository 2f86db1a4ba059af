"""One owner for each foreign thing: where else it appears, the border has a hole."""

import pytest

from tests.support import source

AGENT = "pyrsyncbackup_agent."
COLLECTOR = "pyrsyncbackup_collector."

# What may be imported -> the modules that may do so.
OWNERS = {
    "pyrsyncbackup.v1": {
        AGENT + "messages",
        AGENT + "relay",
        AGENT + "server",
        AGENT + "service",
        COLLECTOR + "transport.agent_client",
        COLLECTOR + "transport.relay_client",
    },
    "grpc": {
        AGENT + "relay",
        AGENT + "server",
        AGENT + "service",
        AGENT + "slots",
        AGENT + "statuses",
        COLLECTOR + "transport.agent_client",
        COLLECTOR + "transport.relay_client",
        COLLECTOR + "transport.rpc_errors",
        COLLECTOR + "transport.stream",
    },
    "grpc_health": {AGENT + "server"},
    "grpc_reflection": {AGENT + "server"},
    "sshtunnel": {COLLECTOR + "transport.ssh_tunnel"},
    "paramiko": {COLLECTOR + "transport.ssh_tunnel"},
    "obstore": {COLLECTOR + "copies.s3"},
    "pyrage": {COLLECTOR + "copies.seal"},
    "cronsim": {COLLECTOR + "config.calendar"},
    "peewee": {COLLECTOR + "catalog.database", COLLECTOR + "catalog.tables"},
    # about asks rsync for its version, modules.host asks the package manager; both run nothing but what they name.
    "subprocess": {
        AGENT + "about",
        AGENT + "modules.host",
        AGENT + "processes",
        AGENT + "rsyncd",
        COLLECTOR + "copies.restic_process",
        COLLECTOR + "copies.rsync_process",
        COLLECTOR + "drill.validator",
        COLLECTOR + "pull.rsync_process",
        COLLECTOR + "pull.sandbox",
        COLLECTOR + "transport.openssh_process",
    },
    # The agent has no schedule: deadlines of its own children and connections, and how young a change is.
    "time": {
        AGENT + "dial",
        AGENT + "entries.lookup",
        AGENT + "entries.walk",
        AGENT + "hooks",
        AGENT + "lease",
        AGENT + "probing",
        COLLECTOR + "clock",
    },
    "mfusepy": {COLLECTOR + "mount.filesystem"},
    "pyfastcdc": {COLLECTOR + "store.cutting"},
    "zstandard": {
        COLLECTOR + "mount.index",
        COLLECTOR + "store.manifest",
        COLLECTOR + "store.objects",
        COLLECTOR + "store.rehash",
    },
    # System calls that Python has no name for.
    "ctypes": {
        AGENT + "entries.nearby",
        AGENT + "memory",
        AGENT + "processes",
        COLLECTOR + "copies.directory",
        COLLECTOR + "drill.ports",
        COLLECTOR + "pull.landlock",
        COLLECTOR + "store.beneath",
        COLLECTOR + "store.placing",
    },
    "asyncio": set(),
    "multiprocessing": set(),
}

# The same for what needs no import of its own.
STARTS_PROCESSES = {
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.posix_spawnp",
    "os.system",
    "os.popen",
    "os.execv",
    "os.execve",
    "os.execvp",
    "os.execvpe",
}
MAY_START_PROCESSES = {AGENT + "key", COLLECTOR + "drill.ports", COLLECTOR + "pull.landlock"}


@pytest.mark.parametrize("foreign", OWNERS)
def test_a_foreign_thing_is_imported_by_its_owners_only(foreign):
    users = {
        name
        for name, module in source.modules().items()
        if any(imported == foreign or imported.startswith(foreign + ".") for imported in source.imports(module))
    }
    assert users == OWNERS[foreign]


def test_processes_are_started_in_the_process_files_only():
    users = {name for name, module in source.modules().items() if source.names_used(module) & STARTS_PROCESSES}
    assert users == MAY_START_PROCESSES


def test_the_wall_clock_is_read_by_the_clock_only():
    readers = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
    users = {
        name
        for name, module in source.modules().items()
        if source.names_used(module) & readers and name.startswith(COLLECTOR)
    }
    assert users <= {COLLECTOR + "clock"}
