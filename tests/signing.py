"""Run folders edited by hand, and signed again as if the run had written them so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hybridsim.results.integrity import FILES, OWN, file_sha256, manifest_sha256


def sign(folder: Path, **changes: Any) -> None:
    """Enter changes into the manifest, and the checksums of the files that are there."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) | changes
    known = manifest.get(FILES, {})
    manifest[FILES] = {
        name: file_sha256(folder / name) for name in known if (folder / name).exists()
    }
    manifest[OWN] = manifest_sha256(manifest)
    path.write_text(json.dumps(manifest))
