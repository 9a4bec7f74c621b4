"""The code of a workload: what runs is exactly what is hashed."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType

from hybridsim.errors import InputError, Problem

_PRIVATE = "hybridsim_workload_"
_LIBRARIES = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")
)
_IMPORTED_NS = time.time_ns()
# name -> the module's spec (another one after a new import) and the digest of the text it was
# imported from
_seen: dict[str, tuple[object, str]] = {}
# workload file -> helpers it was seen to import, so that one imported dynamically still counts the
# next time
_pulled: dict[Path, set[str]] = {}


class Code:
    """A workload file and the helper modules it uses; a context in which it is run.

    The file's bytes are read once, compiled and executed as they are, never through Python's
    bytecode cache, and no ``__pycache__`` is written meanwhile. Helpers are all modules outside
    hybridsim, the standard library and site-packages that were imported inside the context, or that
    the text or the namespace of the file or of another helper names. They are imported by Python
    itself and stay imported, so a helper whose text has changed since it was imported is refused
    rather than run under a key of another text.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.text = path.read_bytes()
        except OSError as error:
            raise InputError(
                [Problem(str(path), None, "", "a file that can be read", str(error))]
            ) from error
        self._module: ModuleType | None = None

    def __enter__(self) -> Code:
        self._before, self._started_ns = set(sys.modules), time.time_ns()
        self._dont_write, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in set(sys.modules) - self._before:
            with contextlib.suppress(InputError):  # whoever asks for the digest is told
                self._helper(name)
        sys.dont_write_bytecode = self._dont_write

    def run(self) -> ModuleType:
        """Execute the file in a fresh module; it stays in ``sys.modules`` for dataclasses and
        pickling.
        """
        name = _PRIVATE + hashlib.sha256(str(self.path).encode()).hexdigest()[:16]
        spec = importlib.util.spec_from_file_location(name, self.path)
        assert spec is not None  # a .py path always has a loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            exec(compile(self.text, str(self.path), "exec", dont_inherit=True), module.__dict__)
        except BaseException:
            del sys.modules[name]
            raise
        self._module = module
        return module

    def digest(self) -> str:
        """Hex digest of the file's text and of every helper's, by module name.

        Raises:
            InputError: a helper's file is not the text that was imported, or this cannot be told.
        """
        total = hashlib.sha256(self.text)
        for name, digest in sorted(self._helpers().items()):
            total.update(f"\0{name} {digest}".encode())
        return total.hexdigest()

    def _helpers(self) -> dict[str, str]:
        """Digest of every helper's file: all that can be reached from the workload's file."""
        pulled = _pulled.setdefault(self.path, set())
        pulled |= {name for name in set(sys.modules) - self._before if _file(name) is not None}
        found: dict[str, str] = {}
        waiting = [*pulled, *_named(self.text, "")]
        waiting += _referenced(self._module) if self._module is not None else []
        while waiting:
            name = waiting.pop()
            if name in found or _file(name) is None:
                continue
            found[name], text = self._helper(name)
            waiting += [*_named(text, _package(name)), *_referenced(sys.modules[name])]
        return found

    def _helper(self, name: str) -> tuple[str, bytes]:
        """Digest and text of a helper's file, once it is known to be what was imported."""
        path, module = _file(name), sys.modules[name]
        if path is None:
            return "", b""
        text = path.read_bytes()
        digest = hashlib.sha256(text).hexdigest()
        spec, known = _seen.get(name, (None, ""))
        if known and spec is module.__spec__:
            if known != digest:
                _refuse(
                    path,
                    f"the text that module {name!r} was imported from",
                    "another text: restart Python",
                )
            return digest, text
        _check_imported(
            name, path, text, _process_start_ns() if name in self._before else self._started_ns
        )
        _seen[name] = module.__spec__, digest
        return digest, text


def _check_imported(name: str, path: Path, text: bytes, since_ns: int) -> None:
    """Does the file still hold what was imported: not written since, and no stale bytecode in its
    place?
    """
    stat = path.stat()
    if max(stat.st_mtime_ns, stat.st_ctime_ns) > since_ns:
        expected = f"a file that did not change after module {name!r} may have been imported"
        _refuse(
            path,
            expected,
            "a later change: restart Python, or import it from the workload file alone",
        )
    loader = getattr(sys.modules[name], "__loader__", None)
    if type(loader) is SourceFileLoader and loader.name == name:
        with contextlib.suppress(SyntaxError, ValueError):
            if loader.get_code(name) != compile(text, str(path), "exec", dont_inherit=True):
                _refuse(
                    path,
                    "bytecode of this text",
                    "bytecode of an older one: delete __pycache__, restart Python",
                )


def _refuse(path: Path, expected: str, got: str) -> None:
    raise InputError([Problem(str(path), None, "", expected, got)])


def _file(name: str) -> Path | None:
    """The file of an imported module that is a helper; None for all others."""
    file = getattr(sys.modules.get(name), "__file__", None)
    if (
        not isinstance(file, str)
        or name.partition(".")[0] == "hybridsim"
        or name.startswith(_PRIVATE)
    ):
        return None
    path = Path(os.path.realpath(file))
    installed = {"site-packages", "dist-packages"} & set(path.parts) or str(path).startswith(
        _LIBRARIES
    )
    return None if installed or not path.is_file() else path


def _package(name: str) -> str:
    return getattr(sys.modules[name], "__package__", None) or ""


def _named(text: bytes, package: str) -> Iterator[str]:
    """Modules that the text's import statements may mean, wherever these stand."""
    try:
        nodes: Iterable[ast.AST] = ast.walk(ast.parse(text))
    except (SyntaxError, ValueError):  # a compiled extension
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] + "." if node.level else ""
            start = (base + (node.module or "")).strip(".")
            yield from _parents(start)
            yield from (f"{start}.{alias.name}" for alias in node.names)


def _parents(name: str) -> Iterator[str]:
    """``a.b.c`` runs ``a``, ``a.b`` and ``a.b.c``."""
    parts = name.split(".")
    return (".".join(parts[: n + 1]) for n in range(len(parts)))


def _referenced(module: ModuleType) -> list[str]:
    """Modules that a namespace holds, and those that its functions, classes and objects come
    from.
    """
    values = list(vars(module).values())
    modules = [v.__name__ for v in values if isinstance(v, ModuleType)]
    origins = [
        getattr(v, "__module__", None) or type(v).__module__
        for v in values
        if not isinstance(v, ModuleType)
    ]
    return modules + [name for name in origins if isinstance(name, str)]


def _process_start_ns() -> int:
    """When Python started; where the system does not tell, when hybridsim's learning was
    imported.
    """
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        return _IMPORTED_NS
    return time.time_ns() - round(age_s * 1e9)
