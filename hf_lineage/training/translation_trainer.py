"""Training of encoder-decoders: batches by tokens, label smoothing, and generation in evaluations."""

import inspect
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, Seq2SeqTrainer, Seq2SeqTrainingArguments

from hf_lineage.data.packing import IGNORED
from hf_lineage.data.randomness import generator
from hf_lineage.data.translation_pairs import TokenBuckets
from hf_lineage.training.averaging import AverageCheckpoints
from hf_lineage.training.schedules import noam, truth_share
from hf_lineage.training.trainer import LineageTrainer
from hf_lineage.training.training_arguments import LineageTrainingArguments


@dataclass
class TranslationTrainingArguments(LineageTrainingArguments, Seq2SeqTrainingArguments):
    """LineageTrainingArguments and Hugging Face's Seq2SeqTrainingArguments together, with the papers' additions.

    Raises:
        ValueError: `average_checkpoints` and `load_best_model_at_end` are both set, or a number is out of its range.
    """

    predict_with_generate: bool = field(default=True, metadata={"help": "Translate while evaluating, for BLEU."})
    per_device_train_batch_size: int = field(
        default=1, metadata={"help": "Always 1: a batch is as large as `tokens_per_update` makes it."}
    )
    # batches by tokens need no dropping
    dataloader_drop_last: bool = field(default=False, metadata={"help": "Drop the last incomplete batch."})
    tokens_per_update: int = field(
        default=4_096,
        metadata={"help": "The most source tokens, and the most target tokens, in an update of all processes."},
    )
    label_smoothing_over: Literal["all", "others"] = field(
        default="all",
        metadata={
            "help": "Where the mass of label_smoothing_factor goes: to all tokens (Szegedy et al., 2016), or to all "
            "but the label (tensor2tensor)."
        },
    )
    noam: bool = field(
        default=False,
        metadata={"help": "Vaswani et al.'s schedule over warmup_steps; learning_rate is its peak."},
    )
    average_checkpoints: int = field(
        default=0, metadata={"help": "The final weights are the mean of this many last checkpoints; 0: no mean."}
    )
    gnmt_length_penalty: float | None = field(
        default=None, metadata={"help": "Exponent of GNMT's length penalty in beam search; the Transformer's: 0.6."}
    )
    scheduled_sampling: Literal["linear", "exponential", "inverse_sigmoid"] | None = field(
        default=None,
        metadata={
            "help": "Scheduled sampling (Bengio et al., 2015): how the share of true words that a recurrent decoder "
            "reads falls with the updates; the other words are its own. Default: all words are true."
        },
    )
    sampling_k: float = field(
        default=1.0,
        metadata={"help": "k of k - c i (linear), k^i (exponential, below 1) or k / (k + exp(i / k)), i = update."},
    )
    sampling_c: float = field(default=0.0, metadata={"help": "c, the fall of the linear share per update."})
    sampling_least: float = field(default=0.0, metadata={"help": "Lower bound of the share of true words."})

    def __post_init__(self):
        if self.scheduled_sampling is not None:
            self.truth_share(0)
        if self.average_checkpoints and self.load_best_model_at_end:
            raise ValueError("average_checkpoints and load_best_model_at_end exclude each other: choose one")
        for name in ("ema_decay", "average_after"):
            if self.average_checkpoints and getattr(self, name) is not None:
                raise ValueError(f"average_checkpoints and {name} are two averages: give one of them")
        if self.tokens_per_update < 1 or self.average_checkpoints < 0:
            raise ValueError(
                f"tokens_per_update is {self.tokens_per_update} and average_checkpoints {self.average_checkpoints}; "
                "the first must be at least 1, the second at least 0"
            )
        super().__post_init__()

    def truth_share(self, step: int) -> float:
        """The share of true words among those that the decoder reads in update `step`."""
        return truth_share(self.scheduled_sampling, step, self.sampling_k, self.sampling_c, self.sampling_least)


def own_word_coins(seed: int, step: int, pairs: Tensor, length: int, share: float) -> Tensor:
    """Coins [B, T] of scheduled sampling, True for an own word: a pure function of (seed, step, pair, position).

    `pairs` [B] are the rows' numbers in the corpus, `share` the probability of a true word. The first word is true.
    """
    draws = [generator(seed, step, pair, "scheduled sampling").random(length) for pair in pairs.tolist()]
    coins = torch.from_numpy(np.stack(draws) >= share)
    coins[:, :1] = False
    return coins.to(pairs.device)


def num_sentences(batch) -> Tensor:
    """Number of targets with a label in a training batch, packed or padded."""
    scored = batch["labels"].ne(IGNORED)
    if "cu_seq_lens_q" in batch:
        # labels up to each bound
        labels = torch.nn.functional.pad(scored[0].cumsum(0), (1, 0))[batch["cu_seq_lens_q"].long()]
        return labels.diff().gt(0).sum()
    return scored.any(1).sum()


class TranslationTrainer(LineageTrainer, Seq2SeqTrainer):
    """Seq2SeqTrainer with the guarantees of LineageTrainer, for `TokenBuckets`.

    The arguments for beam search go into the model's generation_config, and are saved with it. Label smoothing
    applies only to the training loss: evaluation gives the mean negative log-likelihood per target token, whatever the
    batches, so that its exponential is a perplexity. With `args.sum_over_time` the gradient is that of the loss summed
    over a sentence's tokens and averaged over sentences; the logged loss stays the mean per token.

    Raises:
        ValueError: in `train`, the parts of the data differ from processes times accumulated batches, or
            per_device_train_batch_size is not 1; scheduled sampling of pairs without numbers; packed pairs for a model
            that does not take them.
    """

    args: TranslationTrainingArguments

    sums_over_time = True

    def __init__(self, model: PreTrainedModel, args: TranslationTrainingArguments, **kwargs):
        for name, value in {
            "num_beams": args.generation_num_beams,
            "max_length": args.generation_max_length,
            "gnmt_length_penalty": args.gnmt_length_penalty,
        }.items():
            if value is not None:
                setattr(model.generation_config, name, value)
        super().__init__(model, args, **kwargs)
        if args.average_checkpoints:
            self.add_callback(AverageCheckpoints(args.average_checkpoints))

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        self._signature_columns = list({*self._signature_columns, "pair", "cu_seq_lens_q", "cu_seq_lens_k"})

    def check_data(self):
        super().check_data()
        if self.args.scheduled_sampling is not None and not getattr(self.train_dataset, "number_pairs", False):
            raise ValueError("scheduled_sampling draws by pair: it needs TokenBuckets(number_pairs=True)")
        if getattr(self.train_dataset, "packing", False):
            takes = inspect.signature(self.model.get_encoder().forward).parameters
            if "cu_seq_lens_q" not in takes:
                raise ValueError(
                    "packing needs a model that takes cu_seq_lens_q, as the Transformer does; "
                    f"{type(self.model).__name__} does not"
                )
        if isinstance(self.train_dataset, TokenBuckets):
            parts = self.args.world_size * self.args.gradient_accumulation_steps
            if self.train_dataset.parts != parts or self.args.train_batch_size != 1:
                raise ValueError(
                    f"the batches have {self.train_dataset.parts} parts and per_device_train_batch_size is "
                    f"{self.args.train_batch_size}; this run needs TokenBuckets(parts={parts}), the processes times "
                    "gradient_accumulation_steps, and a batch size of 1"
                )

    def evaluation_loop(self, dataloader, *args, metric_key_prefix="eval", **kwargs):
        # Seq2SeqTrainer also gathers the rows that fill up the last batch, and would score them twice
        self.gather_function = self.accelerator.gather_for_metrics
        return super().evaluation_loop(dataloader, *args, metric_key_prefix=metric_key_prefix, **kwargs)

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.args.sum_over_time and batches:
            self.tokens_per_sentence = num_items / self.over_processes(sum(map(num_sentences, batches)), device)
        return batches, num_items

    def label_smoothing(self):
        """Probability 1 − ε for the label and ε over all tokens, or over all others (Vaswani et al., 5.4)."""
        epsilon, size = self.args.label_smoothing_factor, self.model.get_output_embeddings().weight.shape[0]
        # with "all", the label gets its own share of the uniform distribution back
        return epsilon * size / (size - 1) if self.args.label_smoothing_over == "others" else epsilon

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        pairs = inputs.get("pair")
        inputs = {name: value for name, value in inputs.items() if name != "pair"}
        if self.args.scheduled_sampling is not None and model.training:
            step, length = self.state.global_step, inputs["labels"].shape[1]
            share = self.args.truth_share(step)
            inputs["own_words"] = own_word_coins(self.args.seed, step, pairs, length, share)
        found = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        loss, outputs = found if return_outputs else (found, None)
        if self.args.sum_over_time and model.training:
            loss = loss * self.tokens_per_sentence
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        return loss / self.tokens_per_sentence if self.args.sum_over_time else loss

    def create_scheduler(self, num_training_steps, optimizer=None):
        if not self.args.noam or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        factor = noam(self.args.get_warmup_steps(num_training_steps))
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, factor)
        self._created_lr_scheduler = True
        return self.lr_scheduler
