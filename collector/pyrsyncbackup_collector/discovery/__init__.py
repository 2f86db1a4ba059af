"""What the modules of the fleet are, as their agents offer them."""

from pyrsyncbackup_collector.discovery.offers import Discovery, ModuleSource, discover

__all__ = ["Discovery", "ModuleSource", "discover"]
