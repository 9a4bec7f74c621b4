"""The committed schema is the one the classes give; loading stays light."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hybridsim.scenario.merge import shipped_scenarios
from hybridsim.scenario.schema import json_schema, json_schema_text

HEAVY = ("torch", "pandas", "simpy", "networkx", "sklearn", "plotly", "pyarrow")


@pytest.mark.pinned  # pydantic words a schema differently from release to release
def test_the_committed_schema_is_current() -> None:
    path = shipped_scenarios()["tngd-digits"].parent / "scenario.schema.json"
    assert path.read_text() == json_schema_text(), (
        "run: python -m hybridsim.scenario.schema > scenarios/scenario.schema.json"
    )


def test_every_field_is_described_and_every_reference_resolves() -> None:
    schema = json_schema()
    text = json.dumps(schema)
    for part in text.split('"#/$defs/')[1:]:
        assert part.split('"')[0] in schema["$defs"]
    for name, definition in schema["$defs"].items():
        for field, body in definition.get("properties", {}).items():
            discriminates = body.get("const") is not None
            assert discriminates or "description" in body, f"{name}.{field} has no description"
            assert not isinstance(body.get("default"), float) or "pattern" not in body


def test_a_scenario_is_loaded_without_heavy_libraries() -> None:
    code = (
        "import sys\nfrom hybridsim.scenario.load import load\n"
        "load('tngd-digits-async').machine.expand()\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
