"""The past as a read-only file system: all hosts, modules and snapshots of a store."""
