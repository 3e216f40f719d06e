"""TRL's trainer made fast on a few cores: balanced, packed batches, the completion's logits alone, compiled layers."""

import shutil
import sysconfig
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from trl import SFTTrainer

from toolforge import packing

# The tokens whose logits are reckoned at once: 128 x 49152 of them stay near the cores.
PART = 128


def can_compile() -> bool:
    """Whether torch.compile can build a CPU's kernels here: it needs a C++ compiler and Python's headers."""
    return shutil.which("c++") is not None and Path(sysconfig.get_path("include"), "Python.h").is_file()


def _completion_loss(head: torch.nn.Module, hidden: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(head(hidden).float(), labels, reduction="sum")


class CompletionTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with the same loss, from the logits of the completion's tokens alone; it takes `packing.collate`'s batches.

    TRL's own fused head also reckons entropy and top-1 in tiles, which costs a quarter of the speed on 2 cores.
    """

    _loss = staticmethod(_completion_loss)

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> packing.Balanced:
        lengths = [len(ids) for ids in self.train_dataset["input_ids"]]
        return packing.Balanced(lengths, self.args.train_batch_size, self.args.seed)

    def compile(self) -> None:
        """Have torch.compile fuse what stands between the matrix products: a third more speed on 2 cores."""
        for layer in self.accelerator.unwrap_model(self.model).get_base_model().model.layers:
            layer.compile(dynamic=True)
        self._loss = torch.compile(_completion_loss, dynamic=True)

    def compute_loss(
        self,
        model: PeftModel,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The mean negative log-likelihood of the completion's tokens, over all of them in the optimizer's batch."""
        labels = inputs.pop("labels")[:, 1:]
        base = self.accelerator.unwrap_model(model).get_base_model()
        said = labels != -100
        # accelerate wraps the outer model's forward alone, which this goes past.
        with self.accelerator.autocast():
            hidden = base.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
            parts = zip(hidden[said].split(PART), labels[said].split(PART), strict=True)
            total = sum(self._loss(base.lm_head, *part) for part in parts)
        return total / (said.sum() if num_items_in_batch is None else num_items_in_batch)
