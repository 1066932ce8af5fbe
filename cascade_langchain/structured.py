"""Structured output of a composite: each model's own method, and an answer that does not parse is not accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel

from cascade_langchain._driver import Job, aclosing, adrive, arun_to_end, drive, run_to_end
from cascade_langchain._messages import answer_of, with_record

if TYPE_CHECKING:
    from langchain_core.language_models import LanguageModelInput

    from cascade_core.values import Answer, DecisionRecord
    from cascade_langchain.chat_model import ChatCascade

