"""A folder with every kind of document, and every fault that a file can have."""

import os
from pathlib import Path

GOOD_NAMES = {"plain.txt", "notes of mine.md", "sub/Übersicht 猫.rst", "page.html", "paper.pdf", "again.txt"}
FAULTS = {
    "latin.txt: not UTF-8 (byte 2)",
    "empty.md: no text in it",
    "blank.txt: no text in it",
    "broken.pdf: broken PDF (PdfStreamError)",
    "out.md: a link that leads out of the folder",
    "outside: a link to a folder",
    "nothing.md: a link to nothing",
    r"Gr\xfc\xdfe.md: a file whose name is not UTF-8",
}


def write_every_kind(folder: Path, sentence: str) -> Path:
    """GOOD_NAMES, each with the sentence, and the files of FAULTS. A file that cannot be read is a test of its own:
    root, as which tests may run, reads everything."""
    from matplotlib.figure import Figure

    outside = folder.parent / "outside"
    for each in (folder / "sub", outside):
        each.mkdir(parents=True)
    (folder / "plain.txt").write_text(sentence, encoding="utf-8")
    (folder / "notes of mine.md").write_text(f"# Notes\n\n{sentence}\n", encoding="utf-8")
    (folder / "sub" / "Übersicht 猫.rst").write_text(f"Notes\n=====\n\n{sentence}\n", encoding="utf-8-sig")
    (folder / "page.html").write_text(f"<script>no()</script><p>{sentence}</p>", encoding="utf-8")
    page = Figure()
    page.text(0.05, 0.5, sentence)
    page.savefig(folder / "paper.pdf")
    (folder / "again.txt").symlink_to(folder / "plain.txt")

    (folder / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    (folder / "empty.md").write_bytes(b"")
    (folder / "blank.txt").write_bytes(b" \n\t\n")
    (folder / "broken.pdf").write_bytes((folder / "paper.pdf").read_bytes()[:500])
    (outside / "secret.md").write_text(f"Secret: {sentence}", encoding="utf-8")
    (folder / "out.md").symlink_to(outside / "secret.md")
    (folder / "outside").symlink_to(outside)
    (folder / "nothing.md").symlink_to(folder / "nowhere.md")
    Path(os.fsdecode(os.fsencode(folder) + b"/Gr\xfc\xdfe.md")).write_text(sentence, encoding="utf-8")
    return folder
