"""Where many small stores are made one after another: nothing there waits for a disk."""

from __future__ import annotations

import os

# None: where temporary files lie.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
