"""Which outside provider a file's work goes to, if any: named by the processor and one of its options.

A provider is whatever is limited and braked as one: an endpoint of the ``http`` processor, an API of
the ``llm`` processor. Its name is one token: ``http-publisher``, ``llm-anthropic``.
"""

from collections.abc import Mapping
from typing import Any, Final

from tanda.contracts.subjects import is_token

#: The option that chooses the provider, and what it is where none is given.
_CHOICE: Final = {"http": ("endpoint", "default"), "llm": ("provider", "anthropic")}

#: The processors that call an outside provider, and the settings that give them one.
OUTSIDE: Final = {
    "http": "TANDA_HTTP_ENDPOINTS",
    "llm": "TANDA_ANTHROPIC_API_KEY or TANDA_OPENAI_URL",
}


def provider_of(processor: str, options: Mapping[str, Any]) -> str | None:
    """The provider's name; None for work that stays in the house, or where the option is no name."""
    choice = _CHOICE.get(processor)
    if choice is None:
        return None
    name = f"{processor}-{options.get(choice[0], choice[1])}"
    return name if is_token(name) else None
