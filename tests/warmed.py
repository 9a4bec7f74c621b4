"""What a process that others are forked from has imported, and done once; see ``warm``.

No tensors: what autograd starts does not survive a fork.."""

from __future__ import annotations

import tempfile
from pathlib import Path

from programs import PROGRAMS

import hybridsim
import hybridsim.cli
import hybridsim.progress
import hybridsim.reports.closing
import hybridsim.reports.compare
import hybridsim.results.verify
import hybridsim.unread
from hybridsim.reports.report import write_report

with tempfile.TemporaryDirectory() as _folder:  # torch and plotly import much on first use
    _scenario = hybridsim.load(PROGRAMS["tngd"])
    hybridsim.unread.unread_constants(_scenario, hybridsim.load_task(_scenario))
    write_report(hybridsim.run(_scenario, backend="timing"), Path(_folder) / "report.html")
