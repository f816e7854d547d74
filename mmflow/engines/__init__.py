"""Engines, which decide where and when tasks run, and the loop that drives one."""

from mmflow.engines.protocol import Engine, Resources
from mmflow.scheduler.progress import Progress, StageProgress

__all__ = ["Engine", "Progress", "Resources", "StageProgress"]
