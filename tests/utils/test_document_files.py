"""Documents of a folder: which are listed, what is read, and what is said about a file that cannot be read."""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest

from utils.document_files import (
    READERS,
    SHOWN,
    UnreadableDocument,
    cut_sections,
    hash_file,
    left_out_lines,
    list_documents,
    read_document,
    read_partition,
    scan_folder,
)
from utils.errors import InputError

on_posix = pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions and pipes")


def make_pdf(content: bytes, *, fonts: str = "/F1 5 0 R", extra: bytes = b"") -> bytes:
    """A PDF of one page, written by hand; `content` is its content stream."""
    page = (
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R /Resources << /Font << {fonts} >> >> >>"
    )
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        page.encode(),
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica %b>>" % extra,
    ]
    body, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj\n%b\nendobj\n" % (number, content)
    table = b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + table + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(body)


HELLO = b"BT /F1 12 Tf 50 200 Td (Spans have times.) Tj ET"
GOOD = {
    ".txt": (b"Spans have times.", "Spans have times."),
    ".md": ("# Ü\n\nSpäne.\n".encode(), "# Ü\n\nSpäne.\n"),
    ".rst": (b"\xef\xbb\xbfTitle\n=====\n", "Title\n=====\n"),
    ".html": (b"<p>One</p><script>bad()</script><style>p{}</style><p>Two &amp; three</p>", "One\nTwo & three"),
    ".htm": ("<h1>Grüße</h1>".encode(), "Grüße"),
    ".pdf": (make_pdf(HELLO), "Spans have times."),
}


@pytest.mark.parametrize("suffix", READERS)
def test_every_kind_of_document_is_read(tmp_path: Path, suffix: str) -> None:
    content, text = GOOD[suffix]
    for name in (f"a{suffix}", f"b{suffix.upper()}"):
        (tmp_path / name).write_bytes(content)
        assert read_document(str(tmp_path / name)) == text
    assert len(list_documents(tmp_path)) == 2


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("latin.txt", "Grüße".encode("latin-1"), r"not UTF-8 \(byte 2\)"),
        ("latin.html", "<p>ü".encode("latin-1"), r"not UTF-8 \(byte 3\)"),
        ("utf16.md", "Spans".encode("utf-16"), r"not UTF-8 \(byte 0\)"),
        ("empty.txt", b"", "no text in it"),
        ("blank.md", b" \n\t\n", "no text in it"),
        ("script.html", b"<script>only()</script>", "no text in it"),
        ("picture.pdf", make_pdf(b"0 0 10 10 re f"), "no text in it"),
        ("empty.pdf", b"", r"broken PDF \(EmptyFileError\)"),
        ("text.pdf", b"Spans have times.", r"broken PDF \(Pdf"),
        ("cut.pdf", make_pdf(HELLO)[:200], r"broken PDF \("),
        ("missing.txt", None, "No such file or directory"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableDocument, match=reason):
        read_document(str(tmp_path / name))


def test_a_pdf_that_a_real_program_wrote_is_read(tmp_path: Path) -> None:
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    with PdfPages(tmp_path / "pages.pdf") as pages:
        for text in ("Aliases move, versions stay.", "Grüße aus Zürich"):
            page = Figure()
            page.text(0.1, 0.5, text)
            pages.savefig(page)
    assert read_document(str(tmp_path / "pages.pdf")).split("\n\n") == [
        "Aliases move, versions stay.",
        "Grüße aus Zürich",
    ]


def test_whatever_pypdf_raises_is_a_broken_pdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(*args: object) -> None:
        raise AssertionError("what a damaged file did once in 14,000")

    monkeypatch.setattr("pypdf.PdfReader", give_up)
    with pytest.raises(UnreadableDocument, match="AssertionError"):
        read_document(str(tmp_path / "a.pdf"))


def test_half_a_character_out_of_a_pdf_does_not_stop_utf8(tmp_path: Path) -> None:
    table = b"/CIDInit /ProcSet findresource begin begincmap 1 begincodespacerange <00> <FF> endcodespacerange "
    table += b"1 beginbfchar <41> <D800> endbfchar endcmap end"
    pdf = make_pdf(b"BT /F1 12 Tf 50 200 Td (ABC) Tj ET", extra=b"/ToUnicode 6 0 R ")
    place = pdf.index(b"xref")
    packed = zlib.compress(table)
    stream = b"6 0 obj\n<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream\nendobj\n" % (len(packed), packed)
    (tmp_path / "a.pdf").write_bytes(pdf[:place] + stream + pdf[place:].replace(b"startxref\n", b"startxref\n9"))
    text = read_document(str(tmp_path / "a.pdf"))
    assert text.encode("utf-8").endswith(b"BC")
    assert "A" not in text


def test_spark_gets_a_row_for_every_file(tmp_path: Path) -> None:
    for name, content in (("a.txt", b"one"), ("b.txt", b"\xff"), ("c.md", b"three")):
        (tmp_path / name).write_bytes(content)
    files = pd.DataFrame([vars(file) for file in list_documents(tmp_path)])
    (read,) = read_partition(iter([files]))
    assert read["document"].tolist() == ["a.txt", "b.txt", "c.md"]
    assert read["text"].dropna().to_dict() == {0: "one", 2: "three"}
    assert read["error"].dropna().to_dict() == {1: "not UTF-8 (byte 0)"}
    (nothing,) = read_partition(iter([files.head(0)]))
    assert nothing.columns.tolist() == ["document", "text", "error"]


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")


def names_in(folder: Path) -> list[str]:
    return [file.name for file in list_documents(folder)]


def test_documents_are_found_in_folders_and_named_from_the_top(tmp_path: Path) -> None:
    write(tmp_path, "b.md", "a b.txt", "sub/deep/c.html", "Übung/猫 1.rst", "notes.docx", "data.csv", "noend")
    assert names_in(tmp_path) == ["a b.txt", "b.md", "sub/deep/c.html", "Übung/猫 1.rst"]
    for file in list_documents(tmp_path):
        assert Path(file.path).read_text() == "text"


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, ".hidden.md", ".git/config.txt", "sub/.cache/x.md", "seen.md")
    assert names_in(tmp_path) == ["seen.md"]


def test_a_hidden_folder_that_is_asked_for_is_read(tmp_path: Path) -> None:
    write(tmp_path / ".notes", "a.md")
    assert names_in(tmp_path / ".notes") == ["a.md"]


def test_links_are_followed_inside_the_folder_only(tmp_path: Path) -> None:
    write(tmp_path, "outside/secret.md", "docs/a.md", "docs-2/b.md")
    docs = tmp_path / "docs"
    (docs / "out.md").symlink_to(tmp_path / "outside" / "secret.md")
    (docs / "neighbour.md").symlink_to(tmp_path / "docs-2" / "b.md")
    (docs / "folder").symlink_to(tmp_path / "outside")
    (docs / "broken.md").symlink_to(docs / "nowhere.md")
    (docs / "round").symlink_to(docs)
    (docs / "again.md").symlink_to(docs / "a.md")
    assert names_in(docs) == ["a.md", "again.md"]
    (tmp_path / "link").symlink_to(docs)
    assert names_in(tmp_path / "link") == ["a.md", "again.md"]
    assert scan_folder(docs).left_out == {
        "out.md": "a link that leads out of the folder",
        "neighbour.md": "a link that leads out of the folder",
        "folder": "a link to a folder",
        "broken.md": "a link to nothing",
        "round": "a link to a folder",
    }


def test_a_link_to_itself_is_a_link_to_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    (tmp_path / "self.md").symlink_to(tmp_path / "self.md")
    assert scan_folder(tmp_path).left_out == {"self.md": "a link to nothing"}


@on_posix
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    os.mkfifo(tmp_path / "pipe.md")
    assert names_in(tmp_path) == ["a.md"]
    assert scan_folder(tmp_path).left_out == {"pipe.md": "no regular file"}


@on_posix
def test_a_name_that_is_not_utf8_is_named_as_far_as_it_can_be(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/Gr\xfc\xdfe.md")).write_text("text")
    assert names_in(tmp_path) == ["a.md"]
    assert scan_folder(tmp_path).left_out == {r"Gr\xfc\xdfe.md": "a file whose name is not UTF-8"}


def test_many_that_are_left_out_are_counted_not_listed() -> None:
    def lines(count: int) -> list[str]:
        return left_out_lines({f"{n:05d}.md": "no text in it" for n in range(count)})

    assert lines(2) == ["left out 00000.md: no text in it", "left out 00001.md: no text in it"]
    assert len(lines(SHOWN + 1)) == SHOWN + 1
    assert lines(10_000)[SHOWN:] == ["left out 9,980 more"]


def test_a_hash_is_of_the_bytes_and_not_of_the_time(tmp_path: Path) -> None:
    write(tmp_path, "a.md", "b.md")
    os.utime(tmp_path / "b.md", (1, 1))
    assert hash_file(str(tmp_path / "a.md")) == hash_file(str(tmp_path / "b.md"))
    (tmp_path / "b.md").write_text("texts")
    assert hash_file(str(tmp_path / "a.md")) != hash_file(str(tmp_path / "b.md"))
    with pytest.raises(UnreadableDocument, match="No such file"):
        hash_file(str(tmp_path / "c.md"))


@pytest.mark.parametrize("unit", ["word ", "line\n", "A paragraph.\n\n", "nowheretocut", "\n\n" + "x" * 300, "猫"])
@pytest.mark.parametrize("times", [0, 1, 500])
def test_sections_are_small_and_joined_are_the_text(unit: str, times: int) -> None:
    text = unit * times
    sections = list(cut_sections(text, characters=100))
    assert "".join(sections) == text
    assert max(map(len, sections)) <= 100 and len(sections) <= 3 + len(text) / 20


def test_a_section_ends_with_a_paragraph_where_there_is_one() -> None:
    text = "One two three.\n\nFour five.\nSix seven eight nine."
    assert list(cut_sections(text, 33)) == ["One two three.\n\n", "Four five.\nSix seven eight nine."]
    assert list(cut_sections("Four five.\nSix seven.", 15)) == ["Four five.\n", "Six seven."]
    assert list(cut_sections("Four five six", 11)) == ["Four five ", "six"]


@pytest.mark.parametrize("content", [(), ("photo.jpg",), (".hidden.md",), ("sub/.x/a.md",)])
def test_a_folder_without_documents_is_refused_with_the_cure(tmp_path: Path, content: tuple[str, ...]) -> None:
    write(tmp_path, *content)
    with pytest.raises(InputError) as refusal:
        list_documents(tmp_path)
    assert "holds no documents" in refusal.value.problem
    assert ".pdf" in refusal.value.problem
    assert "--create-sample-docs" in refusal.value.cure


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.md")
    with pytest.raises(InputError, match="is a file"):
        list_documents(tmp_path / "a.md")
    with pytest.raises(InputError, match="there is no folder"):
        list_documents(tmp_path / "nowhere")


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that everyone may read; root, whom nothing is forbidden, becomes nobody for the test."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        write(folder, "a.md", "locked.md", "sub/b.md")
        (folder / "locked.md").chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        yield folder
        os.seteuid(user)
        (folder / "sub").chmod(0o755)


@on_posix
def test_a_file_without_permission_is_reported(as_nobody: Path) -> None:
    assert names_in(as_nobody) == ["a.md", "locked.md", "sub/b.md"]
    with pytest.raises(UnreadableDocument, match="Permission denied"):
        read_document(str(as_nobody / "locked.md"))


@on_posix
def test_a_folder_without_permission_is_no_empty_folder(as_nobody: Path) -> None:
    user = os.geteuid()
    os.seteuid(os.getuid())
    (as_nobody / "sub").chmod(0)
    os.seteuid(user)
    with pytest.raises(InputError, match=r"cannot list the folder .*sub: Permission denied"):
        list_documents(as_nobody)


def test_a_folder_is_read_whole_and_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.md").write_text("words")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xfa")
    from utils.document_files import read_folder

    texts, unreadable = read_folder(tmp_path)
    assert texts == {"a.md": "words"} and set(unreadable) == {"b.txt"}
    (tmp_path / "a.md").write_text(" ")
    with pytest.raises(InputError, match="none of the documents"):
        read_folder(tmp_path)
