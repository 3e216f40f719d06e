"""ToolForge trains a small language model to route an agent's queries to its tools."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolforge.router import Router

__all__ = ["Router"]


def __getattr__(name: str) -> Any:
    """`from toolforge import Router`, loaded only when it is asked for: a stage need not wait for llama.cpp."""
    if name != "Router":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from toolforge.router import Router

    return Router
