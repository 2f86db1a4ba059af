"""What the administrator wrote: TOML in, validated and frozen configuration out."""

from pyrsyncbackup_collector.config.load import DEFAULT_FILE, load
from pyrsyncbackup_collector.config.model import Config, HostConfig, Keep, Limits, Rule
from pyrsyncbackup_collector.config.policy import Policy, effective

__all__ = ["DEFAULT_FILE", "Config", "HostConfig", "Keep", "Limits", "Policy", "Rule", "effective", "load"]
