"""What the benchmarks of reading share: times, and the peak memory of reading a log."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_PEAK = """
import sys
from taut.engines.local import read_rollouts
read_rollouts(sys.argv[1])
status = dict(line.split(":") for line in open("/proc/self/status"))
print(int(status["VmHWM"].split()[0]) / 1024)
"""


def seconds(task: Callable[[Path], object], path: Path) -> tuple[float, float]:
    """Return wall and processor seconds; the second says more on a busy machine."""
    start = time.perf_counter(), time.process_time()
    task(path)
    return time.perf_counter() - start[0], time.process_time() - start[1]


def peak_mb(path: Path) -> float:
    """Return the most that a process holds that reads a log, MB; NaN where nobody says."""
    if not sys.platform.startswith("linux"):
        return float("nan")
    out = subprocess.run([sys.executable, "-c", _PEAK, path], capture_output=True, check=True)
    return float(out.stdout)
