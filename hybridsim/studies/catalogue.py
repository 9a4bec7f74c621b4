"""The kinds of question: one module of ``hybridsim/studies/questions`` each, found by its name."""

from __future__ import annotations

import pkgutil
from functools import reduce
from importlib import import_module
from operator import or_
from typing import TYPE_CHECKING, Annotated, get_args

from pydantic import Field

from hybridsim.studies import questions
from hybridsim.studies.questions.base import Question

_COMMON = "base"


def _question_class(kind: str) -> type[Question]:
    """The question that the module ``kind`` defines.

    Raises:
        TypeError: it defines none of this kind, or several.
    """
    module = import_module(f"{questions.__name__}.{kind}")
    found = [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Question)
        and item.__module__ == module.__name__
    ]
    if len(found) != 1 or get_args(found[0].model_fields["kind"].annotation) != (kind,):
        expected = f'one subclass of Question with kind: Literal["{kind}"]'
        raise TypeError(f"{module.__name__}: expected {expected}, got {found}")
    return found[0]


QUESTIONS: dict[str, type[Question]] = {
    module.name: _question_class(module.name)
    for module in pkgutil.iter_modules(questions.__path__)
    if module.name != _COMMON and not module.name.startswith("_")
}
"""Every question's class by its kind."""

if TYPE_CHECKING:
    AnyQuestion = Question
elif len(QUESTIONS) == 1:
    (AnyQuestion,) = QUESTIONS.values()  # a union of one has no discriminator
else:
    AnyQuestion = Annotated[reduce(or_, QUESTIONS.values()), Field(discriminator="kind")]
