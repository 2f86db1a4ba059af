"""Which backup modules this host has: definitions, their precedence, detection.

`definition` is what a file says, `sources` which file counts, `host` what is installed, `roots` where paths really
lead, `detection` what comes of it, `registry` keeps it current.
"""

from __future__ import annotations

from pyrsyncbackup_agent.modules.definition import Detect, Hints, Hooks
from pyrsyncbackup_agent.modules.detected import DetectedModule, ModuleState, Root
from pyrsyncbackup_agent.modules.registry import Registry

__all__ = ["Detect", "DetectedModule", "Hints", "Hooks", "ModuleState", "Registry", "Root"]
