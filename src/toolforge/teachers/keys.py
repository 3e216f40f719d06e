"""The keys of a teacher's service, and the one place that knows how to keep them out of every message."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from dotenv import load_dotenv

from toolforge.errors import InputError

GEMINI_KEYS = "GEMINI_API_KEYS"
# The openai package demands a key; Ollama and the like look at none.
NO_KEY = "none"


@dataclass
class Key:
    """A key and what is known of it. `id` may stand in logs and files for the key. `proven` once the service took it; `dead` says why it will never be sent again."""

    secret: str = field(repr=False)
    project: str = ""
    proven: bool = False
    busy: int = 0
    dead: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        """A key without a project's name is its own project."""
        self.id = hashlib.sha256(self.secret.encode()).hexdigest()[:8]
        self.project = self.project or self.id

    def __str__(self) -> str:
        """The key as messages name it."""
        return f"key {self.id}" + (f" of {self.project}" if self.project != self.id else "")


def gemini_keys() -> list[Key]:
    """The keys in GEMINI_API_KEYS, from the environment or from .env in the working directory.

    They are parted by commas or lines; `name=KEY` gives a key's project a name, and keys of one name share its quotas. A
    key that stands twice counts once. Raises InputError where there is none.
    """
    load_dotenv(Path(".env"))
    keys: dict[str, Key] = {}
    for item in os.environ.get(GEMINI_KEYS, "").replace(",", "\n").split("\n"):
        name, equals, secret = (part.strip() for part in item.partition("="))
        # A key itself may end in "=", as base64 does.
        if not (equals and name and secret.strip("=")):
            name, secret = "", item.strip()
        secret = secret.strip("\"'")
        if secret:
            _refuse_what_no_header_takes(secret, f"{GEMINI_KEYS}: key {len(keys) + 1}")
            keys.setdefault(secret, Key(secret, name))
    if not keys:
        raise InputError(
            f"there is no key: set {GEMINI_KEYS}, in the environment or in .env, or teacher.provider: recorded"
        )
    return list(keys.values())


def openai_keys() -> list[Key]:
    """The one key in OPENAI_API_KEY, as the openai package reads it, or a stand-in for a service that asks for none. Raises InputError
    for a text that can be no key.
    """
    load_dotenv(Path(".env"))
    secret = os.environ.get("OPENAI_API_KEY", "").strip()
    _refuse_what_no_header_takes(secret, "OPENAI_API_KEY")
    return [Key(secret or NO_KEY, "openai")]


def _refuse_what_no_header_takes(secret: str, where: str) -> None:
    """The HTTP library's own refusal would quote the key, escaped, which `redact` does not find."""
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        raise InputError(f"{where} holds a character that no key has")


def redact(text: str, keys: Iterable[Key]) -> str:
    """The text in one line of at most 300 characters, with each key's id in place of the key, however it is quoted.

    Nothing may be cut off before: half a key would not be known for one.
    """
    # A key can begin with another.
    for key in sorted(keys, key=lambda key: -len(key.secret)):
        if key.secret != NO_KEY:
            for form in (key.secret, quote(key.secret, safe="")):
                text = text.replace(form, f"<key {key.id}>")
    return " ".join(text.split())[:300]
