"""Two small language models from installed packages, served on loopback, and questions to ask them."""

from .questions import Question, questions
from .servers import ARMS, Arm, LocalModel, LocalModelError, local_models
from .weights import LocalModelMissingError

__all__ = [
    "ARMS",
    "Arm",
    "LocalModel",
    "LocalModelError",
    "LocalModelMissingError",
    "Question",
    "local_models",
    "questions",
]
