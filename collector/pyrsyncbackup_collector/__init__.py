"""Collector of pyRsyncBackup: pulls what agents offer into immutable snapshots."""

__version__ = "0.1.0"
