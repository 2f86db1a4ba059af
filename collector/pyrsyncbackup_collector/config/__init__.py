"""What the administrator wrote: TOML in, validated and frozen configuration out."""

from pyrsyncbackup_collector.config.load import DEFAULT_FILE, load
from pyrsyncbackup_collector.config.model import Config, CopyConfig, HostConfig, Keep, Limits, Rule, Space
from pyrsyncbackup_collector.config.policy import Policy, effective, retention_rules

__all__ = [
    "DEFAULT_FILE",
    "Config",
    "CopyConfig",
    "HostConfig",
    "Keep",
    "Limits",
    "Policy",
    "Rule",
    "Space",
    "effective",
    "load",
    "retention_rules",
]
