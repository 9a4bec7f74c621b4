"""Write requirements.lock and torch.lock: what ``make lock`` runs, with uv from an environment that
is thrown away.

    python tests/lock.py UV

The releases are those installed in the environment of ``make test``; uv adds what other systems
need and the hashes of all files of a release. It never sees torch, whose file for Linux on its
index is a CUDA build of several GB: what the installed torch needs is read from that torch, and its
hash is that of the file that pip takes.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import distributions, requires, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAD = """\
# Every release of the environment that the tests pass in, with the hashes of its files; torch has
# a file of its own, torch.lock. Written by `make lock`. `make locked` installs both:
#   pip install --no-deps --require-hashes -r torch.lock
#   pip install --no-deps --require-hashes -r requirements.lock
#   pip install --no-deps --no-build-isolation --editable .
# Made with Python {python}; markers name what other Pythons and systems need or do without.
"""
TORCH = """\
# The file of torch that the tests pass with:
# {file}
# It is a CPU build, and no other file has its hash: pip refuses any other, CUDA builds included.
# Where that file is not to be had (another system or Python, a GPU), take any build of the release:
#   pip install torch=={release}
# Its numbers may differ in rounding; a run names its build in the manifest, and facts of one build
# are none of another's.
torch=={release} \\
    --hash=sha256:{sha256}
"""


def needs_of_torch() -> list[str]:
    """What the installed torch requires.

    Raises:
        SystemExit: it is a CUDA build.
    """
    found = [line for line in requires("torch") or [] if "extra ==" not in line]
    if any(line.startswith(("nvidia", "cuda", "triton")) for line in found):
        sys.exit(f"torch: expected a CPU build, got {version('torch')}, which needs CUDA")
    return found


def installed() -> list[str]:
    """``name==version`` of all that is installed, but hybridsim, torch and pip."""
    pairs = {found.name.lower(): found.version for found in distributions()}
    return [
        f"{name}=={pairs[name]}"
        for name in sorted(pairs)
        if name not in ("hybridsim", "torch", "pip")
    ]


def requirements(uv: str) -> str:
    """All releases with their hashes, as uv finds them."""
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "needs": needs_of_torch(),
            "installed": installed(),
            "never": ["torch; python_version < '0'"],
        }
        for name, lines in files.items():
            Path(folder, name).write_text("\n".join(lines))
        words = ["--universal", "--python-version", platform.python_version(), "--extra", "test"]
        words += ["--generate-hashes", "--no-header", "--no-annotate", "--quiet"]
        words += ["--constraint", f"{folder}/installed", "--override", f"{folder}/never"]
        command = [uv, "pip", "compile", "--no-config", *words, "pyproject.toml", f"{folder}/needs"]
        return subprocess.run(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        ).stdout


def file_of_torch() -> tuple[str, str]:
    """Name and SHA-256 of the file that pip takes for the installed release of torch.

    Raises:
        SystemExit: it is another build.
    """
    asked = f"torch=={version('torch')}"
    words = ["--dry-run", "--quiet", "--ignore-installed", "--no-deps", "--report", "-", asked]
    command = [sys.executable, "-m", "pip", "install", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    [item] = json.loads(done.stdout)["install"]
    if item["metadata"]["version"] != version("torch"):
        sys.exit(f"torch: expected {version('torch')}, got {item['metadata']['version']}")
    file = item["download_info"]["url"].rpartition("/")[2].replace("%2B", "+")
    return file, item["download_info"]["archive_info"]["hashes"]["sha256"]


def main() -> None:
    """Write both files."""
    release, (file, sha256) = version("torch").partition("+")[0], file_of_torch()
    text = HEAD.format(python=platform.python_version()) + requirements(sys.argv[1])
    (ROOT / "requirements.lock").write_text(text)
    (ROOT / "torch.lock").write_text(TORCH.format(file=file, release=release, sha256=sha256))


if __name__ == "__main__":
    main()
