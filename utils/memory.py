"""How much memory and CPU processes took: what the operating system counted, not an estimate."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def own_peak_mb() -> float | None:
    """The most memory that this process has had since it began, in megabytes; None where nobody counts it (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kilobytes elsewhere


def peak_mb(pid: int) -> float | None:
    """The same of another process; None where the system keeps no such count (anything but Linux), or it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM:")), None)


def tree_cpu_s() -> float | None:
    """CPU seconds that this process and all that it started and that still run have used; None but on Linux.

    Unlike the time that passes it hardly depends on what else the machine does.
    """
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        parents[int(path.parent.name)] = int(fields[1])
        spent[int(path.parent.name)] = (int(fields[11]) + int(fields[12])) / ticks
    family = {os.getpid()} & spent.keys()
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return sum(spent[pid] for pid in family) or None


def jvm_peak_mb(session: "SparkSession") -> float | None:
    """Of the Java process beside the driver; with a master `local[…]` it is where Spark computes."""
    process = getattr(session.sparkContext._gateway, "proc", None)
    return peak_mb(process.pid) if process else None
