"""Found by Python at its start when this folder is on its path: the wall clock is off by TEST_CLOCK_SHIFT_S seconds."""

import os
import time

_shift_s, _true = float(os.environ.get("TEST_CLOCK_SHIFT_S", "0")), time.time  # noqa: TID251 - before any setting
time.time = lambda: _true() + _shift_s
