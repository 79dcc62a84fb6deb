"""Improving a prompt from examples of how it failed, in the forms that GEPA, MLflow's MetaPrompt and others
ask for."""

import json
import re
from collections import Counter

from .prompt import Prompt
from .text import shorten, words

_GEPA = re.compile(r"write a new instruction for the assistant|provide the new instructions? within ```", re.I)
_META = re.compile(r"expert prompt engineer|improve\s+the following prompts|CURRENT PROMPTS:", re.I)
_PLAIN = re.compile(r"\b(?:improve|rewrite|optimi[sz]e|revise)\b.{0,40}\b(?:prompt|instructions?|template)\b", re.I)
_META_PROMPT = re.compile(
    r"^Prompt name: (.+?)\nTemplate: (.*?)(?=\n\nPrompt name: |\n\nEVALUATION EXAMPLES|"
    r"\n\s*\nPROMPT ENGINEERING|\Z)",
    re.S | re.M,
)
_FENCE = re.compile(r"```(?:\w*\n)?\s*(.*?)\s*```", re.S)
_META_EXAMPLE = re.compile(r"^\s*Output: (.*?)\n\s*Expected: (.*?)\n(?:\s*Score: ([\d.]+))?", re.M | re.S)
_VARIABLE = re.compile(r"\{\{\s*\w+\s*\}\}")
_LEAF = re.compile(
    r"'?(?:expected_response|expected_facts|expected_output|expected|label|answer|response|"
    r"sentiment|outputs?)'?\s*:\s*(\[[^\]]*\]|'[^']*'|\"[^\"]*\"|[^,}\n]+)",
    re.I,
)


def asks_to_improve(prompt: Prompt) -> bool:
    """Whether the prompt asks for a better prompt."""
    return any(pattern.search(prompt.user) for pattern in (_GEPA, _META)) or bool(_PLAIN.search(prompt.user[:400]))


def improve(prompt: Prompt) -> str:
    """The better prompt, in the form asked for: fenced for GEPA, a JSON object by prompt name for MetaPrompt,
    else bare."""
    text = prompt.user
    if _META.search(text):
        found = _META_PROMPT.findall(text)
        return json.dumps(
            {name.strip(): rewrite_template(template.strip(), read_meta_examples(text)) for name, template in found}
        )
    fences = _FENCE.findall(text)
    current = fences[0] if fences else text
    if _GEPA.search(text):
        return f"```\n{rewrite_template(current, read_gepa_examples(text))}\n```"
    return rewrite_template(current, read_meta_examples(text) or read_gepa_examples(text))


def read_meta_examples(text: str) -> list[tuple[str, str, float | None]]:
    """(output, expected, score) of MetaPrompt's examples."""
    return [
        (output.strip(), _expected(expected), float(score) if score else None)
        for output, expected, score in _META_EXAMPLE.findall(text)
    ]


def read_gepa_examples(text: str) -> list[tuple[str, str, float | None]]:
    """(output, expected, score) of GEPA's examples, which are markdown headings with values below them."""
    found = []
    for part in re.split(r"^# Example \d+\s*$", text, flags=re.M)[1:]:
        block = re.split(r"\n```\s*\n", part)[0]
        sections = dict(re.findall(r"^## ([\w ]+)\n(.*?)(?=^## |\Z)", block, re.S | re.M))
        named = {
            name.strip().lower(): re.sub(r"^#+ .*\n", "", body, flags=re.M).strip() for name, body in sections.items()
        }
        output = named.get("outputs") or named.get("generated outputs") or named.get("output") or ""
        expected = named.get("expectations") or named.get("expected") or named.get("feedback") or ""
        score = re.search(r"[\d.]+", named.get("score", ""))
        found.append((output, _expected(expected), float(score[0]) if score else None))
    return found


def _expected(text: str) -> str:
    """The expected answer in a printed dictionary, or the text itself."""
    leaf = _LEAF.search(text)
    return (leaf.group(1) if leaf else text).strip().strip("'\"[]").strip()


def rewrite_template(template: str, examples: list[tuple[str, str, float | None]]) -> str:
    """The template with what the failures show to be missing, its variables untouched."""
    additions = [line for line in _diagnose(template, examples) if line.lower() not in template.lower()]
    if not additions:
        return template
    block = "\n".join(additions)
    variable = _VARIABLE.search(template)
    if variable is None:
        return f"{template.rstrip()}\n{block}"
    head, tail = template[: variable.start()].rstrip(), template[variable.start() :]
    label = re.search(r"(?:^|\n)([^\n]{0,30}:)$", head)
    if label:  # "Review:" stays with its variable
        head, tail = head[: label.start(1)].rstrip(), f"{label.group(1)} {tail}"
    return "\n".join(part for part in (head, block, "", tail) if part or head)


def _diagnose(template: str, examples: list[tuple[str, str, float | None]]) -> list[str]:
    """Lines to add: allowed labels, the form of the answer, honesty about what the passages lack."""
    failed = [
        (o, e) for o, e, score in examples if e and (score is None or score < 1) and o.strip().lower() != e.lower()
    ]
    labels = _labels([expected for _, expected, _ in examples if expected])
    lines = _about_labels(template, labels) if labels else _about_length(template, failed)
    takes_passages = re.search(r"\{\{\s*\w*(?:context|passage|document)\w*\s*\}\}", template, re.I)
    if takes_passages and not re.search(r"\bonly\b", template, re.I):
        lines.append("Use only the passages, and say that you do not know when they do not contain the answer.")
    if not lines and not examples:
        lines.append("Be specific, follow the requested format exactly, and answer concisely.")
    if not lines and failed:
        output, wanted = failed[0]
        lines.append(
            f"For example, the answer {shorten(output, 60)!r} was wrong where {shorten(wanted, 60)!r} was wanted."
        )
    return lines


def _about_labels(template: str, labels: list[str]) -> list[str]:
    lines = []
    if not all(re.search(rf"\b{re.escape(label)}\b", template, re.I) for label in labels):
        lines.append(f"Choose exactly one of these labels: {', '.join(labels[:-1])} or {labels[-1]}.")
    if not re.search(r"\bone word\b|\bonly the label\b|\bnothing else\b", template, re.I):
        lines.append("Answer with one word, the label alone, and nothing else.")
    return lines


def _about_length(template: str, failed: list[tuple[str, str]]) -> list[str]:
    told = re.search(r"\bone (?:short )?sentence\b|\bconcise\b|\bshort\b", template, re.I)
    return ["Answer in one short sentence."] if failed and _are_longer(failed) and not told else []


def _labels(expected: list[str]) -> list[str]:
    """The labels, when the expected answers are a few short ones that repeat; in alphabetical order."""
    counts = Counter(expected)
    if (
        len(expected) < 2
        or len(counts) > max(2, min(8, len(expected) * 0.8))
        or any(len(words(label)) > 2 for label in counts)
    ):
        return []
    return sorted(counts) if len(counts) > 1 else []


def _are_longer(failed: list[tuple[str, str]]) -> bool:
    longer = sum(len(words(output)) > 2 * len(words(expected)) for output, expected in failed)
    return longer * 2 >= len(failed)
