"""`read_rows` keeps texts exactly, and every bad file ends in one sentence and one cure."""

import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from utils.errors import InputError, UserError
from utils.input_data import read_rows

RECORDS = [
    {"id": "a7", "text": "  Crème brûlée, “très” 🍮  ", "label": " Positive "},
    {"id": "b8", "text": 'He said "no"\nand left', "label": "NEGATIVE"},
    {"id": "c9", "text": "NA", "label": "neutral"},
]
TEXTS = ["Crème brûlée, “très” 🍮", 'He said "no"\nand left', "NA"]


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def write_records(folder: Path, suffix: str, records: list[dict]) -> Path:
    path = folder / f"rows{suffix}"
    frame = pd.DataFrame(records)
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        frame.to_csv(path, index=False, encoding="utf-8")
    return path


def refused(path: Path, text_column: str = "text", label_column: str | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        read_rows(path, text_column, label_column)
    error = caught.value
    assert str(path) in error.problem
    assert error.cure
    assert "\n" not in error.problem + error.cure
    return error


every_suffix = pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])


@every_suffix
def test_texts_ids_and_order_are_kept(tmp_path, suffix):
    rows = read_rows(write_records(tmp_path, suffix, RECORDS), "text", "label")
    assert list(rows.frame.columns) == ["id", "text", "label"]
    assert list(rows.frame["text"]) == TEXTS
    assert list(rows.frame["id"]) == ["a7", "b8", "c9"]
    assert list(rows.frame["label"]) == ["positive", "negative", "neutral"]
    assert rows.dropped == 0


@every_suffix
def test_columns_may_have_other_names(tmp_path, suffix):
    records = [{"body": record["text"], "text": "x", "stars": i} for i, record in enumerate(RECORDS, start=3)]
    frame = read_rows(write_records(tmp_path, suffix, records), "body", "stars").frame
    assert list(frame["text"]) == TEXTS
    assert list(frame["label"]) == ["3", "4", "5"]


@every_suffix
def test_without_a_label_column_there_is_no_label(tmp_path, suffix):
    frame = read_rows(write_records(tmp_path, suffix, RECORDS), "text").frame
    assert list(frame.columns) == ["id", "text"]


@every_suffix
def test_rows_without_a_text_are_dropped_and_counted(tmp_path, suffix):
    texts = ["first", None, "   ", "fourth", ""]
    path = write_records(tmp_path, suffix, [{"text": text, "label": "neutral"} for text in texts])
    rows = read_rows(path, "text", "label")
    assert list(rows.frame["text"]) == ["first", "fourth"]
    assert list(rows.frame["id"]) == ["1", "4"]
    assert rows.dropped == 3


@every_suffix
def test_a_missing_column_names_the_columns_there_are(tmp_path, suffix):
    path = write_records(tmp_path, suffix, RECORDS)
    error = refused(path, "review")
    assert "'review'" in error.problem
    assert error.cure == "--text-column NAME, one of: id, text, label"
    assert refused(path, "text", "stars").cure == "--label-column NAME, one of: id, text, label"


@every_suffix
def test_all_texts_empty(tmp_path, suffix):
    path = write_records(tmp_path, suffix, [{"text": " ", "body": "b"}, {"text": None, "body": "b"}])
    assert "no text in any" in refused(path).problem


@every_suffix
def test_a_text_without_a_label_is_refused_and_located(tmp_path, suffix):
    path = write_records(tmp_path, suffix, [{"text": "a", "label": "x"}, {"text": "b", "label": None}])
    number = {".csv": "line 3", ".jsonl": "line 2", ".parquet": "row 2"}[suffix]
    assert f"{number} has a text and no label" in refused(path, "text", "label").problem


@every_suffix
def test_an_empty_file(tmp_path, suffix):
    assert "is empty" in refused(write(tmp_path, f"rows{suffix}", "")).problem


@every_suffix
def test_a_file_that_is_not_there(tmp_path, suffix):
    assert "no file" in refused(tmp_path / f"rows{suffix}").problem


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text,label\n"), ("a.csv", "\n"), ("a.jsonl", "\n\n")])
def test_a_file_without_rows(tmp_path, name, content):
    assert "has no rows" in refused(write(tmp_path, name, content)).problem


def test_a_parquet_without_rows(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"text": pd.Series([], dtype=str)}).to_parquet(path)
    assert "has no rows" in refused(path).problem


def test_a_directory(tmp_path):
    folder = tmp_path / "part.parquet"  # Spark writes such folders
    folder.mkdir()
    assert "is a directory" in refused(folder).problem


@pytest.mark.parametrize(("name", "said"), [("rows.xlsx", "'.xlsx'"), ("rows", "no suffix")])
def test_an_unknown_suffix(tmp_path, name, said):
    error = refused(write(tmp_path, name, "text\nx\n"))
    assert said in error.problem
    assert ".csv, .jsonl or .parquet" in error.cure


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read every file")
def test_a_file_that_may_not_be_read(tmp_path):
    path = write(tmp_path, "rows.csv", "text\nx\n")
    path.chmod(0)
    assert "cannot read" in refused(path).problem


def test_a_path_that_the_system_refuses(tmp_path):
    assert "cannot read" in refused(tmp_path / ("x" * 5_000 + ".csv")).problem


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_other_encodings_are_refused_with_their_place(tmp_path, suffix):
    path = write(tmp_path, f"rows{suffix}", b"text\nfine\n" + "caf\u00e9".encode("latin-1") + b"\n")
    assert "byte 13, line 3" in refused(path).problem
    path = write(tmp_path, f"rows{suffix}", "text\nfine\n".encode("utf-16"))
    assert "byte 0, line 1" in refused(path).problem


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text\nx\n"), ("a.jsonl", '{"text": "x"}\n')])
def test_a_byte_order_mark_is_no_part_of_the_column(tmp_path, name, content):
    path = write(tmp_path, name, b"\xef\xbb\xbf" + content.encode())
    assert list(read_rows(path, "text").frame["text"]) == ["x"]


def test_upper_case_suffix_carriage_returns_and_spaces_in_the_header(tmp_path):
    path = write(tmp_path, "ROWS.CSV", "id, text\r\n1,a\r\n\r\n2,b\r\n")
    assert list(read_rows(path, "text").frame["text"]) == ["a", "b"]


def test_words_that_pandas_takes_for_missing_values_stay(tmp_path):
    words = ["null", "None", "nan", "NULL", "n/a", "0012", "1e3"]
    path = write(tmp_path, "a.csv", "text\n" + "\n".join(words) + "\n")
    assert list(read_rows(path, "text").frame["text"]) == words


def test_a_text_may_be_very_long(tmp_path):
    text = "word " * 100_000 + "end"
    assert read_rows(write(tmp_path, "a.csv", f"text\n{text}\n"), "text").frame["text"].item() == text


def test_line_separators_of_unicode_do_not_end_a_json_line(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "one\u2028two"}\n')
    assert list(read_rows(path, "text").frame["text"]) == ["one\u2028two"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,label\nfine,x\nGood, cheap,x\n", "line 3 has 3 of 2 values"),
        ("text,label\nfine,x\nshort\n", "line 3 has 1 of 2 values"),
        ('text,label\nfine,x\n"never closed,x\nmore,x\n', "line 3 is no CSV: unexpected end of data"),
        ('text,label\n"two\nlines",x\n"Great" phone,x\n', "line 4 is no CSV"),
        ("text;label\nfine;x\n", "does not separate its columns with commas"),
        ("text,text\nfine,x\n", "has 2 columns named 'text'"),
    ],
)
def test_a_broken_csv(tmp_path, content, said):
    assert said in refused(write(tmp_path, "a.csv", content)).problem


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "no end', "line 3 is no JSON: "),
        ('["a", "b"]', "line 3 is no JSON object"),
        ("[" * 100_000, "line 3 is no JSON"),
        ('{"text": ["a"]}', "line 3 has a list where a text belongs"),
        (r'{"text": "half \ud83d"}', "line 3 has half a character (U+D83D)"),
    ],
)
def test_a_broken_jsonl(tmp_path, line, said):
    path = write(tmp_path, "a.jsonl", f'{{"text": "fine"}}\n\n{line}\n')
    assert said in refused(path).problem


def test_json_rows_may_lack_a_key_and_have_others(tmp_path):
    path = write(tmp_path, "a.jsonl", '{"text": "a", "id": 5}\n{"body": "b"}\n{"text": NaN}\n{"text": 7}\n')
    rows = read_rows(path, "text")
    assert rows.frame.to_dict("records") == [{"id": "5", "text": "a"}, {"id": "4", "text": "7"}]
    assert rows.dropped == 2
    assert refused(path, "review").cure == "--text-column NAME, one of: text, id, body"


@pytest.mark.parametrize("keep", [0, 4, 0.5, 0.99])
def test_a_corrupt_parquet(tmp_path, keep):
    whole = write_records(tmp_path, ".parquet", RECORDS).read_bytes()
    size = keep if isinstance(keep, int) else int(len(whole) * keep)
    assert "no readable Parquet" in refused(write(tmp_path, "a.parquet", whole[:size] + b"?")).problem


def test_a_parquet_with_damaged_pages(tmp_path):
    whole = bytearray(write_records(tmp_path, ".parquet", RECORDS).read_bytes())
    whole[4:60] = b"\xff" * 56
    assert "no readable Parquet" in refused(write(tmp_path, "a.parquet", bytes(whole))).problem


def test_a_parquet_column_of_bytes_is_refused(tmp_path):
    path = write_records(tmp_path, ".parquet", [{"text": b"raw"}])
    assert "row 1 has a bytes where a text belongs" in refused(path).problem


def test_whole_number_labels_stay_whole_beside_missing_texts(tmp_path):
    frame = pd.DataFrame({"text": ["a", None], "label": pd.array([1, None], dtype="Int64"), "id": [10, 11]})
    frame.to_parquet(tmp_path / "a.parquet")
    rows = read_rows(tmp_path / "a.parquet", "text", "label")
    assert rows.frame.to_dict("records") == [{"id": "10", "text": "a", "label": "1"}]


def test_a_parquet_column_name_may_have_a_dot(tmp_path):
    pd.DataFrame({"review.text": ["a"], "review": ["b"]}).to_parquet(tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet", "review.text").frame["text"]) == ["a"]


def test_a_parquet_without_any_of_the_columns_is_not_taken_for_empty(tmp_path):
    path = write_records(tmp_path, ".parquet", [{"body": "a", "stars": 5}])
    assert refused(path).cure == "--text-column NAME, one of: body, stars"


def test_a_parquet_with_a_column_twice_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    assert "has 2 columns named 'text'" in refused(tmp_path / "a.parquet").problem


def test_an_input_error_is_a_user_error_with_both_lines():
    error = InputError("what is wrong", "what to do")
    assert isinstance(error, UserError)
    assert (error.problem, error.cure) == ("what is wrong", "what to do")
