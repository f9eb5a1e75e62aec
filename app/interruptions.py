"""Where tests break a process: at named points between two steps that must both happen or neither.

Off unless the setting `fault_file` names a file, which the production profile refuses. Knows nothing of work.
"""

import os
import signal
import time

from app.settings import Settings

POINTS = ("claimed", "prepared", "answered", "stored", "recorded", "ended", "joined", "taken")


def reach(settings: Settings, point: str) -> None:
    """Do once what the file says about `point`: `<point> SIGKILL`, `<point> SIGSTOP` or `<point> <seconds to wait>`."""
    path = settings.fault_file
    if path is None:
        return
    try:
        wanted, _, act = path.read_text(encoding="ascii").strip().partition(" ")
        if wanted != point:
            return
        path.unlink()  # of several processes here, one acts
    except FileNotFoundError:
        return
    if act.startswith("SIG"):
        os.kill(os.getpid(), signal.Signals[act])
    else:
        time.sleep(float(act))
