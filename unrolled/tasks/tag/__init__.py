"""Tag: a label for each token of a sentence, and, where it is asked for, one for the whole."""

from unrolled.tasks.tag.run import Tagged, TagRun
from unrolled.tasks.tag.task import TagTask

__all__ = ["TagRun", "TagTask", "Tagged"]
