"""5.1 Write the sample documents, and the questions whose gold document is known.

New here: a retriever can only be judged by questions whose right document was written down beforehand.
Run it:   uv run mlflow-sample-documents
          uv run mlflow-sample-documents --output-dir my_documents
Look at:  documents/tracing.md, then utils/data/questions.jsonl, where every question names its gold sentence
Change:   ask one of the other-words questions in the words of its gold sentence; which search profits?
Docs:     https://mlflow.org/docs/latest/ml/dataset/
"""

import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import mlflow
import pandas as pd

from utils.cli import Steps, lesson, show
from utils.errors import InputError
from utils.mlflow_setup import ROOT
from utils.questions import QUESTIONS, Question, load_questions

CORPUS = Path(__file__).resolve().parent / "data" / "documents"
DEFAULT_FOLDER = ROOT / "documents"


@dataclass
class WriteReport:
    """File names by what happened to them; `kept` differ from the sample and were not touched."""

    written: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)


def write_documents(folder: Path, force: bool = False) -> WriteReport:
    """Copy the sample documents into `folder`; a file that differs from its sample stays unless forced.

    Each file is written whole or not at all. Other files in the folder are left alone.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _copy_corpus(folder, force)
    except (FileExistsError, NotADirectoryError) as error:
        cure = "name a folder, for example --output-dir ./documents"
        raise InputError(f"{folder} cannot be a folder: a file stands in its place", cure) from error
    except OSError as error:
        cure = "choose a folder that you may write to with --output-dir"
        raise InputError(f"cannot write to {folder}: {error.strerror or error}", cure) from error


def _copy_corpus(folder: Path, force: bool) -> WriteReport:
    report = WriteReport()
    for source in sorted(path for path in CORPUS.iterdir() if path.suffix in (".md", ".txt")):
        target = folder / source.name
        if _same_text(source, target):
            report.unchanged.append(source.name)
        elif not force and (target.is_symlink() or target.exists()):
            report.kept.append(source.name)
        else:
            _write_whole(target, source.read_bytes())
            report.written.append(source.name)
    return report


def _same_text(source: Path, target: Path) -> bool:
    # Git on Windows may check files out with \r\n: that is no change of the learner's.
    return target.is_file() and target.read_bytes().replace(b"\r\n", b"\n") == source.read_bytes().replace(
        b"\r\n", b"\n"
    )


def _write_whole(target: Path, content: bytes) -> None:
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True)
class Outcome:
    run_id: str
    report: WriteReport
    metrics: dict[str, float]


def run(folder: Path, force: bool) -> Outcome:
    steps = Steps(3)

    # 1. The documents, each written only where nothing of yours would be lost
    report = write_documents(folder, force)
    counts = f"{len(report.written)} written, {len(report.unchanged)} unchanged, {len(report.kept)} kept"
    steps(f"Documents in {folder}: {counts}")

    # 2. The questions: in the words of their gold sentence, in other words, or without an answer
    questions = load_questions()
    kinds = Counter(question.kind for question in questions)
    steps(f"Questions in {QUESTIONS.relative_to(ROOT)}: {', '.join(f'{n} {kind}' for kind, n in kinds.items())}")

    # 3. As a dataset with a digest, so that later scores say which questions they were measured on
    run_id, metrics = log_corpus(folder, questions, kinds)
    steps("Logged the questions as a dataset of the run")
    return Outcome(run_id, report, metrics)


def log_corpus(folder: Path, questions: list[Question], kinds: Counter[str]) -> tuple[str, dict[str, float]]:
    documents = sorted(folder / source.name for source in CORPUS.iterdir())
    metrics: dict[str, float] = {
        "documents": len(documents),
        "words": sum(len(document.read_text(encoding="utf-8").split()) for document in documents),
        **{f"questions_{kind.replace('-', '_')}": count for kind, count in kinds.items()},
    }
    frame = pd.DataFrame([asdict(question) for question in questions])
    with mlflow.start_run(run_name="sample-documents") as active:
        mlflow.log_input(mlflow.data.from_pandas(frame, name="rag-questions"), context="evaluation")
        mlflow.log_metrics(metrics)
        mlflow.log_artifacts(str(CORPUS), artifact_path="documents")
    return active.info.run_id, metrics


@lesson("5.1")
@click.option("--output-dir", type=click.Path(path_type=Path), default=DEFAULT_FOLDER,
              show_default="documents in the checkout", help="Folder that receives the documents.")  # fmt: skip
@click.option("--force", is_flag=True, help="Also overwrite documents that you have changed.")
def main(output_dir: Path, force: bool) -> None:
    outcome = run(output_dir, force)
    for name in outcome.report.kept:
        click.echo(f"      kept your {name} (--force overwrites it)")
    show("5.1", outcome.metrics, run_id=outcome.run_id)


if __name__ == "__main__":
    main()
