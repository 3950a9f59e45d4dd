"""The language model: text in, the next symbol out."""

from unrolled.tasks.language_model.run import LanguageModelRun
from unrolled.tasks.language_model.task import LanguageModelTask

__all__ = ["LanguageModelRun", "LanguageModelTask"]
