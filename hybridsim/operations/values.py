"""Values as files: tensors by safetensors, what holds them as JSON; nothing of it is executed.

A tensor comes back with its strides and its place within a cache line, on which the last bit of a
product may depend.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hybridsim.errors import InputError
from hybridsim.files import whole_file
from hybridsim.outcome import Value

_LINE_BYTES = 64
_TREE = "values"
Tree = Any  # JSON
_Tensors = dict[str, Tensor]


class Unkeepable(TypeError):
    """A value is of a type that no file takes."""


def write_values(path: Path, values: Mapping[bytes, Value]) -> str:
    """Write values by key; returns the file's SHA-256.

    Raises:
        Unkeepable: one is neither tensors nor numbers, nor holds only such.
    """
    tensors: _Tensors = {}
    tree = {key.hex(): _tree(value, tensors) for key, value in values.items()}
    content = save(tensors, {_TREE: json.dumps(tree)})
    with whole_file(path) as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


class Values:
    """Values of a file.

    Raises:
        InputError: the file is not there, or is not what was written.
    """

    def __init__(self, path: Path, sha256: str) -> None:
        self._path = path
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != sha256:
                raise InputError(f"{path}: expected the values as the run wrote them, got others")
            self._whole = load(content)
            head = int.from_bytes(content[:8], "little")
            self._tree = json.loads(json.loads(content[8 : 8 + head])["__metadata__"][_TREE])
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InputError(f"{path}: expected values that a run kept, got: {error}") from error

    def __contains__(self, key: bytes) -> bool:
        return key.hex() in self._tree

    def __getitem__(self, key: bytes) -> Value:
        return self._value(self._tree[key.hex()])

    def _value(self, tree: Tree) -> Value:
        ((kind, content),) = tree.items()
        if kind == "plain":
            return content
        if kind == "tensor":
            return self._tensor(content)
        if kind == "dtype":
            return getattr(torch, content)
        if kind == "list":
            return [self._value(item) for item in content]
        if kind == "tuple":
            return tuple(self._value(item) for item in content)
        if kind == "map":
            return {self._value(key): self._value(item) for key, item in content}
        made: Any = _class(content["class"])  # Any: a class that was found when it was written
        return made(**{name: self._value(item) for name, item in content["fields"].items()})

    def _tensor(self, content: Tree) -> Tensor:
        flat = self._whole[content["name"]].to(content["device"])
        offset = content["offset"]
        room = torch.empty(offset + len(flat), dtype=flat.dtype, device=flat.device)
        room[offset:] = flat
        return torch.as_strided(room, content["size"], content["stride"], offset)


def _tree(value: Value, tensors: _Tensors) -> Tree:
    if value is None or isinstance(value, bool | int | float | str):
        return {"plain": value}
    if isinstance(value, Tensor):
        return {"tensor": _kept(value.detach(), tensors)}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, Mapping):
        return {"map": [[_tree(k, tensors), _tree(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple) and (names := getattr(value, "_fields", None)) is not None:
        return _object(value, dict(zip(names, value, strict=True)), tensors)
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_tree(item, tensors) for item in value]}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _object(value, fields, tensors)
    raise Unkeepable(f"expected tensors, numbers or what holds them, got a {type(value).__name__}")


def _object(value: Value, fields: Mapping[str, Value], tensors: _Tensors) -> Tree:
    name = f"{type(value).__module__}:{type(value).__qualname__}"
    if _class(name) is not type(value):
        raise Unkeepable(f"expected a type of hybridsim's, got {name}")
    inner = {key: _tree(item, tensors) for key, item in fields.items()}
    return {"object": {"class": name, "fields": inner}}


def _class(name: str) -> type | None:
    """A class of this package by name; nothing else is looked for."""
    module, _, qualified = name.partition(":")
    if module.partition(".")[0] != "hybridsim":
        return None
    found: Any = importlib.import_module(module)  # Any: whatever it holds
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) else None


def _kept(tensor: Tensor, tensors: _Tensors) -> Tree:
    """All of the storage between its first and its last element."""
    steps = zip(tensor.size(), tensor.stride(), strict=True)
    length = 1 + sum((size - 1) * stride for size, stride in steps) if tensor.numel() else 0
    name = str(len(tensors))
    tensors[name] = torch.as_strided(tensor, (length,), (1,)).clone().cpu()
    return {
        "name": name,
        "size": list(tensor.size()),
        "stride": list(tensor.stride()),
        "offset": tensor.data_ptr() % _LINE_BYTES // tensor.element_size(),
        "device": str(tensor.device),
    }
