"""The hosts that are backed up and the route to each."""

from pyrsyncbackup_collector.fleet.hosts import Fleet, Host, Ssh

__all__ = ["Fleet", "Host", "Ssh"]
