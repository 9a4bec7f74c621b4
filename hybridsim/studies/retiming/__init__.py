"""A schedule under other constants, without simulating again.

A recorded run holds what every moment follows from (``hardware.causes``) and what was asked of
every part. Constants that only set costs leave both as they are, as long as shared resources are
asked for in the same order: then times and energies follow from new prices alone.
"""

from hybridsim.studies.retiming.evaluate import Retimed, retime
from hybridsim.studies.retiming.outcomes import outcomes
from hybridsim.studies.retiming.recording import Recording, record
from hybridsim.studies.retiming.signature import cost_signature

__all__ = ["Recording", "Retimed", "cost_signature", "outcomes", "record", "retime"]
