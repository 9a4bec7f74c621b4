"""Windows around answers: they hold the question, the answer, and as much context as there is
room for."""

from __future__ import annotations

import json
import re
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.errors import InputError
from hybridsim.models.workloads import _squad
from hybridsim.models.workloads._squad import Question, questions, windows
from hybridsim.tasks.task import load_workload

BEGIN, END, PAD = 1, 2, 0


class Words:
    """A tokenizer whose tokens are words; the n-th word of the texts so far has number n + 3."""

    cls_token_id, sep_token_id, pad_token_id = BEGIN, END, PAD

    def __init__(self) -> None:
        self.known: list[str] = []

    def __call__(self, texts, add_special_tokens, verbose, return_offsets_mapping=False):
        assert not add_special_tokens and not verbose
        found = [list(re.finditer(r"\S+", text)) for text in texts]
        numbers = [[self.number(word.group()) for word in words] for words in found]
        offsets = [[word.span() for word in words] for words in found]
        return {"input_ids": numbers, "offset_mapping": offsets}

    def number(self, word: str) -> int:
        if word not in self.known:
            self.known.append(word)
        return self.known.index(word) + 3


WORD = st.text("abcxyz", min_size=1, max_size=4)
TEXT = st.lists(WORD, min_size=1, max_size=30)


@st.composite
def asked(draw):
    """A question, and an answer of whole words."""
    context = draw(TEXT)
    first = draw(st.integers(0, len(context) - 1))
    last = draw(st.integers(first, min(len(context) - 1, first + 4)))
    start = len(" ".join([*context[:first], ""])) if first else 0
    answer = " ".join(context[first : last + 1])
    return Question(" ".join(draw(TEXT)), " ".join(context), start, start + len(answer))


@settings(max_examples=40)
@given(found=st.lists(asked(), min_size=1, max_size=5), sequence=st.integers(8, 24))
def test_a_window_holds_question_answer_and_all_the_context_it_can(found, sequence):
    words = Words()
    made = windows(found, words, sequence)
    titles = [q.text.split()[: sequence // 2] for q in found]
    rooms = [sequence - 3 - len(title) for title in titles]
    answers = [q.context[q.first : q.after].split() for q in found]
    kept = [k for k, answer in enumerate(answers) if len(answer) <= rooms[k]]
    assert made.x.shape == (len(kept), 2, sequence) and made.y.shape == (len(kept), 2)
    for k, (tokens, segments), (first, last) in zip(kept, made.x, made.y, strict=True):
        there = [[words.known[t - 3] if t > END else int(t) for t in tokens.tolist()]][0]
        assert there[first : last + 1] == answers[k]
        size = min(rooms[k], len(found[k].context.split()))
        head = [BEGIN, *titles[k], END]
        text = there[len(head) : len(head) + size]
        assert there == head + text + [END] + [PAD] * (rooms[k] - size)
        assert " ".join(text) in f"{found[k].context}"
        assert segments.tolist() == [0] * len(head) + [1] * (size + 1) + [0] * (rooms[k] - size)


def test_the_place_of_an_answer_tells_nothing():
    """Where the context is long enough, every place in the window is taken about as often."""
    context = " ".join(f"w{k}" for k in range(200))
    start = context.index("w100")
    same = [Question("a b", context, start, start + 4)] * 440
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        places = windows(same, Words(), 16).y
    counts = Counter(places[:, 0].tolist())
    assert sorted(counts) == list(range(4, 15)) and torch.equal(places[:, 0], places[:, 1])
    assert sum((n - 40) ** 2 / 40 for n in counts.values()) < 40  # chi² of 10, p = 2e-5


ASKED = [
    {"question": "What floats?", "answers": [{"text": "Ice", "answer_start": 0}]},
    {"question": "Why?", "answers": []},
    {"question": "Where?", "answers": [{"text": "on water", "answer_start": 11}]},
]
DOCUMENT = {"data": [{"paragraphs": [{"context": "Ice floats on water.", "qas": ASKED}]}]}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "squad").mkdir()
    (tmp_path / "squad" / "some.json").write_text(json.dumps(DOCUMENT))
    return tmp_path


def test_questions_without_an_answer_are_left_out(folder):
    context = "Ice floats on water."
    assert questions("squad_lora", str(folder)) == [
        Question("What floats?", context, 0, 3),
        Question("Where?", context, 11, 19),
    ]


def test_what_is_missing_is_named_with_where_it_is_published(folder, monkeypatch):
    monkeypatch.delenv("HYBRIDSIM_DATA", raising=False)
    with pytest.raises(InputError, match="HYBRIDSIM_DATA not set") as caught:
        load_workload("squad_lora", {})
    assert _squad.PUBLISHED in str(caught.value)
    (folder / "squad" / "other.json").write_text("{}")
    with pytest.raises(InputError, match=r"one .json file .*, got 2 files"):
        questions("squad_lora", str(folder))


@pytest.mark.parametrize("damage", ['"Ice"', '"answer_start": 11', '"paragraphs"', '{"data"'])
def test_a_damaged_file_is_refused(folder, damage):
    file = folder / "squad" / "some.json"
    text = file.read_text()
    file.write_text(text.replace(damage, damage.replace("1", "2") if "1" in damage else '"x"', 1))
    with pytest.raises(InputError, match="some.json: expected data: "):
        questions("squad_lora", str(folder))
