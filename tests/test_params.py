from pathlib import Path

import pytest
import yaml
from pydantic import Field

from toolforge.errors import InputError
from toolforge.params import Params, load_params

ROOT = Path(__file__).parent.parent


class SomeParams(Params):
    seed: int
    share: float = Field(gt=0, le=1)


def test_a_section_becomes_a_typed_object(write_params):
    write_params({"some": {"seed": 3, "share": 0.5}})
    assert load_params("some", SomeParams) == SomeParams(seed=3, share=0.5)


def test_a_section_may_be_missing_only_where_each_key_has_a_default(write_params):
    class Optional(Params):
        seed: int = 3

    write_params({"other": {}})
    assert load_params("some", Optional) == Optional(seed=3)
    write_params({"some": None})
    with pytest.raises(InputError):
        load_params("some", Optional)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"some": {"seed": 3, "share": 0.5, "sede": 4}}, "some.sede: Extra inputs"),
        ({"some": {"seed": "three", "share": 0.5}}, "some.seed: Input should be a valid integer"),
        ({"some": {"seed": 3, "share": 0.0}}, "some.share: Input should be greater than 0"),
        ({"some": {"share": 0.5}}, "some.seed: Field required"),
        ("some: {seed: 3, share: 2e-4}", "some.share: YAML reads 2e-4 as a text"),
        ({"other": {}}, "no section 'some'"),
        ("some: [", "not YAML"),
        ("some: {seed: é}".encode("latin-1"), "not UTF-8 at byte 13"),
    ],
)
def test_a_bad_section_is_refused_in_a_message_that_names_the_key(write_params, document, said):
    write_params(document)
    with pytest.raises(InputError) as error:
        load_params("some", SomeParams)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"r": 0}, "lora.r: must be greater than 0, not 0"),
        ({"r": "many"}, "lora.r: Input should be a valid integer"),
        ({"rank": 8}, "lora.rank: LoraConfig has no such key"),
        ({"task_type": "CAUSAL_LM"}, "lora.task_type: LoraConfig has no such key"),
        ({"target_modules": ["q_proj"], "init_lora_weights": "none of these"}, "lora"),
    ],
)
@pytest.mark.slow
def test_a_librarys_section_is_checked_against_its_own_keys_and_types(write_params, lora, said):
    from peft import LoraConfig

    write_params({"lora": lora})
    with pytest.raises(InputError) as error:
        load_params("lora", LoraConfig, ["r"], task_type="CAUSAL_LM")
    assert said in str(error.value)


@pytest.mark.slow
def test_a_null_is_refused_where_a_number_above_zero_is_needed(write_params):
    from trl import SFTConfig

    write_params({"train": {"max_length": None}})
    with pytest.raises(InputError, match=r"train\.max_length: must be greater than 0, not null"):
        load_params("train", SFTConfig, ["max_length"], output_dir="x", report_to="none")


def test_no_number_of_the_shipped_params_is_read_as_a_text():
    def texts(value):
        if isinstance(value, dict | list):
            for item in value.values() if isinstance(value, dict) else value:
                yield from texts(item)
        elif isinstance(value, str):
            yield value

    found = list(texts(yaml.safe_load((ROOT / "params.yaml").read_text())))
    assert "nf4" in found
    for text in found:
        with pytest.raises(ValueError):
            float(text)
