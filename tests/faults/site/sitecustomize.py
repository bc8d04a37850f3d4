"""First on a killed stack's PYTHONPATH: the stage that trains dies at the point in its environment."""

import sys

if "train" in sys.orig_argv:
    from tests.faults.points import arm_from_environment

    arm_from_environment()
