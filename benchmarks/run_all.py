"""Every figure that the project promises, measured one after the other, as one table: benchmarks/RESULTS.md.

    uv run python benchmarks/run_all.py                   # about half an hour; nothing else should run
    uv run python benchmarks/run_all.py --only install --only help
    uv run python benchmarks/run_all.py --keep figures    # part by part: what is in the folder is not measured again

Each part is a program of this folder, or a measurement below, in processes of its own. What was not measured has no
row, and RESULTS.md is written only when every part was.
"""

import importlib.metadata
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from packaging.requirements import Requirement
from packaging.tags import Tag, sys_tags
from packaging.utils import parse_wheel_filename

from utils import curriculum
from utils.cli import show_table
from utils.errors import InputError, JobFailed

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "RESULTS.md"
SHOWN = ("mlflow", "pyspark", "langchain", "llama-index-core", "lancedb", "fastembed", "pandas")
TOUR_LINE = re.compile(r"^(?P<number>\d\.\d) .*done, (?P<seconds>[\d.]+) s$", re.M)


@dataclass(frozen=True)
class Figure:
    """One promise. met: None where the sample shows the value only."""

    part: str
    what: str
    limit: str
    value: str
    met: bool

    def row(self) -> dict[str, str]:
        return {
            "figure": self.what,
            "must reach": self.limit,
            "measured": self.value,
            "met": "yes" if self.met else "NO",
        }


@dataclass
class Measured:
    """The figures of a part, when it began, and the load average of the minute before."""

    part: str
    began: str
    load: float
    figures: list[Figure] = field(default_factory=list)

    def said(self) -> str:
        return f"{self.part}: {self.began}, load average {self.load:.1f}"


def at_least(part: str, what: str, limit: float, value: float) -> Figure:
    return Figure(part, what, f"at least {limit:g}", f"{value:.3f}", value >= limit)


def at_most(part: str, what: str, limit: float, value: float, unit: str = "") -> Figure:
    return Figure(part, what, f"at most {limit:g}{unit}", f"{value:.2f}{unit}", value <= limit)


def program(name: str, folder: Path, *flags: str) -> Any:
    """Run a program of this folder; what it wrote as JSON.

    Raises:
        JobFailed: it ended with another status than 0.
    """
    path = folder / f"{name}.json"
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *flags, "--json", str(path)]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise JobFailed(f"{name} did not end well", f"uv run python benchmarks/{name}.py {' '.join(flags)}")
    return json.loads(path.read_text())


def spark_llm(folder: Path) -> list[Figure]:
    rows = {row["variant"]: row for row in program("spark_llm", folder)["figures"]}
    part, of_ideal = "spark_llm", "2,000 rows at 100 ms, 32 in flight, over the ideal: "
    return [
        at_least(part, of_ideal + "OpenAI SDK", 0.85, rows["OpenAI SDK, untraced"]["of the ideal"]),
        at_least(part, of_ideal + "LangChain", 0.8, rows["LangChain, untraced"]["of the ideal"]),
        at_least(part, "a span for every call, over untraced", 0.6,
                 rows["OpenAI SDK, a span for every call"]["of untraced"]),
        at_least(part, "5 % of the rows traced, over untraced", 0.9,
                 rows["OpenAI SDK, 5 % of the rows traced"]["of untraced"]),
    ]  # fmt: skip


def batch_inference(folder: Path) -> list[Figure]:
    figures = program("batch_inference", folder)
    return [at_least("batch_inference", "resumable job of 8.2, over the ideal", 0.85, figures["of the ideal"])]


def rag_scale(folder: Path) -> list[Figure]:
    found = program("rag_scale", folder)
    last = [row for row in found["figures"] if row["way"] == "Spark and LanceDB"][-1]
    part, what = "rag_scale", f"{last['documents']:,} documents to an index on disk: "
    return [
        at_most(part, what + "time", 180, last["total s"], " s"),
        at_most(part, what + "driver with its Java", 1.5, (last["driver MB"] + last["Java MB"]) / 1024, " GiB"),
        at_most(part, what + "time per document, over that at 1,000", 1.2, found["growth"]["ms/document"]),
    ]


def serve_load(folder: Path) -> list[Figure]:
    found = program("serve_load", folder)
    added = {(row["way"], row["traces"]): row["added p50 ms"] for row in found["added"]}
    failed = sum(row["failed"] for row in found["load"] if row["way"] == "served")
    what = "served agent at 50 requests/s: added p50, "
    ways = {"none": "untraced", "default": "25 traces/s (its default)", "all": "every request traced"}
    return [
        *(at_most("serve_load", what + said, 5, added["served", traces], " ms") for traces, said in ways.items()),
        at_most("serve_load", "served agent: requests that failed, all loads", 0, failed),
    ]


def cpu_seconds(command: list[str]) -> float:
    """CPU of a process and its children, with compiled packages."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def help_pages(_folder: Path) -> list[Figure]:
    """The command whose --help takes the most CPU; the least of some tries, since noise only ever adds.

    All are tried three times, and the five that look worst ten times, in turn with `import mlflow`.
    """
    scripts = Path(sys.executable).parent
    names = list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"])
    bare = [sys.executable, "-c", "import mlflow"]
    pages = {name: [str(scripts / name), "--help"] for name in names}
    first = {name: min(cpu_seconds(page) for _ in range(3)) for name, page in pages.items()}
    worst = sorted(names, key=lambda name: -first[name])[:5]
    rounds = [[cpu_seconds(command) for command in (bare, *(pages[name] for name in worst))] for _ in range(10)]
    base, *least = (min(column) for column in zip(*rounds, strict=True))
    taken = dict(zip(worst, least, strict=True))
    name = max(taken, key=lambda name: taken[name])
    what = f"CPU of --help over that of import mlflow, the worst of {len(names)}: {name}"
    return [at_most("help", what, 1.2, taken[name] / base)]


def tour(folder: Path) -> list[Figure]:
    """All lessons with mock in one store, each a process."""
    begun = time.monotonic()
    learn = str(Path(sys.executable).with_name("mlflow-learn"))
    command = [learn, "--tracking-uri", f"sqlite:///{folder}/tour-{time.time_ns()}.db", "tour"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    minutes = (time.monotonic() - begun) / 60
    taken = {found["number"]: float(found["seconds"]) for found in TOUR_LINE.finditer(done.stdout)}
    if done.returncode or not taken:
        click.echo(done.stdout + done.stderr)
        raise JobFailed("the tour did not end well", "uv run mlflow-learn tour")
    longest = max(taken, key=lambda number: taken[number])
    return [
        at_most("tour", f"mlflow-learn tour, {len(taken)} of {len(curriculum.LESSONS)} lessons", 8, minutes, " min"),
        at_most("tour", f"its longest lesson: {longest}", 60, taken[longest], " s"),
    ]


def synced() -> set[tuple[str, str]]:
    """(name, version) of each package that a plain `uv run` installs on this machine: no extra, the group dev."""
    command = ["uv", "export", "--frozen", "--no-hashes", "--no-emit-project", "--no-annotate", "--no-header"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    needed = [Requirement(line) for line in listed.splitlines()]
    here = [found for found in needed if found.marker is None or found.marker.evaluate()]
    return {(found.name, next(iter(found.specifier)).version) for found in here}


def download_bytes(package: dict[str, Any], order: dict[Tag, int]) -> int:
    """Of the best wheel for this machine, or of the source where there is no wheel for it."""
    fits = [
        (order[tag], wheel["size"])
        for wheel in package.get("wheels", [])
        for tag in parse_wheel_filename(wheel["url"].rsplit("/", 1)[1].replace("%2B", "+"))[3]
        if tag in order
    ]
    return int(min(fits)[1] if fits else package["sdist"]["size"])


def install(_folder: Path) -> list[Figure]:
    """Bytes of the files behind what `uv run mlflow-learn` installs, as uv.lock has them."""
    try:
        packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    except OSError as error:
        raise InputError("there is no uv.lock in the checkout", "uv sync, which writes it") from error
    order = {tag: place for place, tag in enumerate(sys_tags())}
    needed = synced()
    sizes = {
        package["name"]: download_bytes(package, order)
        for package in packages
        if (package["name"], package.get("version")) in needed
    }
    if len(sizes) != len(needed):
        raise JobFailed("uv.lock does not hold every package that uv exports", "uv lock")
    heavy = [name for name in sizes if name.startswith(("torch", "nvidia-"))]
    return [
        at_most("install", f"{len(sizes)} packages that `uv run mlflow-learn` downloads", 900,
                sum(sizes.values()) / 1e6, " MB"),
        at_most("install", "of them torch or CUDA", 0, len(heavy)),
    ]  # fmt: skip


PARTS: dict[str, Callable[[Path], list[Figure]]] = {
    "install": install, "help": help_pages, "serve_load": serve_load, "spark_llm": spark_llm,
    "batch_inference": batch_inference, "rag_scale": rag_scale, "tour": tour,
}  # fmt: skip


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SHOWN)
    where = f"{os.cpu_count()} cores ({platform.machine()}), {memory:.0f} GiB, {platform.system()}"
    return f"{where}, Python {platform.python_version()}, {versions}"


def measured(part: str, folder: Path) -> Measured:
    """The figures of a part: those that the folder holds, or new ones, which are written there."""
    path = folder / f"{part}.figures.json"
    if path.exists():
        kept = json.loads(path.read_text())
        return Measured(part, kept["began"], kept["load"], [Figure(**figure) for figure in kept["figures"]])
    found = Measured(part, time.strftime("%Y-%m-%d %H:%M"), os.getloadavg()[0])
    click.echo(found.said())
    found.figures += PARTS[part](folder)
    path.write_text(json.dumps(asdict(found), indent=1))
    return found


def write_results(parts: list[Measured]) -> None:
    lines = [
        "# Results", "",
        "Written by `uv run python benchmarks/run_all.py`. Ratios compare things within one part; seconds are those of",
        "this machine. When each part began, with the load average of that minute, to which the part before adds:", "",
        *(f"- {part.said()}" for part in parts), "",
        f"{machine()}.", "",
        "| figure | must reach | measured | met |", "|---|---|---|---|",
        *("| " + " | ".join(figure.row().values()) + " |" for part in parts for figure in part.figures), "",
    ]  # fmt: skip
    RESULTS.write_text("\n".join(lines))


@click.command()
@click.option("--only", multiple=True, type=click.Choice(tuple(PARTS)), help="May be repeated; writes no RESULTS.md.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False),
              help="Folder for the figures; what it holds is not measured again.")  # fmt: skip
def main(only: tuple[str, ...], keep: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = (keep or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        parts = [measured(part, folder) for part in only or PARTS]
    show_table([figure.row() for part in parts for figure in part.figures], title=machine())
    if not only:
        write_results(parts)
        click.echo(f"Written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
