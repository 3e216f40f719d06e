import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

import toolforge
from few_shot import ROOT, SETTINGS, save_few_shot
from toolforge import Router
from toolforge.decoding import Answer
from toolforge.errors import InputError
from toolforge.router import PRIOR as PRIOR_FILE
from toolforge.router import SETTINGS as SETTINGS_FILE
from toolforge.router import TOOLS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_few_shot(tmp_path_factory.mktemp("router") / "router")


@pytest.fixture(scope="module")
def router(folder):
    return Router.load(folder)


class Says:
    """A decoder that gives one answer."""

    def __init__(self, text, probability=0.5):
        self.said = Answer(text, probability)

    def answer(self, query):
        return self.said


def test_a_folder_that_was_saved_is_loaded_and_routes(router, catalogue):
    assert (router.name, router.threshold) == ("few-shot", 0.5)
    assert router.catalogue.digest == catalogue.digest
    routing = router.route("  weather in Oslo\n")
    assert [call.name for call in routing.calls] == ["weather"]
    assert 0 < routing.confidence < 1
    assert routing.milliseconds > 0


def test_the_confidence_is_calibrated_and_held_against_the_threshold_that_is_asked_for(catalogue):
    router = Router(Says("[]", 0.5), catalogue, SETTINGS)
    sure = SETTINGS.calibration.apply(0.5)
    routing = router.route("hi")
    assert (routing.calls, routing.confidence, routing.escalate) == ([], sure, False)
    assert router.route("hi", threshold=sure + 0.01).escalate
    assert not router.route("hi", threshold=sure).escalate


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "the query is empty"),
        (" \t\n\u2003", "the query is empty"),
        ("rain " * 2000, r"the query has 2\d\d\d tokens; at most 1000 can be answered"),
        ("rain in \ud800slo", "half a surrogate pair stands at character 9"),
    ],
)
def test_a_query_that_cannot_be_answered_is_said_without_its_text(router, query, said):
    with pytest.raises(InputError, match=said) as error:
        router.route(query)
    assert "rain" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "[{",
        '[{"name": "wether", "arguments": {}}]',
        '[{"name": "weather", "arguments": {"location": 7, "of": "a private matter"}}]',
        '[{"name": "unit_converter", "arguments": {"value": 1e999, "from": "m", "to": "km"}}]',
    ],
)
def test_what_the_grammar_let_through_is_caught_and_not_repeated(catalogue, text):
    with pytest.raises(InputError) as error:
        Router(Says(text), catalogue, SETTINGS).route("hi")
    assert str(error.value) == "the answer to this query breaks the catalogue"


@pytest.mark.parametrize("word", ["Infinity", "-Infinity", "NaN"])
def test_a_word_that_reads_as_no_number_is_a_word(catalogue, word):
    said = f'[{{"name": "wikipedia", "arguments": {{"query": "Avengers: {word} War"}}}}]'
    (call,) = Router(Says(said), catalogue, SETTINGS).route("hi").calls
    assert call.arguments == {"query": f"Avengers: {word} War"}


def test_a_folder_that_is_no_router_is_said(folder, tmp_path):
    with pytest.raises(InputError, match=r"no exported router \(.*router.json is missing\); run dvc repro export"):
        Router.load(tmp_path)
    for name, missing in (
        (SETTINGS_FILE, "tools.json: no such file"),
        (TOOLS, "prior.json: no such file; dvc repro makes it"),
    ):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
        with pytest.raises(InputError, match=missing):
            Router.load(tmp_path)
    (tmp_path / PRIOR_FILE).write_bytes((folder / PRIOR_FILE).read_bytes())
    with pytest.raises(InputError, match="model.gguf: no such file"):
        Router.load(str(tmp_path))
    (tmp_path / SETTINGS_FILE).write_text(json.dumps(SETTINGS.model_dump() | {"stop": 7}))
    with pytest.raises(InputError, match="router.json: stop: "):
        Router.load(tmp_path)
    (tmp_path / SETTINGS_FILE).write_text("{")
    with pytest.raises(InputError, match="router.json: "):
        Router.load(tmp_path)


def test_threads_get_the_answers_to_their_own_queries(router):
    queries = [
        f"weather in {place}" for place in ("Oslo", "Bergen", "Rome", "Paris", "Lima", "Cairo", "Quito", "Delhi")
    ]
    alone = [router.route(query).calls for query in queries]
    assert len({str(calls) for calls in alone}) > 4
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda query: router.route(query).calls, queries * 3))
    assert together == alone * 3


def python(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)


def test_llama_cpp_says_nothing_and_the_package_imports_it_only_when_asked(folder):
    done = python(
        "import sys, toolforge\n"
        "assert 'llama_cpp' not in sys.modules\n"
        "print(toolforge.Router.load(sys.argv[1]).route('weather in Oslo').calls[0].name)",
        str(folder),
    )
    assert (done.stdout, done.stderr) == ("weather\n", "")
    with pytest.raises(AttributeError, match="has no attribute 'Routers'"):
        toolforge.Routers  # noqa: B018


@pytest.mark.slow
def test_any_input_is_routed_or_refused(folder):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "fuzz_router.py", folder, "100"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["routed"] > 50
