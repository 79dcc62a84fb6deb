"""Digests and keys of rows, by properties: they say what a row says, and nothing else."""

import copy

from hypothesis import given, settings
from hypothesis import strategies as st

from utils.evaluation_rows import content_digest, plain_row, row_key

TEXT = st.text(max_size=12)
ROW = st.fixed_dictionaries(
    {
        "inputs": st.dictionaries(TEXT, TEXT, min_size=1, max_size=3),
        "expectations": st.dictionaries(TEXT, TEXT, max_size=3),
        "tags": st.dictionaries(TEXT.filter(lambda name: not name.startswith("mlflow.")), TEXT, max_size=2),
    }
)


@settings(deadline=None)
@given(st.lists(ROW, max_size=6), st.randoms())
def test_the_digest_does_not_depend_on_any_order(rows, random):
    shuffled = [dict(reversed(list(copy.deepcopy(row).items()))) for row in rows]
    random.shuffle(shuffled)
    assert content_digest(rows) == content_digest(shuffled)


@settings(deadline=None)
@given(st.lists(ROW, min_size=1, max_size=5), st.data())
def test_the_digest_changes_with_every_part_of_a_row(rows, data):
    place = data.draw(st.integers(0, len(rows) - 1))
    part = data.draw(st.sampled_from(["inputs", "expectations", "tags"]))
    changed = copy.deepcopy(rows)
    changed[place][part]["another"] = changed[place][part].get("another", "") + "x"
    assert content_digest(changed) != content_digest(rows)


@settings(deadline=None)
@given(st.lists(ROW, max_size=4))
def test_what_mlflow_adds_to_a_row_changes_no_digest(rows):
    stored = [
        {**row, "outputs": "x", "dataset_record_id": "dr-1", "tags": {**row["tags"], "mlflow.user": "me"}}
        for row in rows
    ]
    assert content_digest(stored) == content_digest(rows) and [plain_row(row) for row in stored] == rows


@settings(deadline=None)
@given(st.dictionaries(TEXT, st.integers() | TEXT, max_size=4), st.dictionaries(TEXT, st.integers() | TEXT, max_size=4))
def test_two_rows_are_the_same_row_exactly_when_their_inputs_are(first, second):
    assert (row_key(first) == row_key(second)) == (first == second)
    assert row_key(first) == row_key(dict(reversed(list(first.items()))))
