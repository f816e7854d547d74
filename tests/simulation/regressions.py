"""Scripts of histories that once went wrong, by what was wrong."""

from __future__ import annotations

from tests.simulation.history import Actor, Script
from tests.simulation.world import Fault

__all__ = ["REGRESSIONS"]

REGRESSIONS: dict[str, Script] = {
    "rows appended twice, on an object store": Script(
        688, "group", "append", "object", "local", True, False, True, (5, 2),
        (Actor(0.0, "drive"), Actor(4.988, "other"), Actor(0.0, "recode")),
        (Fault(76, "eio", 3.981),),
    ),
    "rows appended twice": Script(
        2704, "copy", "append", "local", "local", True, False, True, (7,),
        (Actor(0.0, "drive"), Actor(18.416, "other")),
        (Fault(69, "die", 0.03),),
    ),
    "files of a job that was corrected, in the new folder": Script(
        10027, "group", "replace", "local", "local", True, False, True, (4,),
        (Actor(0.0, "drive"), Actor(12.959, "recode")),
        (Fault(74, "eio", 0.001, "fsync"),),
    ),
    "an old object that a listing did not show": Script(
        16398, "group", "replace", "object", "local", True, False, True, (0,),
        (Actor(0.0, "drive"), Actor(41.152, "other")),
        (Fault(156, "stale", 575.705),),
    ),
    "checkpoints of a run that is done": Script(
        19, "copy", "error", "local", "local", True, False, False, (6,),
        (Actor(0.0, "drive"),),
        (Fault(78, "die after", 0.0, "rmdir"),),
    ),
    "a run that a power cut took, and its output stayed": Script(
        4670536, "group", "append", "local", "local", False, False, False, (3,),
        (Actor(0.0, "drive"),),
        (Fault(88, "power"),),
    ),
    "objects of a driver that hung, over those of its successor": Script(
        4040669, "copy", "replace", "object", "object", True, False, True, (8,),
        (Actor(0.0, "drive"), Actor(0.173, "recode")),
        (Fault(19, "hang", 854.391),),
    ),
    "an output whose run died before it synced the folder": Script(
        410, "gather", "error", "local", "local", False, True, True, (4,),
        (Actor(0.0, "drive"), Actor(60.0, "drive")),
        (Fault(29, "die after", 0.0, "rename"), Fault(600, "power")),
    ),
    "a commit whose note was not synced by the one that took it": Script(
        1040293, "gather", "error", "local", "local", False, True, False, (0,),
        (Actor(0.0, "drive"), Actor(0.985, "other"), Actor(0.353, "other"), Actor(9.466, "cancel")),
        (Fault(21, "power", 0.029, "/result"), Fault(99, "die", 1.91)),
        uneven=0.6, cut=True, leaves=True,
    ),
    "the journal of an earlier driver, not synced by the next": Script(
        7, "gather", "error", "local", "local", True, True, False, (2,),
        (Actor(0.0, "drive"), Actor(30.0, "drive")),
        (Fault(70, "die"), Fault(101, "power")),
    ),
    "objects of a driver, deleted by one that had hung": Script(
        1, "copy", "append", "object", "object", True, False, True, (3, 2),
        (Actor(0.0, "drive"), Actor(60.0, "second")),
        (Fault(46, "hang", 128.0, "/intent"), Fault(159, "pause", 20.0)),
    ),
    "a cancellation of a run that a power cut took": Script(
        1074481, "sort", "replace", "local", "local", True, False, True, (8,),
        (Actor(0.0, "drive"), Actor(0.814, "other"), Actor(33.578, "cancel")),
        (
            Fault(3, "power", 453.8, "/_mmflow_manifest"), Fault(13, "die after", 3.444, "-lock"),
            Fault(42, "eio", 685.123, "/placed"), Fault(157, "eio", 254.532),
        ),
        uneven=0.1, cut=True,
    ),
    "blocks of a worker that was cancelled while it hung": Script(
        1309768, "sort", "append", "local", "local", False, False, True, (8, 8),
        (Actor(0.0, "drive"), Actor(0.758, "other")),
        (
            Fault(4, "power", 0.022, "/blocks/"), Fault(4, "power", 12.718, "/result"),
            Fault(87, "die", 289.379), Fault(249, "hang", 258.187),
        ),
        swaps=True, leaves=True,
    ),
    "the intent of a driver, overwritten by one that had hung": Script(
        1, "copy", "replace", "object", "object", True, False, True, (3, 2),
        (Actor(0.0, "drive"), Actor(60.0, "recode")),
        (Fault(46, "hang", 128.0, "/intent"), Fault(196, "pause", 20.0), Fault(199, "die after")),
    ),
}  # fmt: skip
