"""Agent of pyRsyncBackup: finds out which backup modules a host has and offers them by gRPC."""

__version__ = "0.1.0"
