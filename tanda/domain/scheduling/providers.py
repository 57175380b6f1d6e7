"""Which outside provider a file's work goes to, if any: named by the processor and one of its options.

A provider is whatever is limited and braked as one: an endpoint of the ``http`` processor, an API of
the ``llm`` processor. Its name is one token: ``http-publisher``, ``llm-anthropic``.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tanda.contracts.subjects import is_token


class Choice(msgspec.Struct, frozen=True):
    """How one of a processor's providers is chosen."""

    option: str
    default: str
    #: The settings that there is one by.
    settings: str


#: The processors that call an outside provider.
OUTSIDE: Final = {
    "http": Choice("endpoint", "default", "TANDA_HTTP_ENDPOINTS"),
    "llm": Choice("provider", "anthropic", "TANDA_ANTHROPIC_API_KEY or TANDA_OPENAI_URL"),
}


def provider_of(processor: str, options: Mapping[str, Any]) -> str | None:
    """The provider's name; None for work that stays in the house, or where the option is no name."""
    choice = OUTSIDE.get(processor)
    if choice is None:
        return None
    name = f"{processor}-{options.get(choice.option, choice.default)}"
    return name if is_token(name) else None
