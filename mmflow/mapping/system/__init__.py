"""The system that this process runs on.

Nothing else in `mapping` and `arrays` asks which system it is.
"""

from __future__ import annotations

import sys

from mmflow.mapping.system.portable import FileAdvice, PageAdvice, RangeLock, System

if sys.platform == "win32":
    from mmflow.mapping.system.windows import WindowsSystem as _ThisSystem
elif sys.platform == "darwin":
    from mmflow.mapping.system.macos import MacSystem as _ThisSystem
else:
    from mmflow.mapping.system.linux import LinuxSystem as _ThisSystem

__all__ = ["FileAdvice", "PageAdvice", "RangeLock", "System", "system"]

system: System = _ThisSystem()
