"""A pretrained body with a head for another task, and which of its weights learn."""

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import datasets
import torch
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.modeling_outputs import BaseModelOutputWithPooling

from hf_lineage.arguments import (
    FineTuningArguments,
    check_opens,
    check_overrides,
    saved_config,
    saved_tokenizer,
    tokenizer_of_model,
)
from hf_lineage.data.kept_layers import KeptStates
from hf_lineage.data.randomness import updates_per_epoch


# names of the lists of layers: of the stations, and of transformers' models
STACKS = ("layers", "blocks", "layer", "h", "forward_layers", "backward_layers")
# parts of a base model that belong to the tasks
TASK_PARTS = ("mixes.",)
# parts of a base model that stand above its last hidden states
ABOVE_STATES = ("mixes.", "pooler.")


def with_new_head(auto_class, name_or_path: str, **fields) -> tuple[PreTrainedModel, list[str]]:
    """A saved model, opened by `auto_class` with other `fields` of its configuration, and the names of new weights.

    A head that is not saved, or is saved in another size (three classes instead of two), starts from new weights.
    `from_pretrained(…, num_labels=2, ignore_mismatched_sizes=True)` would also give the body new weights.

    Raises:
        ValueError: a weight of the body has another size than the saved one.
    """
    model, found = auto_class.from_pretrained(
        name_or_path, **fields, ignore_mismatched_sizes=True, output_loading_info=True
    )
    body = f"{model.base_model_prefix}."
    sizes = {name: (tuple(saved), tuple(here)) for name, saved, here in found["mismatched_keys"]}
    if of_body := sorted(name for name in sizes if name.startswith(body)):
        saved, here = sizes[of_body[0]]
        raise ValueError(
            f"{of_body[0]} is {list(saved)} in {name_or_path} and {list(here)} here: only a head may have another "
            "size than the saved one; do not change fields that set the sizes of the body"
        )
    return model, sorted({*found["missing_keys"], *sizes})


def open_for_task(auto_class, arguments: FineTuningArguments) -> tuple[PreTrainedConfig, PreTrainedTokenizerBase]:
    """The configuration and the tokenizer of the model of `arguments`, checked before any other work.

    Raises:
        ValueError: there is no such model, `auto_class` does not open it, its folder has no weights (which
            `random_weights` does not need) or no tokenizer, or its configuration lacks a field of `config_overrides`.
    """
    name = arguments.model_name_or_path
    config = saved_config(name)
    check_opens(auto_class, config, name)
    if arguments.config_overrides:
        check_overrides(config, config.to_dict(), arguments.config_overrides)
    return config, saved_tokenizer(name) if arguments.random_weights else tokenizer_of_model(name)


def load_for_task(
    auto_class, arguments: FineTuningArguments, tokenizer: PreTrainedTokenizerBase, **fields
) -> tuple[PreTrainedModel, "Transfer"]:
    """The model of `arguments` with a head for a task, sized for the tokenizer, and which of its weights learn.

    `fields` of the configuration are the task's; `arguments.config_overrides` beat them. With `random_weights` the
    whole model is new.

    Raises:
        ValueError: as `with_new_head` and `Transfer`.
    """
    fields = {**fields, **(arguments.config_overrides or {})}
    new = None
    if arguments.random_weights:
        model = auto_class.from_config(AutoConfig.from_pretrained(arguments.model_name_or_path, **fields))
    else:
        model, new = with_new_head(auto_class, arguments.model_name_or_path, **fields)
    # the vocabulary, not the rows of the input embeddings: those of an ELMo may be characters
    if len(tokenizer) > model.config.vocab_size:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    transfer = Transfer(model, new, arguments.transfer, arguments.frozen_layers, arguments.layer_learning_rate_factor)
    return model, transfer


class Transfer:
    """Which weights of `model` learn, from when on, and at which rate: `LineageTrainer(…, transfer=transfer)`.

    The head, and weights of the body in `new`, always learn. What the body has loaded learns by `mode`:

    - "full": all of it;
    - "frozen": nothing; of an ELMo, the mixes of the layers;
    - "features": as "frozen", but the body reads each text once, without dropout, and the head trains on what it gave
      (`keep_states`);
    - "partial": all but the embeddings and the `frozen_layers` layers nearest the input;
    - "gradual": nothing in the first epoch, then one layer more per epoch, from the last one down, and the embeddings
      at the end (Howard and Ruder, 2018, section 3.3).

    The learning rate of the head is that of the Trainer; each layer below has `layer_rate_factor` times the rate of
    what stands above it (ibid., section 3.2).

    Args:
        new: names of the weights that are not pretrained (`with_new_head` gives them); None: all.

    Raises:
        ValueError: `frozen_layers` is missing, lies outside the model's layers or belongs to no "partial" mode, or
            `layer_rate_factor` lies outside (0, 1].
    """

    def __init__(
        self,
        model: PreTrainedModel,
        new: Collection[str] | None = (),
        mode: Literal["full", "frozen", "features", "partial", "gradual"] = "full",
        frozen_layers: int | None = None,
        layer_rate_factor: float = 1.0,
    ):
        self.model = model
        self.mode = mode
        self.frozen_layers = frozen_layers
        self.layer_rate_factor = layer_rate_factor
        learning = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        self.new = frozenset(learning if new is None else new)
        self.num_layers = getattr(model.config, "num_hidden_layers", 0)
        # what is not pretrained learns like the head, and what the configuration froze stays so
        self.depths = {
            name: depth
            for name, depth in body_depths(model, self.num_layers).items()
            if learning[name] and (new is None or name not in self.new)
        }
        if (mode == "partial") != (frozen_layers is not None):
            raise ValueError(
                f"transfer is {mode!r} and frozen_layers {frozen_layers}: only partial needs their number"
            )
        if frozen_layers is not None and not 0 <= frozen_layers <= self.num_layers:
            raise ValueError(
                f"frozen_layers is {frozen_layers}; it must lie between 0 (the embeddings alone) and "
                f"{self.num_layers}, the layers of this {model.config.model_type}"
            )
        if not 0 < layer_rate_factor <= 1:
            raise ValueError(
                f"layer_learning_rate_factor is {layer_rate_factor}; it must be above 0, and 1 at most (equal rates)"
            )
        body: Any = model.base_model
        is_frozen = mode in ("frozen", "features")
        if is_frozen and hasattr(body, "is_frozen"):
            # ELMo then runs without dropout and without a graph
            model.config.freeze_bilm = body.is_frozen = True
        if is_frozen:
            self.freeze(self.num_layers + 1)
        elif frozen_layers is not None:
            self.freeze(frozen_layers)
        # in the gradual mode the optimizer must know all weights; they are frozen when training begins

    def freeze(self, depth: int):
        """Freezes what the body has loaded up to `depth`, as in `body_depths`, and lets the rest of it learn."""
        if self.mode != "full":
            for name, parameter in self.model.named_parameters():
                if name in self.depths:
                    parameter.requires_grad_(self.depths[name] > depth)

    def rate_factor(self, name: str) -> float:
        """The factor on the learning rate of the parameter `name`."""
        return self.layer_rate_factor ** (self.num_layers + 1 - self.depths.get(name, self.num_layers + 1))

    def split_groups(self, optimizer: torch.optim.Optimizer):
        """Gives each group of parameters with one rate its own rate."""
        if self.layer_rate_factor == 1:
            return
        factors = {parameter: self.rate_factor(name) for name, parameter in self.model.named_parameters()}
        groups = []
        for group in optimizer.param_groups:
            for factor in sorted({factors[parameter] for parameter in group["params"]}, reverse=True):
                members = [parameter for parameter in group["params"] if factors[parameter] == factor]
                groups.append({**group, "params": members, "lr": group["lr"] * factor})
        optimizer.param_groups[:] = groups

    def keep_states(
        self,
        rows: Mapping[str, datasets.Dataset],
        collator: Callable,
        folder: str | Path,
        batch_size: int = 32,
    ) -> dict[str, KeptStates]:
        """Split -> rows as the head reads them in the mode "features"; `KeptStates` computes and keeps them.

        From then on the body passes `inputs_embeds` on as its last hidden states (`reads_texts` ends that). An ELMo
        needs no such change, since its heads take `elmo_layers`.

        Raises:
            ValueError: the mode is another one, a weight below the last hidden states learns, or the head's loss needs
                the texts themselves (GPT's lm_loss_weight).
        """
        body: Any = self.model.base_model
        learning = {name for name, parameter in body.named_parameters() if parameter.requires_grad}
        if self.mode != "features":
            raise ValueError(f"transfer is {self.mode!r}; only features keeps what the body gives")
        if below := sorted(name for name in learning if not name.startswith(ABOVE_STATES)):
            raise ValueError(
                f"transfer is 'features', but {below[0]} of the body is not pretrained and would learn: "
                "use a pretrained body, or another transfer"
            )
        # GPT's tagger and its head for answers have no language model
        if getattr(self.model.config, "lm_loss_weight", 0) and self.model.get_output_embeddings() is not None:
            raise ValueError(
                f"transfer is 'features', but lm_loss_weight is {self.model.config.lm_loss_weight}: the language "
                "model's loss needs the words; set it to 0 in config_overrides"
            )
        self.reads_texts()
        kept = {
            split: KeptStates(of_split, body, collator, folder, learned=learning, batch_size=batch_size)
            for split, of_split in rows.items()
        }
        if not next(iter(kept.values())).is_elmo:
            _pass_states_on(body)
        return kept

    def reads_texts(self):
        """Lets the body read texts again after `keep_states`."""
        vars(self.model.base_model).pop("forward", None)

    def counts(self) -> dict[str, int]:
        """Numbers of parameters: loaded, new, frozen when training starts, learning then."""
        counts = dict.fromkeys(("loaded", "new", "frozen", "learning"), 0)
        top = self.num_layers + 1
        for name, parameter in self.model.named_parameters():
            counts["new" if name in self.new else "loaded"] += parameter.numel()
            waits = self.mode == "gradual" and self.depths.get(name, top) < top
            counts["learning" if parameter.requires_grad and not waits else "frozen"] += parameter.numel()
        return counts

    def report(self) -> str:
        """Two lines for people: the weights that start anew, and `counts`."""
        whole = len(self.new) == sum(1 for _ in self.model.parameters())
        anew = "all" if whole else ", ".join(sorted(self.new)) or "none, the head is the saved one"
        counts = ", ".join(f"{number:,} {name}" for name, number in self.counts().items())
        return f"Weights that start anew: {anew}\nParameters: {counts}"

    def identity(self) -> str:
        """The mode with its settings, which a continued run must share."""
        layers = "" if self.frozen_layers is None else f" {self.frozen_layers}"
        return f"{self.mode}{layers}, factor {self.layer_rate_factor:g} per layer"


def _pass_states_on(body: Any):
    """Lets `body` give `inputs_embeds` [B, T, D] as its last hidden states, which only its pooler still reads."""
    signature = inspect.signature(body.forward)
    pooler = getattr(body, "pooler", None)
    of_ours = pooler is not None and "attention_mask" in inspect.signature(pooler.forward).parameters

    def forward(*args, **kwargs) -> BaseModelOutputWithPooling:
        given = signature.bind(*args, **kwargs).arguments
        states: Tensor = given["inputs_embeds"]
        pooled = None
        if pooler is not None:
            pooled = pooler(states, given.get("attention_mask"), None) if of_ours else pooler(states)
        return BaseModelOutputWithPooling(states, pooled)

    body.forward = forward


def body_depths(model: PreTrainedModel, num_layers: int) -> dict[str, int]:
    """Name of each parameter of the base model -> 0 (embeddings), 1 … N (layers, from the input up) or N + 1 (above).

    What belongs to the tasks, such as ELMo's mixes, is left out.
    """
    body = model.base_model
    prefix = "" if body is model else f"{model.base_model_prefix}."
    stacks = [
        f"{name}."
        for name, module in body.named_modules()
        if isinstance(module, nn.ModuleList) and name.rpartition(".")[2] in STACKS and len(module) == num_layers
    ]
    depths, above = {}, 0
    for name, _ in body.named_parameters():
        stack = next((stack for stack in stacks if name.startswith(stack)), None)
        if stack is not None:
            above = num_layers + 1
            depths[prefix + name] = 1 + int(name.removeprefix(stack).split(".")[0])
        elif not name.startswith(TASK_PARTS):
            depths[prefix + name] = above
    return depths


class GradualUnfreezing(TrainerCallback):
    """Lets one layer more learn at the start of each epoch, also of a resumed run."""

    def __init__(self, transfer: Transfer):
        self.transfer = transfer
        self._next_epoch = 0

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        # state.epoch is a rounded fraction
        self._next_epoch = state.global_step // updates_per_epoch(train_dataloader, args.gradient_accumulation_steps)

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.transfer.freeze(self.transfer.num_layers - self._next_epoch)
        self._next_epoch += 1
