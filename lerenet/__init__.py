"""LERENet: few-shot segmentation of metal surface defects, as an MLOps pipeline."""

import os

__all__ = ["__version__"]
__version__ = "0.1.0"

# With more than one thread, oneDNN's AMX kernels of torch 2.14.1 write past their memory in a training step of
# ResNet50 in bf16: the process dies (docs/operations.md). This keeps to AVX-512; it is read when torch first computes.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_FP16")

# Threads of one process that wait spin, by default for about a millisecond. Two trainings on one machine then do
# nothing but spin: 1 image/s each instead of 18, on two cores. Alone, this costs up to a tenth.
os.environ.setdefault("GOMP_SPINCOUNT", "8000")
