"""Which policy a composite decides by, and which of its members a query may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cascade_core.default_policy import Prices, UncalibratedWarning, policy_for
from cascade_core.errors import ConfigurationError

if TYPE_CHECKING:
    from cascade_core.policy import Policy
    from cascade_langchain._members import Members

__all__ = ["Prices", "UncalibratedWarning", "allowed_for", "policy_for"]


def allowed_for(policy: Policy, members: Members, pinned: object, needs: frozenset[str]) -> list[str]:
    """Names of the members that may answer a query.

    Args:
        policy: knows them all.
        members: of which some are able.
        pinned: the one the caller asks for, or None.
        needs: keys of a model's profile that must not be denied.

    Raises:
        ConfigurationError: if there is none.
    """
    if pinned is not None:
        if pinned not in policy.names:
            raise ConfigurationError(f"unknown model {pinned!r}: expected one of {list(policy.names)}")
        return [str(pinned)]
    able = [name for name in policy.names if name in members.able]
    denied = members.denying(needs) if needs else {}
    allowed = [name for name in able if name not in denied]
    if not allowed:
        lacking = ", ".join(f"{name} lacks {need}" for name, need in denied.items())
        raise ConfigurationError(
            f"no model can take this query: {lacking}. Add a model that can, or correct the profile of one (its "
            "argument `profile`)"
        )
    return allowed
