"""GAWM, arXiv 2501.10116: RMIOv2's world model and policy, without what RMIOv2 does about lost observations.

All of that is settings, in conf/agent/gawm.yaml: the window of the reward is fixed, no update is masked, and a blind
agent acts on zeros (execution.completion). Nothing here is code of its own.
"""

from __future__ import annotations

from rmiov2.agents.rmiov2 import RMIOv2


class GAWM(RMIOv2):
    """RMIOv2 by another name, so that its checkpoints, rows and runs are told apart."""
