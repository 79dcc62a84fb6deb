"""An index on disk: what is compared, replaced as one, removed, read back, and refused."""

import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from utils import incremental_index
from utils.errors import CheckFailed, InputError
from utils.incremental_index import Content, DocumentIndex, IndexSettings, compare, default_folder, slices

SETTINGS = IndexSettings(64, 10, "lexical", "lexical", 4)
AWKWARD = ["it's.md", 'say "no".txt', "sub/Übersicht 猫.rst", "50% _ off; DROP TABLE chunks --.md"]


def vectors(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 4), dtype=np.float32)


def content(name: str, *texts: str, content_hash: str = "1") -> Content:
    return Content(name, content_hash, list(texts))


def put(index: DocumentIndex, *contents: Content) -> None:
    count = sum(len(each.texts) for each in contents)
    index.replace(contents, vectors(count) if count else None)


def rows(index: DocumentIndex) -> list[tuple[str, str, str]]:
    found = index.table.search().select(["id", "text", "content_hash"]).to_list()
    return sorted((row["id"], row["text"], row["content_hash"]) for row in found)


@pytest.fixture
def index(tmp_path: Path) -> DocumentIndex:
    made = DocumentIndex.open(tmp_path / "index", SETTINGS)
    made.begin()
    return made


def test_compare_says_what_is_new_changed_gone_and_unchanged():
    changes = compare({"a": "1", "b": "2", "c": "3"}, {"b": "2", "c": "9", "d": "4"})
    assert (changes.new, changes.changed, changes.removed, changes.unchanged) == (["a"], ["c"], ["d"], ["b"])
    assert changes.to_embed == ["a", "c"]
    assert compare({}, {}).to_embed == []


def test_a_new_index_is_empty_and_a_reader_makes_no_table(tmp_path):
    index = DocumentIndex.open(tmp_path / "new" / "index", SETTINGS)
    assert index.hashes() == {} and not index.is_unfinished
    assert [path.name for path in (tmp_path / "new" / "index").iterdir()] == ["settings.json"]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_document_of_any_name_is_replaced_and_removed(index, name):
    put(index, content("other.md", "stays"), content(name, "one", "two", "three"))
    put(index, content(name, "new", content_hash="2"))
    assert rows(index) == sorted([(f"{name}#0", "new", "2"), ("other.md#0", "stays", "1")])
    index.remove([name])
    assert index.hashes() == {"other.md": "1"}


def test_the_same_commit_again_changes_nothing(index):
    for _ in range(3):
        put(index, content("a", "one", "two"), content("b", "three"))
    assert rows(index) == [("a#0", "one", "1"), ("a#1", "two", "1"), ("b#0", "three", "1")]
    assert index.verify(["a", "b"]) == 3


def test_a_document_without_text_leaves_the_index_with_its_commit(index):
    put(index, content("a", "one"), content("b", "two"))
    put(index, content("a"), content("c", "three"))
    assert index.hashes() == {"b": "1", "c": "1"}
    put(index, content("b"))
    assert index.hashes() == {"c": "1"}


def test_every_document_is_read_back_not_only_the_first_page(index):
    names = [f"{n:05d}" for n in range(2_500)]
    put(index, *[content(name, "text") for name in names])
    assert index.verify(names) == len(index.hashes()) == 2_500
    index.remove(names[:1_500])
    assert sorted(index.hashes()) == names[1_500:]


def test_what_is_lost_left_over_or_doubled_is_found(index):
    put(index, content("a", "one"), content("b", "two"))
    with pytest.raises(CheckFailed, match="lacks 2 documents, the first c"):
        index.verify(["a", "b", "c", "d"])
    with pytest.raises(CheckFailed, match="still holds 1 documents, the first b"):
        index.verify(["a"])
    index.table.add(index._rows([content("a", "one")], vectors(1)))
    with pytest.raises(CheckFailed, match="a chunk twice"):
        index.verify(["a", "b"])


def test_the_mark_of_a_job_stays_until_it_ends(index):
    assert index.is_unfinished
    put(index, content("a", "one"))
    again = DocumentIndex.open(Path(index.folder), SETTINGS, resume=True)
    assert again.is_unfinished and again.hashes() == {"a": "1"}
    again.begin()
    assert again.hashes() == {"a": "1"}, "a second beginning keeps the table"
    again.end()
    assert not index.is_unfinished and index.hashes() == {"a": "1"}


OTHER = IndexSettings(128, 10, "fastembed", "model", 4)


@pytest.mark.parametrize(
    ("resume", "said", "cure"),
    [
        (True, "the interrupted job in", "the same flags as before, or"),
        (False, "the interrupted job in", "--index-dir"),
    ],
)
def test_other_settings_are_refused_while_a_job_is_unfinished(index, resume, said, cure):
    with pytest.raises(InputError) as refusal:
        DocumentIndex.open(Path(index.folder), OTHER, resume=resume)
    assert said in refusal.value.problem and cure in refusal.value.cure
    assert (
        "has chunk_tokens 64, embed_type lexical, embed_model lexical, not 128, fastembed, model"
        in refusal.value.problem
    )


def test_other_settings_are_refused_and_rebuild_begins_anew(index):
    put(index, content("a", "one"))
    index.end()
    with pytest.raises(InputError, match=r"the index in .* has chunk_tokens 64"):
        DocumentIndex.open(Path(index.folder), OTHER)
    assert index.hashes() == {"a": "1"}, "a refusal takes nothing away"
    assert DocumentIndex.open(Path(index.folder), OTHER, rebuild=True).hashes() == {}


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_folder_that_holds_something_else_is_never_touched(tmp_path, rebuild):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty and holds no index \(letter.txt\)"):
        DocumentIndex.open(tmp_path, SETTINGS, rebuild=rebuild)
    assert (tmp_path / "letter.txt").read_text() == "mine"
    with pytest.raises(InputError, match="cannot make the folder"):
        DocumentIndex.open(tmp_path / "letter.txt", SETTINGS)


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"chunk_tokens": 64}', "null"])
def test_damaged_settings_are_refused_and_rebuild_is_the_cure(tmp_path, damage):
    DocumentIndex.open(tmp_path / "index", SETTINGS)
    (tmp_path / "index" / "settings.json").write_text(damage)
    with pytest.raises(InputError, match="is damaged") as refusal:
        DocumentIndex.open(tmp_path / "index", SETTINGS)
    assert "--rebuild" in refusal.value.cure
    DocumentIndex.open(tmp_path / "index", SETTINGS, rebuild=True)


def test_each_folder_and_settings_have_a_default_place_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(incremental_index, "DEFAULT_FOLDER", tmp_path)
    one, two = tmp_path / "docs", tmp_path / "more" / "docs"
    places = {default_folder(folder, settings) for folder in (one, two) for settings in (SETTINGS, OTHER)}
    assert len(places) == 4 and places == {
        default_folder(folder, settings) for folder in (one, two) for settings in (SETTINGS, OTHER)
    }


def test_a_job_is_not_resumed_in_its_default_place_with_other_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(incremental_index, "DEFAULT_FOLDER", tmp_path)
    docs = tmp_path / "docs"
    DocumentIndex.open(default_folder(docs, SETTINGS), SETTINGS).begin()
    with pytest.raises(InputError, match=r"the interrupted job in .* has chunk_tokens 64"):
        default_folder(docs, OTHER, resume=True)
    assert default_folder(docs, OTHER) != default_folder(docs, SETTINGS, resume=True)
    default_folder(tmp_path / "other docs", OTHER, resume=True)


@pytest.mark.parametrize(("chunk", "overlap"), [(64, 64), (16, 50)])
def test_an_overlap_as_large_as_the_chunk_is_refused(chunk, overlap):
    with pytest.raises(InputError, match=f"of {chunk} tokens cannot overlap the next by {overlap}"):
        IndexSettings(chunk, overlap, "lexical", "lexical", 4)


def test_slices():
    assert list(slices([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
    assert list(slices([], 2)) == []


def commit_often(index: DocumentIndex, who: int, shared: Sequence[str]) -> None:
    for turn in range(10):
        put(index, *[content(name, f"{who} {turn} one", f"{who} {turn} two") for name in shared])
        put(index, content(f"own {who} {turn}", "text"))


@pytest.mark.slow
def test_workers_that_commit_the_same_documents_at_once_leave_one_copy(index):
    shared = [f"shared {n}" for n in range(5)]
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=commit_often, args=(index, who, shared)) for who in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 4
    own = [f"own {who} {turn}" for who in range(4) for turn in range(10)]
    assert index.verify([*shared, *own]) == 2 * len(shared) + len(own)
    for name in shared:  # both chunks from the same commit
        first, second = (text for identifier, text, _ in rows(index) if identifier.startswith(f"{name}#"))
        assert json.dumps(first).replace("one", "two") == json.dumps(second)
