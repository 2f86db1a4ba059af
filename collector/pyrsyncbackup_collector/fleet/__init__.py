"""The hosts that are backed up and the route to each."""

from pyrsyncbackup_collector.fleet.hosts import Fleet, Host, Ssh, hops, link_hops, newcomer

__all__ = ["Fleet", "Host", "Ssh", "hops", "link_hops", "newcomer"]
