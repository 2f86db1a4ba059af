"""Version 1 of the wire protocol: generated messages and stubs."""
