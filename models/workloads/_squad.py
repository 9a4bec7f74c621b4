"""Questions from a file in SQuAD's own JSON form, cut to windows around their answers. No number
depends on this file but through the data it gives.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hybridsim import Data, InputError, Problem

PUBLISHED = "https://rajpurkar.github.io/SQuAD-explorer/"


class Question(NamedTuple):
    """A question, its context, and the characters of the context that answer it."""

    text: str
    context: str
    first: int
    after: int


def questions(workload: str, data_dir: str | None) -> list[Question]:
    """The questions that have an answer, in the file's order, each with its first answer.

    Raises:
        InputError: there is no file, or it holds something else.
    """
    root = data_dir or os.environ.get("HYBRIDSIM_DATA")
    expected = (
        "one .json file in <dir>/squad, with HYBRIDSIM_DATA=<dir>: questions in SQuAD's form "
        f"(published at {PUBLISHED})"
    )
    if not root:
        raise InputError([Problem(workload, None, "data_dir", expected, "HYBRIDSIM_DATA not set")])
    folder = Path(root).expanduser() / "squad"
    files = sorted(folder.glob("*.json"))
    if len(files) != 1:
        got = f"{len(files)} files *.json in {folder}"
        raise InputError([Problem(workload, None, "data_dir", expected, got)])
    try:
        return _read(json.loads(files[0].read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        form = (
            "data: [{paragraphs: [{context, qas: [{question, answers: [{text, answer_start}]}]}]}]"
        )
        got = f"{type(error).__name__}: {error}"
        raise InputError([Problem(str(files[0]), None, "", form, got)]) from error


def _read(document: Any) -> list[Question]:  # Any: whatever the file holds
    """Every question with an answer.

    Raises:
        ValueError: an answer does not stand where it is said to.
    """
    found = []
    paragraphs = (paragraph for article in document["data"] for paragraph in article["paragraphs"])
    for paragraph in paragraphs:
        context = str(paragraph["context"])
        for asked in paragraph["qas"]:
            if not asked["answers"]:
                continue
            text, first = asked["answers"][0]["text"], asked["answers"][0]["answer_start"]
            after = first + len(text)
            if not text or context[first:after] != text:
                raise ValueError(f"answer {text!r} is not at character {first} of its context")
            found.append(Question(str(asked["question"]), context, first, after))
    return found


class Windows(NamedTuple):
    """Token numbers and segments (n, 2, L) int64; first and last place of the answer (n, 2)."""

    x: Tensor
    y: Tensor


def windows(asked: list[Question], tokenizer: Any, sequence: int) -> Windows:
    """``[CLS] question [SEP] window [SEP]``, L = ``sequence`` tokens, padded where a context is
    short.

    Of a question its first L // 2 tokens. The window is drawn from all that hold the answer, so
    that the answer's place in it tells nothing. What has an answer too long for it is left out.

    Args:
        asked: the questions.
        tokenizer: a fast one of transformers, of BERT's form (Any: imported on first use alone).
        sequence: L.
    """
    plain = {"add_special_tokens": False, "verbose": False}
    titles = tokenizer([question.text for question in asked], **plain)["input_ids"]
    contexts = tokenizer(
        [question.context for question in asked], return_offsets_mapping=True, **plain
    )
    # torch is seeded around the call; how much an encoder drew before does not matter
    random = torch.Generator().manual_seed(torch.initial_seed())
    begin, end, pad = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id
    rows, places = [], []
    parts = zip(asked, titles, contexts["input_ids"], contexts["offset_mapping"], strict=True)
    for question, title, context, offsets in parts:
        before = [begin, *title[: sequence // 2], end]
        found = _place(question, offsets, sequence - len(before) - 1, random)
        if found is None:
            continue
        start, first, last = found
        tokens = [*before, *context[start : start + sequence - len(before) - 1], end]
        segments = [0] * len(before) + [1] * (len(tokens) - len(before))
        rest = sequence - len(tokens)
        rows.append([tokens + [pad] * rest, segments + [0] * rest])
        places.append([first - start + len(before), last - start + len(before)])
    return Windows(
        torch.tensor(rows, dtype=torch.int64).reshape(-1, 2, sequence),
        torch.tensor(places, dtype=torch.int64).reshape(-1, 2),
    )


def _place(
    question: Question, offsets: list[tuple[int, int]], room: int, random: torch.Generator
) -> tuple[int, int, int] | None:
    """Where a window of ``room`` tokens starts, and the answer's first and last token, in tokens of
    the context; None where it does not fit.
    """
    answer = [
        token
        for token, (first, after) in enumerate(offsets)
        if first < question.after and after > question.first
    ]
    if not answer or len(answer) > room:
        return None
    first, last = answer[0], answer[-1]
    earliest = max(0, last + 1 - room)
    latest = max(earliest, min(first, len(offsets) - room))
    return int(torch.randint(earliest, latest + 1, (), generator=random)), first, last


def split(found: Windows, train_size: int, test_size: int) -> Data:
    """The first windows to train on, the last ones to test on: other articles, unless all are
    taken.
    """
    return Data(
        found.x[:train_size], found.y[:train_size], found.x[-test_size:], found.y[-test_size:]
    )
