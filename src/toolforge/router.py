"""The exported router: a folder that an agent loads; a query in, calls with a confidence out."""

import shutil
import threading
import time
from pathlib import Path

from pydantic import ValidationError

from toolforge.calibration import Calibration
from toolforge.decoding import Decoder
from toolforge.errors import InputError
from toolforge.prior import Prior, load_prior
from toolforge.prompt import parse
from toolforge.records import Row, ToolCall, first_fault, write_json, write_text
from toolforge.tools import Catalogue, load_tools

# What the folder holds. A card and an Ollama Modelfile lie beside them.
GGUF, TOOLS, PRIOR, SETTINGS = "model.gguf", "tools.json", "prior.json", "router.json"


class RouterSettings(Row):
    """How the model was trained to be asked, and how sure its answers are.

    `before` and `after` are the texts that the base's chat template puts around a query, `stop` the token that ends an answer, `copied` the arguments, as
    `tool.argument`, that are parts of the query, `opening` the white space that an answer begins with;
    `threshold` is the confidence from which the validation rows had the precision that was asked for, None where no confidence had.
    """

    name: str
    before: str
    after: str
    stop: str
    copied: tuple[str, ...]
    opening: str = ""
    calibration: Calibration
    threshold: float | None


class Routing(Row):
    """The answer to a query. `calls` keep to the catalogue's schemas, `[]` is no tool; `confidence` is the calibrated probability that
    they are right, 0 to 1; `escalate` says that it is below the threshold that was asked for.
    """

    calls: list[ToolCall]
    confidence: float
    escalate: bool
    milliseconds: float


def save(folder: Path, gguf: Path, catalogue: Catalogue, prior: Prior, settings: RouterSettings) -> None:
    """Write the folder that `Router.load` reads; `gguf` is copied."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(gguf, folder / GGUF)
    write_json(folder / TOOLS, catalogue.schemas)
    write_text(folder / PRIOR, prior.model_dump_json() + "\n")
    write_json(folder / SETTINGS, settings.model_dump())


class Router:
    """A trained router in memory. Any number of threads may ask; they are answered one after the other."""

    def __init__(self, decoder: Decoder, catalogue: Catalogue, settings: RouterSettings) -> None:
        """`load` is the way to one."""
        self.name, self.catalogue, self.threshold = settings.name, catalogue, settings.threshold
        self._decoder, self._calibration, self._lock = decoder, settings.calibration, threading.Lock()

    @classmethod
    def load(cls, folder: Path | str) -> "Router":
        """The router in a folder. Raises InputError where a file is missing or wrong, and where no grammar can hold the catalogue."""
        folder = Path(folder)
        try:
            settings = RouterSettings.model_validate_json((folder / SETTINGS).read_bytes())
        except FileNotFoundError as error:
            raise InputError(
                f"{folder}: no exported router ({error.filename} is missing); run dvc repro export"
            ) from None
        except ValidationError as error:
            raise InputError(f"{folder / SETTINGS}: {first_fault(error)}") from None
        catalogue = load_tools(folder / TOOLS)
        decoder = Decoder(
            folder / GGUF,
            catalogue,
            settings.before,
            settings.after,
            settings.stop,
            settings.copied,
            opening=settings.opening,
            prior=load_prior(folder / PRIOR),
        )
        return cls(decoder, catalogue, settings)

    def route(self, query: str, threshold: float | None = None) -> Routing:
        """The calls for a query, white space around it dropped. Raises InputError, in one line, for a query that is empty, too long or no
        text, and for one whose answer does not end.
        """
        start = time.perf_counter()
        query = query.strip()
        if not query:
            raise InputError("the query is empty")
        with self._lock:
            answer = self._decoder.answer(query)
        calls = self._read(answer.text)
        confidence = self._calibration.apply(answer.probability)
        return Routing(
            calls=calls,
            confidence=confidence,
            escalate=threshold is not None and confidence < threshold,
            milliseconds=(time.perf_counter() - start) * 1000,
        )

    def _read(self, text: str) -> list[ToolCall]:
        calls = parse(text)
        # The grammar leaves little to find here: numbers that parse refuses, patterns and multiples that jsonschema takes otherwise.
        if calls is None or self.catalogue.fault(calls):
            # jsonschema's words would quote the query.
            raise InputError("the answer to this query breaks the catalogue")
        return calls
