"""7.1 Register an agent: prompt, documents, search and model settings become one version.

New here: a version is a file with its settings and documents, and it is worth what a fresh process makes of it.
Run it:   uv run mlflow-register-agent
          uv run mlflow-register-agent --top-k 5 --chunk-tokens 320
          uv run mlflow-register-agent --docs-path my_documents --ask "What does the contract say about notice?"
          uv run mlflow-register-agent --llm-type ollama --ollama-model llama3.2
Look at:  uv run mlflow ui  ->  7-production  ->  Agent versions  ->  docs-agent: its parameters and its artifacts
Change:   edit a file in documents/ and run it again; which tag of the new version differs from the one before?
Docs:     https://mlflow.org/docs/latest/ml/model/models-from-code/
"""

import hashlib
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import shorten
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.models.model import ModelInfo

from utils.cli import Steps, lesson, show, show_table
from utils.document_files import list_documents, read_folder
from utils.errors import CheckFailed, InputError
from utils.genai_setup import traces_flushed
from utils.lesson_context import current_tags, tagged
from utils.llm_backends import Backend, BackendUnavailable, open_backend
from utils.mlflow_setup import ROOT
from utils.model_servers import describe_failed_call
from utils.options import BackendOptions, EmbedOptions
from utils.prompt_utils import get_or_register
from utils.registry import logged_model_id, without_notices
from utils.sample_documents import CORPUS

NAME, PROMPT = "docs-agent", "docs-agent-answer"
CODE = ROOT / "genai" / "deployment" / "docs_agent.py"  # the agent itself: read it beside this file
FIRST = "Answer the question.\n\nContext:\n{{context}}\n\nQuestion: {{question}}"
SECOND = (
    "Answer the question from the context only, in one sentence. "
    'If the context does not contain the answer, reply "I do not know".\n\n'
    "Context:\n{{context}}\n\nQuestion: {{question}}"
)
QUESTION = "For how many seconds is a lookup by alias remembered?"
EXAMPLE = {"input": [{"role": "user", "content": QUESTION}]}
REQUIREMENTS = ["mlflow>=3.17.2,<3.18", "openai>=2.50,<3", "llama-index>=0.14.25,<0.15"]


@dataclass(frozen=True)
class Settings:
    """What an agent is made of, besides its code and its documents; a change of any of them is another version."""

    template: str
    top_k: int
    chunk_tokens: int = 160
    overlap_tokens: int = 20


@dataclass(frozen=True)
class Reply:
    """What a version said in a process of its own, and the trace that it left there."""

    version: str
    text: str
    sources: list[str]
    trace_id: str
    process: int


@dataclass(frozen=True)
class Outcome:
    run_id: str
    replies: list[Reply]


def copy_documents(folder: Path, target: Path) -> Path:
    """Only what the index reads goes into the version: a folder may hold files that are nobody's business."""
    for file in list_documents(folder):
        copy = target / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, copy)
    return target


def digest(folder: Path) -> str:
    """Changes with every readable file of the folder, and with nothing else."""
    texts, _unreadable = read_folder(folder)
    joined = "\0".join(f"{name}\0{text}" for name, text in sorted(texts.items()))
    return hashlib.sha256(joined.encode()).hexdigest()[:12]


def log_agent(settings: Settings, backend: BackendOptions, embedding: EmbedOptions, documents: Path) -> ModelInfo:
    """Code, settings and documents as one logged model. MLflow asks it the example once, untraced."""
    prompt = get_or_register(PROMPT, settings.template)
    config = {
        **{name: value for name, value in asdict(settings).items() if name != "template"},
        "prompt": f"prompts:/{PROMPT}/{prompt.version}",
        "backend": asdict(backend),
        "embedding": asdict(embedding),
        "seconds": backend.request_timeout,  # whoever serves it may set another; MLflow allows only what is here
    }
    info = mlflow.pyfunc.log_model(
        name=NAME,
        python_model=str(CODE),
        artifacts={"documents": str(documents)},
        model_config=config,
        prompts=[prompt],
        input_example=EXAMPLE,
        pip_requirements=REQUIREMENTS,
        params={"prompt": config["prompt"], "top_k": settings.top_k, "chunk_tokens": settings.chunk_tokens},
    )
    mlflow.set_logged_model_tags(info.model_id, current_tags())
    return info


def register(info: ModelInfo, documents: Path, llm: Backend) -> str:
    """The next number under the agent's name; its tags say what is inside without loading it."""
    model = mlflow.get_logged_model(info.model_id)
    told = {name: model.params[name] for name in ("prompt", "top_k", "chunk_tokens")}
    tags = {**current_tags(), **told, "documents": digest(documents), "llm_model": llm.model}
    with without_notices():
        return str(mlflow.register_model(info.model_uri, NAME, tags=tags).version)


def load_and_ask(tracking_uri: str, experiment_id: str, tags: dict[str, str], version: str, question: str) -> Reply:
    """What happens in the fresh process: it knows where the store is, and the name and number of a version."""
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment(experiment_id=experiment_id)
    with traces_flushed(), tagged(**tags):
        agent = mlflow.pyfunc.load_model(f"models:/{NAME}/{version}")
        try:
            reply = agent.predict({"input": [{"role": "user", "content": question}]})
        except Exception as error:
            if not (failure := describe_failed_call(error)):
                raise
            # A client's exception cannot travel to another process; this one can.
            raise BackendUnavailable(f"the model's server failed: {failure}", "uv run mlflow-learn doctor") from None
        trace_id = mlflow.get_last_active_trace_id()
    text = reply["output"][0]["content"][0]["text"]
    return Reply(version, text, reply["custom_outputs"]["sources"], str(trace_id), os.getpid())


def ask_in_fresh_process(versions: list[str], question: str, experiment_id: str) -> list[Reply]:
    """A new interpreter for both, which has inherited nothing: neither modules nor an open backend."""
    told = (mlflow.get_tracking_uri(), experiment_id, current_tags())
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return [pool.submit(load_and_ask, *told, version, question).result() for version in versions]


def check(reply: Reply) -> None:
    """The answer's trace names the version's model and the prompt that it was registered with.

    Raises:
        CheckFailed: it does not.
    """
    version = MlflowClient().get_model_version(NAME, reply.version)
    trace = mlflow.get_trace(reply.trace_id)
    linked = trace.info.tags.get("mlflow.linkedPrompts", "")
    number = version.tags["prompt"].rsplit("/", 1)[1]
    if reply.process == os.getpid() or trace.info.trace_metadata.get("mlflow.modelId") != logged_model_id(version):
        raise CheckFailed(f"version {reply.version} did not answer by itself", f"mlflow.get_trace({reply.trace_id!r})")
    if f'"name": "{PROMPT}", "version": "{number}"' not in linked:
        raise CheckFailed(f"version {reply.version} used {linked or 'no prompt'}", f"prompts:/{PROMPT}/{number}")


def run(
    llm: Backend, backend: BackendOptions, embedding: EmbedOptions, documents: Path, wanted: Settings, question: str
) -> Outcome:
    steps = Steps(3)
    settings = {"first": replace(wanted, template=FIRST, top_k=1), "second": wanted}
    with mlflow.start_run(run_name="register-agent") as active:
        # 1. Two versions that differ in prompt and search
        versions = []
        for name, each in settings.items():
            with mlflow.start_run(run_name=f"{name}-version", nested=True):
                info = log_agent(each, backend, embedding, documents)
            versions.append(register(info, documents, llm))
            click.echo(f"      {name}: {info.model_uri} is version {versions[-1]} of {NAME}")
        steps(f"Registered {CODE.name} twice, with {len(read_folder(documents)[0])} documents inside")

        # 2. What a version says, where nothing is left of the process that made it
        replies = ask_in_fresh_process(versions, question, active.info.experiment_id)
        steps(f"Asked in process {replies[0].process}: {question}")
        show_table(
            [
                {"version": each.version, "answer": shorten(each.text, 60, placeholder=" …"),
                 "passages from": ", ".join(each.sources)}
                for each in replies
            ]
        )  # fmt: skip

        # 3. The store knows which version answered, and with which prompt
        for reply in replies:
            check(reply)
        mlflow.log_metrics({"versions": len(versions), "loaded_in_fresh_process": len(replies)})
        mlflow.log_params({"newest_version": versions[-1], "documents_digest": digest(documents)})
        steps("Each trace names its logged model and its prompt version")
    return Outcome(active.info.run_id, replies)


@lesson("7.1", llm="mock", embed=True)
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
@click.option(
    "--top-k", type=click.IntRange(min=1), default=3, show_default=True, help="Passages of the second version."
)
@click.option("--chunk-tokens", type=click.IntRange(min=32), default=160, show_default=True, help="Of a passage.")
@click.option("--ask", "question", default=QUESTION, metavar="TEXT", help="What both versions are asked.")
def main(
    docs_path: Path, top_k: int, chunk_tokens: int, question: str, backend: BackendOptions, embedding: EmbedOptions
) -> None:  # fmt: skip
    if not question.strip():
        raise InputError("the question is empty", f'--ask "{QUESTION}"')
    read_folder(docs_path)  # refuses what cannot be read, before anything is registered
    with open_backend(backend) as llm, TemporaryDirectory() as name:
        documents = copy_documents(docs_path, Path(name) / "documents")
        outcome = run(llm, backend, embedding, documents, Settings(SECOND, top_k, chunk_tokens), question)
    newest = outcome.replies[-1]
    measured: dict[str, Any] = {"registered": NAME, "newest version": newest.version, "processes": 2}
    show("7.1", measured, run_id=outcome.run_id, trace_id=newest.trace_id, trace_ids=len(outcome.replies))


if __name__ == "__main__":
    main()
