import json
import re
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner
from nltk.stem import PorterStemmer

from utils import sample_documents
from utils.errors import InputError
from utils.sample_documents import CORPUS, Question, load_questions, main, write_documents

COMMITTED = Path(__file__).resolve().parents[2] / "documents"
DOCUMENTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(CORPUS.iterdir())}
QUESTIONS = load_questions()
WITH_GOLD = [question for question in QUESTIONS if question.gold_document]
HEADER = "question,gold_document,expected_answer\n"
# Function words only: anything that carries meaning must differ in an other-words question.
FUNCTION_WORDS = """
a about after afterwards again all already also although an and another any are as at be been before
both but by can come comes could did do does each few for from had has have he her him his how i if
in into is it its just let lets many may me more most much must my no not of off on once only or
other our out over own same she should so some than that the their them then there these they this
those through to too under until up was we were what when where which while who why will with would
you your
"""
STOP_WORDS = frozenset(FUNCTION_WORDS.split())


def find_stems(text: str) -> set[str]:
    stem = PorterStemmer().stem
    return {stem(word) for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in STOP_WORDS}


def by_id(question: Question) -> str:
    return question.id


def test_the_committed_documents_equal_the_packaged_ones():
    assert {name: (COMMITTED / name).read_text(encoding="utf-8") for name in DOCUMENTS} == DOCUMENTS


def test_corpus_and_questions_have_the_promised_sizes():
    kinds = Counter(question.kind for question in QUESTIONS)
    assert len(DOCUMENTS) == 14
    assert {Path(name).suffix for name in DOCUMENTS} == {".md", ".txt"}
    assert all(250 <= len(text.split()) <= 500 for text in DOCUMENTS.values())
    assert len(WITH_GOLD) == 60
    assert kinds["same-words"] + kinds["other-words"] == 60
    assert kinds["other-words"] >= 24
    assert kinds["unanswerable"] == 10
    assert len({question.id for question in QUESTIONS}) == len({q.question for q in QUESTIONS}) == 70


def test_every_document_is_the_gold_of_several_questions_of_both_kinds():
    kinds = Counter((question.gold_document, question.kind) for question in WITH_GOLD)
    assert all(kinds[name, kind] >= 2 for name in DOCUMENTS for kind in ("same-words", "other-words"))


@pytest.mark.parametrize("question", WITH_GOLD, ids=by_id)
def test_the_gold_sentence_stands_once_in_its_document_and_nowhere_else(question):
    counts = {name: text.count(question.gold_sentence) for name, text in DOCUMENTS.items()}
    assert counts == {name: int(name == question.gold_document) for name in DOCUMENTS}


@pytest.mark.parametrize("question", WITH_GOLD, ids=by_id)
def test_the_expected_answer_is_part_of_the_gold_sentence(question):
    assert question.expected_answer.lower() in question.gold_sentence.lower()


@pytest.mark.parametrize("question", WITH_GOLD, ids=by_id)
def test_only_same_words_questions_share_a_stem_with_their_gold_sentence(question):
    shared = find_stems(question.question) & find_stems(question.gold_sentence)
    assert bool(shared) == (question.kind == "same-words"), shared


def test_stems_tell_words_from_function_words():
    assert find_stems("The spans were doubled") & find_stems("doubling a span") == {"span", "doubl"}
    assert find_stems("what is the") == set()


def test_unanswerable_questions_have_no_gold():
    unanswerable = [question for question in QUESTIONS if question.kind == "unanswerable"]
    assert {(q.gold_document, q.gold_sentence) for q in unanswerable} == {(None, None)}
    assert {q.expected_answer for q in unanswerable} == {"I do not know"}


# What the corpus would have to say to answer each of the ten, so that nobody adds it without a look at them.
@pytest.mark.parametrize(
    "answer",
    [
        "11434",
        "2018",
        "per month",
        "ldap",
        "gpu",
        "helm",
        "context window",
        "aliases at most",
        "colour",
        "gigabyte",
    ],
)
def test_the_corpus_does_not_answer_the_unanswerable_questions(answer):
    assert [name for name, text in DOCUMENTS.items() if answer in text.lower()] == []


def test_documents_are_written_into_a_folder_that_is_made(tmp_path):
    report = write_documents(tmp_path / "new" / "documents", force=False)
    written = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new/documents").iterdir()}
    assert written == DOCUMENTS
    assert report.written == sorted(DOCUMENTS)
    assert (report.kept, report.unchanged) == ([], [])


def test_a_changed_file_is_kept_and_its_own_files_are_left_alone(tmp_path):
    write_documents(tmp_path)
    (tmp_path / "tracing.md").write_text("mine", encoding="utf-8")
    (tmp_path / "agents.md").unlink()
    (tmp_path / "notes.md").write_text("notes", encoding="utf-8")
    report = write_documents(tmp_path)
    assert (tmp_path / "tracing.md").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "notes.md").read_text(encoding="utf-8") == "notes"
    assert (report.kept, report.written, len(report.unchanged)) == (["tracing.md"], ["agents.md"], 12)


def test_force_overwrites_what_differs_and_nothing_else(tmp_path):
    write_documents(tmp_path)
    (tmp_path / "tracing.md").write_text("mine", encoding="utf-8")
    (tmp_path / "notes.md").write_text("notes", encoding="utf-8")
    report = write_documents(tmp_path, force=True)
    assert (report.written, report.kept, len(report.unchanged)) == (["tracing.md"], [], 13)
    assert (tmp_path / "tracing.md").read_text(encoding="utf-8") == DOCUMENTS["tracing.md"]
    assert (tmp_path / "notes.md").read_text(encoding="utf-8") == "notes"


def test_windows_line_ends_are_no_change(tmp_path):
    write_documents(tmp_path)
    windows = DOCUMENTS["tracing.md"].replace("\n", "\r\n").encode()
    (tmp_path / "tracing.md").write_bytes(windows)
    assert len(write_documents(tmp_path, force=True).unchanged) == 14
    assert (tmp_path / "tracing.md").read_bytes() == windows


def test_a_link_to_nowhere_is_not_replaced(tmp_path):
    (tmp_path / "tracing.md").symlink_to(tmp_path / "elsewhere.md")
    assert write_documents(tmp_path).kept == ["tracing.md"]
    assert (tmp_path / "tracing.md").is_symlink()


@pytest.mark.parametrize("tail", ["", "below"])
def test_a_file_in_the_place_of_the_folder_is_an_input_error(tmp_path, tail):
    (tmp_path / "documents").write_text("a file", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        write_documents(tmp_path / "documents" / tail)
    assert "a file stands in its place" in caught.value.problem
    assert "--output-dir" in caught.value.cure
    assert (tmp_path / "documents").read_text(encoding="utf-8") == "a file"


# Superusers may write to read-only folders, so the refusal is simulated at the last step of writing.
def test_a_refused_write_is_an_input_error_and_leaves_no_half_file(tmp_path, monkeypatch):
    def refuse(self, target):
        raise PermissionError(13, "Permission denied", str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InputError) as caught:
        write_documents(tmp_path)
    assert "Permission denied" in caught.value.problem
    assert "--output-dir" in caught.value.cure
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_learners_csv_needs_three_columns_only(tmp_path, encoding):
    path = tmp_path / "mine.csv"
    text = HEADER + '"Who, exactly?",team.md,Ada\nWhen?,,\n'
    path.write_text(text, encoding=encoding)
    assert load_questions(path) == [
        Question("q01", "Who, exactly?", "team.md", None, "Ada", "own"),
        Question("q02", "When?", None, None, "I do not know", "unanswerable"),
    ]


def test_a_learners_jsonl_may_have_every_column_and_empty_lines(tmp_path):
    rows = [
        {
            "id": "a",
            "question": "How\u2028many?",
            "gold_document": "x.md",
            "expected_answer": 42,
            "kind": "hard",
        },
        {"question": "When?", "gold_document": None, "expected_answer": ""},
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n", encoding="utf-8")
    assert load_questions(path) == [
        Question("a", "How\u2028many?", "x.md", None, "42", "hard"),
        Question("q02", "When?", None, None, "I do not know", "unanswerable"),
    ]


GOOD = '{"question": "q", "gold_document": "d.md", "expected_answer": "a"'


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("bad.txt", "question", "neither .csv nor .jsonl"),
        ("bad.csv", "", "line 1 lacks question, gold_document, expected_answer"),
        ("bad.csv", HEADER, "holds no questions"),
        ("bad.csv", "question,expected_answer\nq,a\n", "lacks gold_document"),
        ("bad.csv", HEADER + "q,d.md\n", "line 2: not as many values as columns"),
        ("bad.csv", HEADER + "q,d.md,a,b\n", "line 2: not as many values as columns"),
        ("bad.csv", HEADER + '"q"x,d.md,a\n', "after line 1"),
        ("bad.csv", HEADER + ",d.md,a\n", "line 2 has an empty question"),
        ("bad.csv", HEADER + "q,d.md,\n", "line 2 has an empty expected_answer"),
        ("bad.jsonl", "\n", "holds no questions"),
        ("bad.jsonl", GOOD + "}\n{oops\n", "line 2"),
        ("bad.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("bad.jsonl", '{"question": "q", "expected_answer": "a"}\n', "line 1 lacks gold_document"),
        ("bad.jsonl", GOOD.replace('"q"', '["q"]') + "}\n", "line 1: question is no text"),
        ("bad.jsonl", GOOD.replace('"a"', "true") + "}\n", "line 1: expected_answer is no text"),
        (
            "bad.jsonl",
            GOOD + ', "kind": "unanswerable"}\n',
            "kind is unanswerable, and gold_document is d.md",
        ),
        ("bad.jsonl", GOOD + ', "id": "x"}\n' + GOOD + ', "id": "x"}\n', "the id x more than once"),
    ],
)
def test_a_bad_questions_file_says_what_is_wrong_and_what_to_do(tmp_path, name, content, problem):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_questions(path)
    assert problem in caught.value.problem
    assert str(path) in caught.value.problem
    assert caught.value.cure


def test_a_missing_or_unreadable_questions_file_is_an_input_error(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "latin.csv").write_bytes((HEADER + "caf\xe9,d.md,a\n").encode("latin-1"))
    for name, problem in (
        ("none.csv", "cannot read"),
        ("folder.csv", "cannot read"),
        ("latin.csv", "not UTF-8"),
    ):
        with pytest.raises(InputError, match=problem):
            load_questions(tmp_path / name)


def test_the_command_writes_the_documents_and_reports_what_it_kept(tmp_path):
    folder = tmp_path / "documents"
    first = CliRunner().invoke(main, ["--output-dir", str(folder)])
    (folder / "agents.md").write_text("mine", encoding="utf-8")
    second = CliRunner().invoke(main, ["--output-dir", str(folder)])
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "agents.md" in second.output
    assert (folder / "agents.md").read_text(encoding="utf-8") == "mine"
    assert CliRunner().invoke(main, ["--output-dir", str(folder), "--force"]).exit_code == 0
    assert (folder / "agents.md").read_text(encoding="utf-8") == DOCUMENTS["agents.md"]


def test_the_command_ends_with_status_2_when_the_folder_is_a_file(tmp_path):
    (tmp_path / "documents").write_text("a file", encoding="utf-8")
    result = CliRunner().invoke(main, ["--output-dir", str(tmp_path / "documents")])
    assert result.exit_code == 2
    assert "error: " in result.output
    assert "try:   " in result.output


def test_the_default_folder_is_the_committed_one():
    assert sample_documents.DEFAULT_FOLDER == COMMITTED
