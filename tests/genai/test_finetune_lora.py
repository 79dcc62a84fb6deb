"""8.7 with --lora: the same tracking on adapters of a tiny transformer, which is made here and knows nothing."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from genai.optimization import finetune_tracking
from genai.optimization.finetune_tracking import LORA_NAME, main, train_epoch
from tests.conftest import ROOT
from utils.errors import InputError
from utils.lora_training import LoraClassifier, LoraSettings
from utils.options import InputOptions
from utils.training_parts import prepare
from utils.training_reviews import load_training_reviews, split_rows

INSTALLED = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "peft", "safetensors"))
with_torch = pytest.mark.skipif(not INSTALLED, reason="torch and peft are missing: needs uv sync --extra huggingface")
CURVES = ("train_loss", "held_out_loss", "train_accuracy", "held_out_accuracy")
FLAGS = ("--max-epochs", 6, "--checkpoint-every", 2, "--learning-rate", 0.02, "--batch-size", 8)
LABELS = ("negative", "neutral", "positive")


def write_tokenizer(folder: Path) -> int:
    """A WordPiece tokenizer whose words are those of the training reviews; how many it has."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    texts = " ".join(load_training_reviews()["text"]).lower()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = [*marks, *sorted(set(re.findall(r"[a-z]+|[^\sa-z]", texts)))]
    pieces = Tokenizer(models.WordPiece({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer()
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return len(words)


def write_transformer(folder: Path, kind: str = "BertModel", seed: int = 0) -> str:
    """Random weights, two layers of 32; `kind` says which of a BERT's layers its file has."""
    import torch
    import transformers

    folder.mkdir()
    words = write_tokenizer(folder)
    torch.manual_seed(seed)
    if kind.startswith("Distil"):
        config = transformers.DistilBertConfig(vocab_size=words, dim=32, n_layers=2, n_heads=2, hidden_dim=64)
    else:
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
        config = transformers.BertConfig(vocab_size=words, **sizes)
    getattr(transformers, kind)(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_transformer(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="module")
def done(run_lesson, tiny):
    return run_lesson(main, "--lora", tiny, *FLAGS)


@pytest.fixture
def run(done):
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("8-advanced")
    return only_run()


@pytest.fixture
def unbroken(run):
    return {name: curve(run.info.run_id, name) for name in CURVES}


def only_run():
    client = MlflowClient()
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()], "params.lora != ''")
    return run


def models():
    return sorted(mlflow.search_logged_models(output_format="list"), key=lambda model: int(model.params["epoch"]))


def values(model):
    return {metric.key: metric.value for metric in model.metrics or []}


def curve(run_id, name):
    """By epoch; an epoch that was done again after a kill has to have the same value."""
    found: dict[int, float] = {}
    for point in MlflowClient().get_metric_history(run_id, name):
        assert found.setdefault(point.step, point.value) == point.value, (name, point.step)
    return found


def local(model):
    """The folder of a checkpoint's files."""
    return Path(mlflow.artifacts.download_artifacts(model.model_uri))


def trained(base, epochs=1, **other):
    rows = load_training_reviews().head(40)
    settings = LoraSettings(**{"base": base, "rank": 4, "learning_rate": 0.02, "batch_size": 8, "seed": 7, **other})
    classifier = LoraClassifier.new(settings, LABELS)
    for _ in range(epochs):
        classifier.partial_fit(rows["text"].tolist(), rows["label"].tolist(), LABELS)
    return classifier


# --- without the extra


def test_without_the_extra_two_lines_name_it(store, refused, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "peft", None)  # where the extra is installed
    said = refused(main, "--lora", tmp_path)
    assert "is not installed" in said and "uv sync --extra huggingface" in said
    client = MlflowClient()
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--lora", "./nowhere"), "there is no folder ./nowhere"),
        (("--lora", "x", "--hidden", 4), "belong to the head"),
        (("--lora", "x", "--embed-type", "lexical"), "belong to the head"),
        (("--rank", 4), "without --lora there are none"),
    ],
)
def test_wrong_flags_are_refused_before_torch_is_asked_for(store, refused, flags, said):
    assert said in refused(main, *flags)


# --- with it


@with_torch
def test_the_curves_and_the_checkpoints_are_those_of_any_training(run):
    for name in CURVES:
        assert list(curve(run.info.run_id, name)) == list(range(1, 7))
    losses = curve(run.info.run_id, "train_loss")
    assert losses[6] < losses[1]
    steps = {output.model_id: output.step for output in run.outputs.model_outputs}
    assert [steps[model.model_id] for model in models()] == [2, 4, 6]
    for model in models():
        assert values(model)["held_out_loss"] == curve(run.info.run_id, "held_out_loss")[int(model.params["epoch"])]
    assert int(run.data.params["trained_weights"]) < int(run.data.params["weights"]) / 10


@with_torch
def test_a_checkpoint_is_small_and_holds_adapters_and_no_pickle(run, tiny):
    from safetensors.torch import load_file

    for model in models():
        files = [path for path in local(model).rglob("*") if path.is_file()]
        kinds = {path.suffix for path in files if "__pycache__" not in path.parts}
        assert kinds.isdisjoint({".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt"}), files
        (adapters,) = [path for path in files if path.name == "adapter_model.safetensors"]
        names = set(load_file(adapters))
        assert all("lora_" in name or "classifier" in name for name in names) and len(names) == 10
        weights = sum(path.stat().st_size for path in files if path.suffix == ".safetensors")
        assert weights < (Path(tiny) / "model.safetensors").stat().st_size / 2


@with_torch
def test_the_registered_best_loads_without_a_hub_and_is_what_was_reported(run, tmp_path, tiny):
    best = min(models(), key=lambda model: values(model)["held_out_loss"])
    version = MlflowClient().get_model_version_by_alias(LORA_NAME, "best")
    assert version.tags["epoch"] == best.params["epoch"]
    report = prepare(split_rows(InputOptions(), 120, seed=7), None).report
    moved = shutil.copytree(tiny, tmp_path / "moved")
    for place in ({}, {"model_config": {"base": str(moved)}}):
        answers = mlflow.pyfunc.load_model(f"models:/{LORA_NAME}@best", **place).predict(report.inputs.tolist())
        assert set(answers) <= set(LABELS)
        assert values(best)["report_accuracy"] == pytest.approx(float(np.mean(answers == report.labels)))


@with_torch
def test_adapters_refuse_a_transformer_with_other_weights(run, tmp_path):
    other = write_transformer(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="other weights"):
        mlflow.pyfunc.load_model(models()[0].model_uri, model_config={"base": other})


@with_torch
def test_a_training_that_breaks_off_goes_on_and_its_curves_are_those_of_an_unbroken_one(
    unbroken, tiny, store, run_command, refused, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)  # an experiment made here keeps its models here
    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("8-advanced")

    def breaks_in_epoch_4(model, data, settings, epoch):
        if epoch == 4:
            raise KeyboardInterrupt
        train_epoch(model, data, settings, epoch)

    monkeypatch.setattr(finetune_tracking, "train_epoch", breaks_in_epoch_4)
    assert run_command(main, "--lora", tiny, *FLAGS).exit_code == 130
    broken = only_run().info.run_id
    monkeypatch.setattr(finetune_tracking, "train_epoch", train_epoch)
    assert "rank 8, not with 4" in refused(main, "--lora", tiny, "--rank", 4, *FLAGS, "--resume", broken)
    assert "not with none" in refused(main, *FLAGS, "--resume", broken)
    result = run_command(main, "--lora", tiny, *FLAGS, "--resume", broken)
    assert result.exit_code == 0, result.stderr
    assert {name: curve(broken, name) for name in CURVES} == unbroken
    assert [int(model.params["epoch"]) for model in models()] == [2, 4, 6]


@with_torch
@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "DistilBertForMaskedLM"])
def test_layers_drawn_at_random_are_kept_with_the_adapters(kind, tmp_path):
    """A masked language model has no pooler or no pre_classifier: each load would draw another one."""
    classifier = trained(write_transformer(tmp_path / kind, kind))
    texts = ["It broke at once", "A lovely lamp, would buy again"]
    classifier.save(tmp_path / "adapter")
    loaded = LoraClassifier.load(tmp_path / "adapter")
    assert np.array_equal(loaded.predict_proba(texts), classifier.predict_proba(texts))
    for model in (classifier, loaded):  # weights, optimiser and dropout: the next epoch is the same one too
        model.partial_fit(texts, ["negative", "positive"], LABELS)
    assert np.array_equal(loaded.predict_proba(texts), classifier.predict_proba(texts))


@with_torch
def test_only_adapters_and_what_classifies_have_changed(tiny):
    before, after = trained(tiny, epochs=0), trained(tiny, epochs=2)
    changed = {
        name
        for (name, old), (_, new) in zip(
            before.model.state_dict().items(), after.model.state_dict().items(), strict=True
        )
        if not np.array_equal(old.numpy(), new.numpy())
    }
    assert changed and all("lora_" in name or "modules_to_save" in name for name in changed)


@with_torch
def test_the_seed_alone_decides_and_the_callers_random_numbers_stay(tiny):
    import torch

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same, other = trained(tiny), trained(tiny), trained(tiny, seed=8)
    assert torch.rand(1) == expected
    texts = ["It broke at once"]
    assert np.array_equal(one.predict_proba(texts), same.predict_proba(texts))
    assert not np.array_equal(one.predict_proba(texts), other.predict_proba(texts))


@with_torch
def test_a_long_text_is_cut_and_an_empty_one_is_no_crash(tiny):
    chances = trained(tiny).predict_proba(["word " * 5000, ""])
    assert chances.shape == (2, 3) and np.allclose(chances.sum(axis=1), 1)


def without_safetensors(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def not_a_config(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def broken_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no weights")


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


@with_torch
@pytest.mark.parametrize("harm", [without_safetensors, not_a_config, broken_weights, without_tokenizer])
def test_a_folder_that_cannot_be_used_is_refused_and_leaves_nothing(tiny, tmp_path, store, refused, harm):
    folder = shutil.copytree(tiny, tmp_path / "harmed")
    harm(folder)
    assert "no transformer to train" in refused(main, "--lora", folder)
    client = MlflowClient()
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


@with_torch
def test_a_name_that_no_hub_answers_for_is_refused_soon(store, refused):
    assert "neither on this disk" in refused(main, "--lora", "nobody/no-such-encoder")


@with_torch
def test_a_training_that_diverges_says_so(tiny, store, refused):
    assert "smaller --learning-rate" in refused(main, "--lora", tiny, "--learning-rate", 1e30)
    assert only_run().info.status == "FAILED"


@with_torch
@pytest.mark.slow
def test_a_killed_process_is_resumed_from_its_newest_whole_checkpoint(tiny, store, run_command, monkeypatch, tmp_path):
    """kill -9 between two checkpoints, in a process of its own."""
    monkeypatch.chdir(tmp_path)  # an experiment made here keeps its models here
    mlflow.set_experiment("8-advanced")
    flags = ["--lora", tiny, "--patience", "5000"]
    command = [sys.executable, "-m", "genai.optimization.finetune_tracking", *flags, "--max-epochs", "5000"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"MLFLOW_TRACKING_URI": store}, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while len(models()) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=30)
    killed = only_run()
    epochs = [int(model.params["epoch"]) for model in models() if "held_out_loss" in values(model)]
    assert killed.info.status == "RUNNING" and len(epochs) >= 2
    result = run_command(main, *flags, "--max-epochs", max(epochs) + 4, "--resume", killed.info.run_id)
    assert result.exit_code == 0, result.stderr
    assert set(curve(killed.info.run_id, "held_out_loss")) == set(range(1, max(epochs) + 5))
