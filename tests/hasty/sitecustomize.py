"""Python imports this at start when the folder is on PYTHONPATH: stages save after every round, for kills to find."""

import os

if os.environ.get("DVC_STAGE", "").startswith(("pretrain", "finetune", "ablate")):
    from rmiov2.training import finetune, pretrain

    for work in (pretrain.pretrain, finetune.finetune):
        work.__defaults__ = tuple(0.0 if value == pretrain.SAVE_SECONDS else value for value in work.__defaults__)
