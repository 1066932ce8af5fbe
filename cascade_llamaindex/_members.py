"""The models of a cascade: their names, what they can do together, and how they are stored and watched."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import LLMMetadata, MessageRole
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms.llm import LLM

from cascade_core.errors import ConfigurationError
from cascade_core.policy import check_names

_UNNAMED = LLMMetadata.model_fields["model_name"].default


def by_name(llms: Sequence[LLM] | Mapping[str, LLM | Mapping[str, Any]]) -> dict[str, LLM]:
    """The members by name: as given in a mapping, else by the name of their model.

    Members that were stored (``to_dict``) are made anew.

    Raises:
        ConfigurationError: fewer than two, something that is not an LLM, or two with one name.
    """
    if isinstance(llms, Mapping):
        named = [(str(name), _loaded(llm) if isinstance(llm, Mapping) else llm) for name, llm in llms.items()]
    elif isinstance(llms, Iterable) and not isinstance(llms, (str, bytes, LLM)):
        named = [(_model_name(llm), llm) for llm in llms]
    else:
        raise ConfigurationError(
            f"llms is {type(llms).__name__}: expected a list of LLMs, or a dictionary of name to LLM"
        )
    for name, llm in named:
        if not isinstance(llm, LLM):
            raise ConfigurationError(
                f"the model {name!r} is {type(llm).__name__}: expected a LlamaIndex LLM (llama_index.core.llms.LLM)"
            )
    check_names([name for name, _ in named])
    return dict(named)


def _model_name(llm: Any) -> str:
    told = metadata_of(llm)
    names = (told.model_name if told else None, getattr(llm, "model", None), getattr(llm, "model_name", None))
    return next((str(name) for name in names if name and name != _UNNAMED), type(llm).__name__)


def _loaded(data: Mapping[str, Any]) -> LLM:
    """A member from what its ``to_dict`` wrote. Makes LLMs only, of classes that are imported or known to LlamaIndex.

    LlamaIndex's own ``load_llm`` knows four classes by name; every LLM class that the program has imported is looked
    through first.
    """
    name = data.get("class_name")
    for cls in _subclasses(LLM):  # type: ignore[type-abstract]
        if cls.class_name() == name:
            return cls.from_dict(dict(data))
    from llama_index.core.llms.loading import load_llm

    try:
        return load_llm(dict(data))
    except ValueError as error:
        raise ConfigurationError(
            f"the stored model is of the class {name!r}, which is not imported: import the integration that it comes "
            "from, then load again"
        ) from error


def _subclasses(cls: type[LLM]) -> Iterator[type[LLM]]:
    for below in cls.__subclasses__():
        yield below
        yield from _subclasses(below)


def metadata_of(llm: Any) -> LLMMetadata | None:
    """A member's metadata; None if it cannot say (some raise for a model that they do not know)."""
    try:
        metadata = llm.metadata
    except Exception:
        return None
    return metadata if isinstance(metadata, LLMMetadata) else None


def tool_takers(llms: Mapping[str, LLM]) -> list[str]:
    """Names of the members that may be offered tools: those that say so, else all that have the method.

    Where none says so, whoever offers tools may know better, as with a bare model.

    Raises:
        ConfigurationError: none has the method.
    """
    able = [name for name, llm in llms.items() if _takes_tools(llm)]
    if not able:
        raise ConfigurationError(
            f"none of the models {list(llms)} takes tools: add one that does, or use a ReActAgent"
        )
    told = {name: metadata_of(llms[name]) for name in able}
    return [name for name in able if (m := told[name]) is not None and m.is_function_calling_model] or able


def _takes_tools(llm: LLM) -> bool:
    return hasattr(llm, "chat_with_tools")


def joint_metadata(llms: Mapping[str, LLM], overrides: Mapping[str, Any]) -> LLMMetadata:
    """What all members can do, or any, whichever is safe to promise.

    Context window: the smallest. Output tokens: the smallest that is stated, or -1. Chat: any (a completion model
    formats chats itself). Function calling: all. A member that cannot say is passed over.
    """
    told = {name: metadata for name, llm in llms.items() if (metadata := metadata_of(llm)) is not None}
    roles = {metadata.system_role for metadata in told.values()}
    derived: dict[str, Any] = {
        "num_output": min((m.num_output for m in told.values() if m.num_output > 0), default=-1),
        "is_chat_model": any(metadata.is_chat_model for metadata in told.values()),
        "is_function_calling_model": bool(told)
        and all(m.is_function_calling_model and _takes_tools(llms[name]) for name, m in told.items()),
        "model_name": f"cascade({', '.join(llms)})",
        "system_role": roles.pop() if len(roles) == 1 else MessageRole.SYSTEM,
    }
    if told:
        derived["context_window"] = min(metadata.context_window for metadata in told.values())
    return LLMMetadata(**{**derived, **overrides})


def with_room(llms: Mapping[str, LLM], chars: int, names: Collection[str]) -> Collection[str]:
    """Those of ``names`` whose context window takes a prompt, at four characters a token; all if none does."""
    told = {name: metadata_of(llms[name]) for name in names}
    return [name for name, m in told.items() if m is None or chars <= 4 * m.context_window] or names


class SharedCallbacks:
    """Lets the members report to the cascade's handlers, each call once, without losing a member's own.

    A member without handlers of its own gets the cascade's manager; one with others gets a manager with both.
    """

    def __init__(self, llms: Mapping[str, LLM]) -> None:
        self._own = {name: llm.callback_manager for name, llm in llms.items()}
        self._given = dict(self._own)

    def forward(self, outer: CallbackManager | None, llms: Mapping[str, LLM]) -> None:
        """Bring the members' managers up to date with the cascade's."""
        for name, llm in llms.items():
            if (
                llm.callback_manager is not self._given[name]
            ):  # the user, or LlamaIndex, gave it another meanwhile
                self._own[name] = llm.callback_manager
            wanted = _joined(outer, self._own[name], self._given[name])
            if llm.callback_manager is not wanted:
                llm.callback_manager = wanted
            self._given[name] = wanted


def _joined(outer: CallbackManager | None, own: CallbackManager, given: CallbackManager) -> CallbackManager:
    if outer is None or not outer.handlers:
        return own
    extra = [handler for handler in own.handlers if not any(handler is other for other in outer.handlers)]
    if not extra:
        return outer
    handlers = [*outer.handlers, *extra]
    if len(given.handlers) == len(handlers) and all(
        a is b for a, b in zip(given.handlers, handlers, strict=True)
    ):
        return given
    joined = CallbackManager()
    joined.set_handlers(handlers)  # given to the constructor, a global handler among them would be an error
    return joined
