"""Settings of algorithms and optimizers: one module each, found by name.

A module ``<kind>.py`` of this package defines one settings class, whose field ``kind`` is the
module's name. A subclass of :class:`OptimizerSettings` can be trained with by itself and named
under ``update:`` of the other algorithms; its arithmetic lies in
``hybridsim/algorithms/optimizers/<kind>.py``.
"""

from __future__ import annotations

import pkgutil
import sys
from functools import reduce
from importlib import import_module
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args

from pydantic import Field, create_model

from hybridsim.scenario.fields import Short
from hybridsim.scenario.settings.base import (
    TRAINING,
    AlgorithmSettings,
    OptimizerSettings,
    WeightDecay,
)

__all__ = ["ALGORITHMS", "OPTIMIZERS", "Algorithm", "AlgorithmSettings", "OptimizerSettings"]

_COMMON = ("analog", "base")


def _settings_class(kind: str) -> type[AlgorithmSettings]:
    """The settings class that the module ``kind`` of this package defines.

    Raises:
        TypeError: it defines none of this kind, or several.
    """
    module = import_module(f"{__name__}.{kind}")
    found = [
        item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, AlgorithmSettings)
        and item.__module__ == module.__name__
    ]
    if len(found) != 1 or get_args(found[0].model_fields["kind"].annotation) != (kind,):
        expected = f'one subclass of AlgorithmSettings with kind: Literal["{kind}"]'
        raise TypeError(f"{module.__name__}: expected {expected}, got {found}")
    return found[0]


def _as_update(settings: type[OptimizerSettings]) -> type[OptimizerSettings]:
    """An optimizer's settings under ``update:``: learning rate, schedule and clipping are the
    algorithm's, and there is no weight decay unless it is asked for.

    The class stands beside the optimizer's own, ``AdamUpdate`` beside ``Adam``, so that settings
    can be pickled.
    """
    name = f"{settings.__name__}Update"
    # A class variable in a field's place: the field is gone, validators of the class stay.
    changed: dict[str, Any] = dict.fromkeys(TRAINING, (ClassVar[None], None))  # create_model's
    decay = settings.model_fields.get("weight_decay")
    if decay is not None and decay.default:
        changed["weight_decay"] = (WeightDecay, 0.0)
    made = create_model(
        name, __base__=settings, __module__=settings.__module__, __doc__=settings.__doc__, **changed
    )
    setattr(sys.modules[settings.__module__], name, made)
    return made


ALGORITHMS: dict[str, type[AlgorithmSettings]] = {
    module.name: _settings_class(module.name)
    for module in pkgutil.iter_modules(__path__)
    if module.name not in _COMMON
}
"""Every settings class by its kind."""
OPTIMIZERS: dict[str, type[OptimizerSettings]] = {
    kind: settings
    for kind, settings in ALGORITHMS.items()
    if issubclass(settings, OptimizerSettings)
}
"""Those of the optimizers."""

if TYPE_CHECKING:
    Algorithm = AlgorithmSettings
else:
    _UPDATES = tuple(_as_update(settings) for settings in OPTIMIZERS.values())
    _UPDATE = Annotated[reduce(or_, _UPDATES), Field(discriminator="kind"), Short("kind")]
    for _settings in ALGORITHMS.values():
        _settings.model_rebuild(_types_namespace={"Update": _UPDATE})
    Algorithm = Annotated[reduce(or_, ALGORITHMS.values()), Field(discriminator="kind")]
