"""The Gemini teacher: the only importer of google.genai."""

import os
from collections.abc import Sequence

from google import genai
from google.genai import errors, types
from tqdm import tqdm

from toolforge.errors import InputError
from toolforge.prompt import answer
from toolforge.records import Query, ToolCall
from toolforge.teachers.store import Record, Store, now, request_key
from toolforge.tools import Catalogue

KEYS = "GEMINI_API_KEYS"


def label(queries: Sequence[Query], store: Store, catalogue: Catalogue, model: str, guide: str) -> list[Record | None]:
    """The record of each query, None where Gemini gave no usable answer. Same order and length as `queries`.

    A query that this model was asked before, with this catalogue and guide, is answered from the store; every new answer is in the
    store before the next query is asked, so a run that ends anywhere resumes where it was. Raises InputError where
    there is something to ask and no key, and where the service refuses.
    """
    wanted = {request_key(query.query, catalogue.digest, model, guide): query for query in queries}
    keys = {query.id: key for key, query in wanted.items()}
    missing = [query for query in queries if query.id in keys and not store.asked(keys[query.id])]
    if missing:
        _ask(missing, keys, store, catalogue, model, guide)
    return [store.asked(request_key(query.query, catalogue.digest, model, guide)) for query in queries]


def _ask(
    missing: Sequence[Query], keys: dict[str, str], store: Store, catalogue: Catalogue, model: str, guide: str
) -> None:
    api_key = os.environ.get(KEYS, "").replace(",", "\n").split("\n")[0].strip()
    if not api_key:
        raise InputError(
            f"teacher: {len(missing)} queries have no answer of {model} in the store and there is no key: set {KEYS}"
        )
    client = genai.Client(
        api_key=api_key,
        http_options=types.HttpOptions(
            # 3.x asks v1 by default, where the model aliases do not exist.
            api_version="v1beta",
            timeout=60_000,
            retry_options=types.HttpRetryOptions(attempts=5),
        ),
    )
    config = _config(catalogue, guide)
    unusable = 0
    try:
        for query in tqdm(missing, desc=f"asking {model}", unit="query"):
            response = client.models.generate_content(model=model, contents=query.query, config=config)
            calls = read(response, catalogue)
            if calls is None:
                unusable += 1
                continue
            usage = response.usage_metadata
            store.append(
                Record(
                    key=keys[query.id],
                    query=query.query,
                    # The name that answered: an alias or a retired model is routed to another.
                    model=response.model_version or model,
                    answer=response.text or "" if not calls else answer(calls),
                    calls=calls,
                    tokens=(usage.total_token_count or 0) if usage else 0,
                    time=now(),
                )
            )
    except errors.APIError as error:
        # A refusal can quote the key.
        message = str(error.message).replace(api_key, "<key>")
        raise InputError(
            f"teacher: {model} answered {error.code}: {message}; what it labelled is stored, run again to resume"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"teacher: {model} could not be asked: {type(error).__name__} {str(error).replace(api_key, '<key>')}; run again to resume"
        ) from None
    if unusable:
        print(f"teacher: {unusable} answers of {model} were blocked, cut or broke the catalogue, and were not kept")


def _config(catalogue: Catalogue, guide: str) -> types.GenerateContentConfig:
    declarations = [
        types.FunctionDeclaration(
            name=schema["function"]["name"],
            description=schema["function"].get("description", ""),
            # Sent verbatim; `parameters` would be rewritten, and additionalProperties refused.
            parameters_json_schema=schema["function"]["parameters"],
        )
        for schema in catalogue.schemas
    ]
    return types.GenerateContentConfig(
        system_instruction=guide,
        tools=[types.Tool(function_declarations=declarations)],
        # AUTO may answer with a text, which is how no_tool is said.
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.AUTO)
        ),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        temperature=0.0,
        max_output_tokens=2048,
    )


def read(response: types.GenerateContentResponse, catalogue: Catalogue) -> list[ToolCall] | None:
    """The calls of an answer; [] only for a finished answer that is a text; None for anything else: blocked, cut,
    empty, malformed, or calls that break the catalogue.
    """
    candidate = response.candidates[0] if response.candidates else None
    if not candidate or not candidate.finish_reason or candidate.finish_reason.name != "STOP":
        return None
    parts = candidate.content.parts if candidate.content and candidate.content.parts else []
    calls = [
        ToolCall(name=part.function_call.name or "", arguments=part.function_call.args or {})
        for part in parts
        if part.function_call and part.function_call.name
    ]
    if calls:
        return None if catalogue.fault(calls) else catalogue.canonical(calls)
    return [] if any(part.text and part.text.strip() for part in parts) else None
