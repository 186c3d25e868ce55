"""IN3 (Qian et al. 2024, "Tell Me More") by path: 1,261 requests to an assistant, most of them vague, for the ``needs`` task.

Its own missing details are free text; which slots of our schema decide a good answer was labelled here, in ``in3-labels.tsv`` of the
corpus. That file holds no text of IN3: a label is joined to its request by a hash.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from personalagent.datasets.base import read_jsonl
from personalagent.datasets.corpus import BareRequest
from personalagent.errors import DataError

FILE = "train.jsonl"
LABELS = "in3-labels.tsv"
WHERE_TO_GET = "get data/IN3/train.jsonl of the GitHub repository OpenBMB/Tell_Me_More and give it or its folder; it is licensed under Apache-2.0"


def load_in3(path: Path, labels: Path) -> tuple[BareRequest, ...]:
    """Load the labelled requests of IN3's ``train.jsonl``, in its order; a request that stands there twice is one.

    Raises:
        DataError: a file is missing or cannot be read, or holds no request that is labelled.
    """
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"expected {FILE} of IN3, got {str(path)!r}, where there is none; {WHERE_TO_GET}")
    needs = read_labels(labels)
    found: dict[str, BareRequest] = {}
    for where, record in read_jsonl(file):
        task = record.get("task")
        if not isinstance(task, str):
            raise DataError(f"{where}: expected a record of IN3 with the text 'task', got none; {WHERE_TO_GET}")
        key = task_key(task)
        if key in needs:
            found.setdefault(key, BareRequest(f"in3-{key}", " ".join(task.split()), needs[key]))
    if not found:
        raise DataError(f"expected the requests that {labels.name} labels, got none of them in {str(file)!r}; {WHERE_TO_GET}")
    return tuple(found.values())


def read_labels(path: Path) -> dict[str, tuple[str, ...]]:
    """Read labels: a line for each request with its key, a tab, and slot paths separated by commas, or none; # begins a comment.

    Raises:
        DataError: the file is missing, or a line is not of this form.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"expected our labels of IN3, got a file that cannot be read: {path}; restore it") from error
    labels: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        key, tab, slots = line.partition("\t")
        if not tab or not slots or key in labels:
            raise DataError(f"{path.name}:{number}: expected a new key, a tab and slots or none, got {line!r}; mend the line")
        labels[key] = () if slots == "none" else tuple(slots.split(","))
    return labels


def task_key(task: str) -> str:
    """Return what a request of IN3 goes by: the first 16 digits of the sha256 of its words."""
    return hashlib.sha256(" ".join(task.split()).encode()).hexdigest()[:16]
