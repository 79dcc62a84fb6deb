"""How much memory processes took at most: what the operating system counted, not an estimate."""

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


def jvm_peak_mb(session: "SparkSession") -> float | None:
    """Of the Java process beside the driver; with a master `local[…]` it is where Spark computes."""
    process = getattr(session.sparkContext._gateway, "proc", None)
    return peak_mb(process.pid) if process else None
