"""Words, stems and sentences: what the mock knows of English besides its lexicon."""

import re
from collections.abc import Iterable
from functools import lru_cache

_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['’][a-z]+)?")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<! Dr\.)(?<! Mr\.)[\"')\]]*\s+(?=[\w\"'(\[*`])"
)
_BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•]|\d+[.)]|#+)\s)|(?<=:)\n|(?<=[.!?])\n")
_HEADING = re.compile(r"^\s*#+\s*|^\s*(?:[-*•]|\d+[.)])\s+")

_STOP_WORDS = """
    a about above after again all also am an and any anybody anyone are aren't as at be because been
    before being below between both but by can can't cannot could couldn't did didn't do does doesn't
    doing don't down during each either else ever every few for from further get gets give given gives
    got had has have having he her here hers him his how i if in into is isn't it it's its itself just
    kind know let let's like may me might more most much must my need needs no nor not now of off on
    once one only or other our out over own per please same shall she should so some such tell than that
    that's the their them then there there's these they this those through to too under until up upon us
    use used using very was wasn't we were weren't what what's when where whether which while who whom
    whose why will with within without won't would wouldn't you your yours many long old far often
    according say says said mean means describe explain happen happens please name exist exists answer
    question
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())

# Ordinary synonyms that questions and manuals mix freely; each group counts as its first word.
_SYNONYM_GROUPS = """
    price cost fee charge|holiday vacation leave|employee staff worker|buy purchase order| refund
    reimburse|begin start launch|end finish stop|error failure fault|fast quick rapid|big large huge|
    small little tiny|delete remove erase|create make build|show display|choose select pick|allow
    permit| forbid prohibit disallow|help assist support|car vehicle|phone telephone|minimum
    least|maximum most| repair fix mend|doctor physician|client customer|company firm business|salary
    pay wage|weight weigh| height tall high|length long|deadline due|require need must|contain include
    hold|live reside|die death| author writer write written wrote|founder found establish|invent
    inventor|capital|temperature degree|ship deliver| warranty guarantee|keep retain store|change modify
    edit|increase raise grow|decrease reduce lower| document file|picture image photo|speed
    velocity|storage disk|laptop notebook|password passcode
"""

_SUFFIXES = (
    ("ations", "at"), ("ation", "at"), ("ators", "at"), ("ator", "at"), ("ating", "at"), ("ated", "at"),
    ("ates", "at"), ("ate", "at"), ("ements", ""), ("ement", ""), ("ments", ""), ("ment", ""), ("ness", ""),
    ("ities", ""), ("ity", ""), ("ions", ""), ("ion", ""), ("fully", ""), ("ings", ""), ("ing", ""),
    ("ies", "y"), ("ied", "y"), ("edly", ""), ("ed", ""), ("ers", ""), ("er", ""), ("ors", ""), ("or", ""),
    ("ly", ""), ("es", ""), ("s", ""), ("e", ""),
)  # fmt: skip


def words(text: str) -> list[str]:
    """Lower-case words and numbers, in order; 1,000 is 1000."""
    return [_plain(word) for word in _WORD.findall(text.lower())]


def _plain(word: str) -> str:
    if word[0].isdigit():
        return word.replace(",", "") if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", word) else word
    return word.replace("’", "'")


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """The word without its inflection: calculated, calculation and calculator are one stem."""
    word = word.removesuffix("'s").removesuffix("'")
    if len(word) <= 3 or word[0].isdigit() or word.endswith("ss"):
        return word
    for suffix, replacement in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            word = word[: len(word) - len(suffix)] + replacement
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "sl":
        word = word[:-1]
    return word[:-1] + "i" if len(word) > 3 and word.endswith("y") else word


_SYNONYMS = {stem(word): stem(group.split()[0]) for group in _SYNONYM_GROUPS.split("|") for word in group.split()}


@lru_cache(maxsize=50_000)
def concept(word: str) -> str:
    """The stem, or the stem of its synonym group's first word."""
    root = stem(word)
    return _SYNONYMS.get(root, root)


def content_words(text: str) -> list[str]:
    """Concepts of the words that carry meaning, in order, with repetitions."""
    return [concept(word) for word in words(text) if word not in STOP_WORDS and (len(word) > 1 or word.isdigit())]


def numbers(text: str) -> set[str]:
    """Numbers in the text, in one spelling each: 1,000 and 1000.0 are the same."""
    return {f"{float(word):g}" for word in words(text) if re.fullmatch(r"\d+(?:\.\d+)?", word)}


def sentences(text: str) -> list[str]:
    """Sentences and list items in order; lines wrapped inside a paragraph are joined first."""
    found: list[str] = []
    for block in _BLOCK.split(text):
        line = " ".join(_HEADING.sub("", block).split())
        found.extend(part.strip() for part in _SENTENCE_END.split(line) if part.strip())
    return found


def overlap(wanted: Iterable[str], given: Iterable[str]) -> float:
    """Share (0 to 1) of the distinct concepts in `wanted` that `given` has too; 0 when nothing is wanted."""
    needed = set(wanted)
    return len(needed & set(given)) / len(needed) if needed else 0.0


def shorten(text: str, limit: int = 120) -> str:
    """One line of at most `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 3].rstrip() + "..."
