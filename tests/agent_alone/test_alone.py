"""Run in an environment that holds proto and agent only: the agent is complete without the collector."""

import importlib
import importlib.util
import pkgutil

import pyrsyncbackup_agent


def test_the_collector_cannot_be_imported():
    assert importlib.util.find_spec("pyrsyncbackup_collector") is None
    assert importlib.util.find_spec("peewee") is None
    assert importlib.util.find_spec("sshtunnel") is None


def test_every_module_of_the_agent_can_be_imported():
    names = [module.name for module in pkgutil.walk_packages(pyrsyncbackup_agent.__path__, "pyrsyncbackup_agent.")]
    assert names
    for name in names:
        if not name.endswith("__main__"):
            importlib.import_module(name)
