"""The runnables a composite chooses among: by name, ready to be called in the open or as a draft."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable

from cascade_core.errors import ConfigurationError

if TYPE_CHECKING:
    from cascade_core.checks import SelfConsistency, Verification

AnyRunnable = Runnable[Any, Any]
Prepare = Callable[[AnyRunnable], AnyRunnable]

DRAFT_TAG = "nostream"
"""Tag that LangGraph takes as: do not show this model's tokens."""

_NAMES = ("model_name", "model", "model_id", "deployment_name", "azure_deployment")


class Members:
    """Runnables by name, each also as a draft: a twin that shows nobody what it says.

    ``prepare`` is applied to the twin that is asked for when it is first asked for: binding tools or a schema is
    each model's own business. A member that cannot be prepared is not able.
    """

    def __init__(self, models: Mapping[str, AnyRunnable], prepare: Prepare | None = None) -> None:
        self.models = models
        self._prepare = prepare
        self._ready: dict[tuple[str, bool | str], AnyRunnable] = {}
        self.able = frozenset(models)
        if prepare is not None:
            refused = {name: error for name in models if (error := self._refusal(name)) is not None}
            self.able -= refused.keys()
            if not self.able:
                raise next(iter(refused.values()))

    def __call__(self, name: str, *, draft: bool) -> AnyRunnable:
        """The member of this name."""
        key = (name, draft)
        ready = self._ready.get(key)
        if ready is None:
            model = self.models[name]
            ready = as_draft(model) if draft else model
            if self._prepare is not None:
                ready = rebound(ready, self._prepare)
            self._ready[key] = ready
        return ready

    def checking(self, name: str, *, bare: bool) -> AnyRunnable:
        """The member for a call that checks an answer; ``bare``: as it was before it was prepared."""
        key = (name, "bare" if bare else "check")
        ready = self._ready.get(key)
        if ready is None:
            ready = as_checker(self.models[name])
            if self._prepare is not None and not bare:
                ready = rebound(ready, self._prepare)
            self._ready[key] = ready
        return ready

    def prepared(self, prepare: Prepare) -> Members:
        """The same models, each made ready by ``prepare``.

        Raises:
            NotImplementedError: if none of them can be.
        """
        return Members(self.models, prepare)

    def _refusal(self, name: str) -> NotImplementedError | None:
        try:
            self(name, draft=False)
        except NotImplementedError as error:
            return error
        return None

    def allowed(self, pinned: object = None, needs: frozenset[str] = frozenset()) -> list[str]:
        """Names of the members that may answer a query.

        Args:
            pinned: the one the caller asks for, or None.
            needs: keys of a model's profile that must not be denied.

        Raises:
            ConfigurationError: if there is none.
        """
        if pinned is not None:
            if pinned not in self.models:
                raise ConfigurationError(f"unknown model {pinned!r}: expected one of {list(self.models)}")
            return [str(pinned)]
        able = [name for name in self.models if name in self.able]
        if not needs:
            return able
        denied: dict[str, str] = {}
        for name in able:
            profile = profile_of(self.models[name])
            lacking = sorted(need for need in needs if profile.get(need) is False)
            if lacking:
                denied[name] = lacking[0]
        if len(denied) == len(able):
            who = ", ".join(f"{name} lacks {need}" for name, need in denied.items())
            raise ConfigurationError(
                f"no model can take this query: {who}. Add a model that can, or correct the profile of one (its "
                "argument `profile`)"
            )
        return [name for name in able if name not in denied]


def chat_models(models: object) -> dict[str, AnyRunnable]:
    """Chat models by name, from what a user hands over.

    Args:
        models: a mapping from name to model, or a sequence of models, named by their own attributes. A model may
            carry bound arguments or configuration.

    Raises:
        ConfigurationError: it is neither, or something in it is not a chat model or has no name of its own.
    """
    if isinstance(models, Mapping):
        named = [(name, model) for name, model in models.items()]
    elif isinstance(models, (list, tuple)):
        named = [(None, model) for model in models]
    else:
        raise ConfigurationError(
            f"models is of type {type(models).__name__}: expected a list of chat models, or a dictionary from name "
            "to chat model"
        )
    found: list[tuple[str, AnyRunnable]] = []
    for name, model in named:
        chat = chat_model_of(model)
        if chat is None:
            what = repr(model) if isinstance(model, str) else f"an object of type {type(model).__name__}"
            hint = (
                "RunnableCascade takes any other runnable"
                if isinstance(model, Runnable)
                else "build one first, for example with init_chat_model"
            )
            raise ConfigurationError(f"{what} is not a chat model: expected a BaseChatModel; {hint}")
        if name is not None and (not isinstance(name, str) or not name):
            raise ConfigurationError(f"{name!r} is not a model's name: expected a non-empty string")
        found.append((name if name is not None else _own_name(chat), model))
    from cascade_core.policy import check_names

    check_names([name for name, _ in found])
    return dict(found)


def chat_model_of(runnable: object) -> BaseChatModel | None:
    """The chat model that a runnable is, or that bindings, retries and configurable fields are around."""
    while not isinstance(runnable, BaseChatModel):
        if isinstance(runnable, RunnableBindingBase):
            runnable = runnable.bound
        elif isinstance(runnable, DynamicRunnable):
            runnable = runnable.default
        else:
            return None
    return runnable


def profile_of(runnable: AnyRunnable) -> Mapping[str, Any]:
    """What the model says of its own capabilities; empty if it says nothing."""
    model = chat_model_of(runnable)
    return (model.profile if model is not None else None) or {}


def common_profile(models: Mapping[str, AnyRunnable]) -> dict[str, Any] | None:
    """What all models can do: the and of what they all state, the least of the limits any states.

    A capability that one denies is denied; one that some leave open is left out.
    """
    profiles = [profile_of(model) for model in models.values()]
    common: dict[str, Any] = {}
    for key in sorted({key for profile in profiles for key in profile}):
        stated = [profile[key] for profile in profiles if profile.get(key) is not None]
        if all(isinstance(value, bool) for value in stated):
            if not all(stated):
                common[key] = False
            elif len(stated) == len(profiles):
                common[key] = True
        elif all(isinstance(value, int) and not isinstance(value, bool) for value in stated):
            common[key] = min(stated)
    return common or None


def rebound(runnable: AnyRunnable, change: Prepare) -> AnyRunnable:
    """``change`` applied to what bindings and retries wrap, and they around what comes out."""
    if isinstance(runnable, RunnableBindingBase):
        return runnable.model_copy(update={"bound": rebound(runnable.bound, change)})
    return change(runnable)


def as_draft(runnable: AnyRunnable) -> AnyRunnable:
    """A twin whose tokens nobody is shown: it does not stream, and it says so to LangGraph by a tag."""
    return rebound(runnable, _silent)


def _silent(runnable: AnyRunnable) -> AnyRunnable:
    if isinstance(runnable, BaseChatModel):
        tags = [*(runnable.tags or []), DRAFT_TAG]
        return runnable.model_copy(update={"disable_streaming": True, "tags": tags})
    if isinstance(runnable, DynamicRunnable) and chat_model_of(runnable) is not None:
        return runnable.model_copy(update={"default": as_draft(runnable.default)})
    return runnable.with_config(tags=[DRAFT_TAG])


def as_checker(runnable: AnyRunnable) -> AnyRunnable:
    """A draft that no cache answers for: the same answer again would tell nothing."""
    return rebound(as_draft(runnable), _uncached)


def _uncached(runnable: AnyRunnable) -> AnyRunnable:
    if isinstance(runnable, BaseChatModel):
        return runnable.model_copy(update={"cache": False})
    if isinstance(runnable, DynamicRunnable) and chat_model_of(runnable) is not None:
        return runnable.model_copy(update={"default": rebound(runnable.default, _uncached)})
    return runnable


def can_check(check: SelfConsistency | Verification | None, models: Mapping[str, AnyRunnable]) -> None:
    """Check that a verification asks a chat model.

    Raises:
        ConfigurationError: it asks another runnable, whose input may be anything.
    """
    if check is None or check.kind != "verification" or chat_model_of(models[check.by]) is not None:
        return
    raise ConfigurationError(
        f"the verification asks {check.by!r}, which is a {type(models[check.by]).__name__}: expected a chat model, "
        "which takes a question as a text. Name one that is, or take SelfConsistency, which calls with the same input"
    )


def handing_on(models: Mapping[str, AnyRunnable], settings: Mapping[str, Any]) -> dict[str, AnyRunnable]:
    """The models with settings of the composite that work at the level of one call, where they have none."""

    def handed(model: AnyRunnable) -> AnyRunnable:
        if not isinstance(model, BaseChatModel):
            return model
        missing = {name: value for name, value in settings.items() if getattr(model, name) is None}
        return model.model_copy(update=missing) if missing else model

    return {name: rebound(model, handed) for name, model in models.items()} if settings else dict(models)


def _own_name(model: BaseChatModel) -> str:
    named = (getattr(model, attribute, None) for attribute in _NAMES)
    return next((name for name in named if isinstance(name, str) and name), None) or model.get_name()


def identity_of(runnable: AnyRunnable) -> dict[str, Any]:
    """What tells a chat model from the same model otherwise set; holds no key."""
    model = chat_model_of(runnable)
    assert model is not None, "only chat models are members"
    bound = {name: str(value) for name, value in runnable.__dict__.get("kwargs", {}).items()}
    return {"_type": model._llm_type, **model._get_ls_params(), **model._identifying_params, "bound": bound}
