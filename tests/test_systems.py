"""A share of the train rows stands under other people's system messages, drawn the same at each run."""

import pytest

from toolforge.errors import InputError
from toolforge.prompt import PromptParams
from toolforge.systems import SystemsParams, draw, load_systems
from toolforge.tools import Catalogue

OWN = PromptParams(system="Route.", tools="none")
PAY = Catalogue(
    [
        {
            "type": "function",
            "function": {
                "name": "pay",
                "description": "Send money.",
                "parameters": {
                    "type": "object",
                    "required": ["amount"],
                    "properties": {"amount": {"type": "number"}, "to": {"type": "string"}},
                },
            },
        },
        {"type": "function", "function": {"name": "ring", "parameters": {"type": "object"}}},
    ]
)


def written(tmp_path, text):
    path = tmp_path / "systems.yaml"
    path.write_text(text)
    return path


def test_the_catalogues_tools_stand_where_the_marks_are(tmp_path):
    path = written(tmp_path, '- "Tools: {names}"\n- "{signatures}"\n- "{descriptions}"\n- ""\n')
    assert load_systems(path, PAY) == [
        "Tools: pay, ring",
        "pay(amount, to?)\nring()",
        "- pay: Send money.\n- ring: ",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "fault"), [("[]", "no system message"), ("- 3", "0: "), ("a: b", "list"), ("[", "not YAML")]
)
def test_what_is_no_list_of_texts_is_refused_with_the_files_name(tmp_path, text, fault):
    with pytest.raises(InputError, match=rf"systems.yaml: .*{fault}"):
        load_systems(written(tmp_path, text), PAY)


def test_the_repositorys_own_messages_fit_beside_a_query(catalogue, tokenizer):
    from conftest import ROOT

    systems = load_systems(ROOT / "data" / "systems.yaml", catalogue)
    lengths = [len(tokenizer(text)["input_ids"]) for text in systems]
    assert len(systems) >= 40
    assert max(lengths) < 400


def test_the_share_is_kept_and_the_draw_is_the_same_each_time():
    params = SystemsParams(share=0.4, seed=3)
    prompts = draw(4000, OWN, ["a", "b"], params)
    assert prompts == draw(4000, OWN, ["a", "b"], params)
    texts = [prompt.system for prompt in prompts]
    assert 0.37 < sum(text != "Route." for text in texts) / 4000 < 0.43
    assert abs(texts.count("a") - texts.count("b")) < 200
    assert {prompt.tools for prompt in prompts} == {"none"}


@pytest.mark.parametrize(("share", "expected"), [(0.0, {"Route."}), (1.0, {"a"})])
def test_none_or_all_of_the_rows(share, expected):
    assert {prompt.system for prompt in draw(50, OWN, ["a"], SystemsParams(share=share, seed=0))} == expected
