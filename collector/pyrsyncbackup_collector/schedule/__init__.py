"""What is due, and when."""

from pyrsyncbackup_collector.schedule.board import Board, CheckJob, Job, PullJob, Slots

__all__ = ["Board", "CheckJob", "Job", "PullJob", "Slots"]
