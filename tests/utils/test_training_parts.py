"""Settings that make two trainings the same one, and flags that belong to another model."""

from dataclasses import replace

import pytest

from utils.errors import InputError
from utils.options import EmbedOptions
from utils.training_parts import Settings, refuse_mixed

HEAD = Settings("lexical", 32, 0.003, 16, 7, 3, "210 rows", "a1")
LORA = Settings(None, None, 0.001, 16, 7, 3, "210 rows", "a1", "small/encoder", "0f", 8)


def test_a_training_has_the_settings_of_its_kind_and_no_others():
    assert set(HEAD.as_params()).isdisjoint({"lora", "lora_digest", "rank"})
    assert set(LORA.as_params()).isdisjoint({"embedding", "hidden"})


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (HEAD, HEAD, None),
        (LORA, LORA, None),
        (HEAD, replace(HEAD, hidden=5), "hidden 32, not with 5"),
        (HEAD, LORA, "lora none, not with small/encoder"),
        (LORA, HEAD, "lora small/encoder, not with none"),
        (LORA, replace(LORA, lora_digest="1a"), "lora_digest 0f, not with 1a"),
        (LORA, replace(LORA, rank=4), "rank 8, not with 4"),
        (HEAD, replace(HEAD, rows_digest="b2"), "rows_digest a1, not with b2"),
    ],
)
def test_what_differs_is_named(before, now, said):
    assert now.difference(before.as_params() | {"trained_weights": "9"}) == said


@pytest.mark.parametrize(
    ("hidden", "lora", "rank", "embedding"),
    [
        (None, None, 8, EmbedOptions()),
        (32, "x", None, EmbedOptions()),
        (None, "x", None, EmbedOptions("lexical")),
        (None, "x", None, EmbedOptions(None, "some/model")),
    ],
)
def test_a_flag_that_would_change_nothing_is_refused(hidden, lora, rank, embedding):
    with pytest.raises(InputError):
        refuse_mixed(hidden, lora, rank, embedding)


def test_flags_of_one_model_pass():
    refuse_mixed(8, None, None, EmbedOptions("fastembed", "some/model"))
    refuse_mixed(None, "x", 4, EmbedOptions())
