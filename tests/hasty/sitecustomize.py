"""Python imports this at start when the folder is on PYTHONPATH: stages save after every round, for kills to find."""

import os

if os.environ.get("DVC_STAGE", "").startswith(("pretrain", "finetune", "ablate")):
    from rmiov2.training import finetune, pretrain

    pretrain.pretrain.__defaults__ = finetune.finetune.__defaults__ = (0.0,)
