"""LERENet: few-shot segmentation of metal surface defects, as an MLOps pipeline."""

__all__ = ["__version__"]
__version__ = "0.1.0"
