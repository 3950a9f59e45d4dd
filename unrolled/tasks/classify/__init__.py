"""Classify: a text in, its label or labels out."""

from unrolled.tasks.classify.run import ClassifyRun, Prediction
from unrolled.tasks.classify.task import ClassifyTask

__all__ = ["ClassifyRun", "ClassifyTask", "Prediction"]
