"""Where and when tasks run: the scheduler, and the engines that it drives."""

from mmflow.engines.base import Engine, Resources
from mmflow.engines.progress import Progress, StageProgress

__all__ = ["Engine", "Progress", "Resources", "StageProgress"]
