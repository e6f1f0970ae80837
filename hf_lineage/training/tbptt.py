"""Truncated backpropagation through time: blocks pass on the state, but not the gradient."""

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from transformers import DynamicCache, TrainerCallback

from hf_lineage.data.streams import VariableStreams
from hf_lineage.models.cache_argument import cache_of
from hf_lineage.training.known_sizes import WithNumbers
from hf_lineage.training.losses_only import LOSSES_ONLY
from hf_lineage.training.trainer import LineageTrainer


class RateByLength(TrainerCallback):
    """Multiplies the learning rate of an update by its block's length / block_size (Merity et al., 2017, 4.1)."""

    def __init__(self, block_size: int):
        self.block_size = block_size
        self.length = block_size
        self.rates = []

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        self.rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] *= self.length / self.block_size

    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        for group, rate in zip(optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate


# fields of a stream's blocks that forward does not name as arguments
STREAM_COLUMNS = ("shift_labels", "backward_shift_labels", "stream", "stream_step", "restarts")


class TruncatedBPTTTrainer(LineageTrainer):
    """Trains a recurrent language model on `ParallelStreams`, carrying its state from one block to the next.

    The state starts at zero with each stream, is detached from the gradient after every block, and is part of the
    checkpoint. Every process, and every slot of gradient accumulation, keeps the states of its own streams, so that
    1 process x batch 8, 2 x 4 and 4 accumulated batches of 2 train the same model. Evaluation carries states too. Rows
    with a true `restarts` begin with empty states instead.

    On `VariableStreams` the learning rate of an update is proportional to the length of its blocks.

    With `args.sum_over_time` the gradient is that of the loss summed over a block's time steps, as the learning rates
    and clipping thresholds of Zaremba et al. (2014) assume; the logged loss stays the mean per token.

    Raises:
        ValueError: gradient checkpointing is on, which would drop the state; in `train`, the number of streams is not
            a multiple of the batches of all processes, or the streams would be shuffled.
    """

    sums_over_time = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.args.activation_checkpointing:
            raise ValueError("activation_checkpointing drops the carried state: turn it off for truncated BPTT")
        self.rate_by_length = None
        if isinstance(self.train_dataset, VariableStreams):
            self.rate_by_length = RateByLength(self.train_dataset.block_size)
            self.add_callback(self.rate_by_length)
        self.carried = {"train": {}, "eval": {}}  # first stream of a batch -> its cache

    def given_to(self, collator, dataset, is_training):
        return WithNumbers(super().given_to(collator, dataset, is_training), ("stream", "stream_step"))

    def check_data(self):
        super().check_data()
        num_streams, batch_size = self.train_dataset.num_streams, self.args.train_batch_size * self.args.world_size
        if num_streams % batch_size:
            raise ValueError(
                f"num_streams is {num_streams}; it must be a multiple of {batch_size}, the batches of all processes "
                "together, so that each holds the same streams from step to step"
            )
        if self.args.train_sampling_strategy != "sequential":
            raise ValueError(
                f"train_sampling_strategy is {self.args.train_sampling_strategy!r}, but a stream must be read in "
                'order: set train_sampling_strategy="sequential"'
            )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        states = self.carried["train" if model.training else "eval"]
        inputs = dict(inputs)
        first_stream, step = (int(inputs.pop(name)[0]) for name in ("stream", "stream_step"))
        restarts = inputs.pop("restarts", None)  # [B]
        # no default here: a missing state must not silently become zeros
        inputs["cache"] = DynamicCache(config=self.model.config) if step == 0 else states[first_stream]
        if restarts is not None and step > 0:
            for layer in inputs["cache"].layers:
                layer.keys, layer.values = (s.masked_fill(restarts[:, None], 0) for s in (layer.keys, layer.values))
        inputs["use_cache"] = True
        if model.training and self.drops_logits:
            # of the outputs only the state is read
            inputs[LOSSES_ONLY] = not return_outputs
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        states[first_stream] = cache_of(outputs)
        for layer in states[first_stream].layers:
            layer.detach()
        if self.args.sum_over_time and model.training:
            loss = loss * inputs["input_ids"].shape[1]
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model, inputs, num_items_in_batch=None):
        if self.rate_by_length is not None:
            self.rate_by_length.length = inputs["input_ids"].shape[1]
        loss = super().training_step(model, inputs, num_items_in_batch)
        return loss / inputs["input_ids"].shape[1] if self.args.sum_over_time else loss

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        self._signature_columns = list({*self._signature_columns, *STREAM_COLUMNS})

    def _state_file(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"recurrent_state_{self.args.process_index}.safetensors"

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        tensors, seen = {}, {}
        for stream, cache in self.carried["train"].items():
            for i, layer in enumerate(cache.layers):
                tensors |= {f"{stream}.{i}.h": layer.keys, f"{stream}.{i}.c": layer.values}
                seen[f"{stream}.{i}"] = str(layer.cumulative_length)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, self._state_file(output_dir), seen)

    def _load_rng_state(self, checkpoint):
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        # through the CPU: safetensors does not know "cpu:0", the device in a run of several processes
        with safe_open(self._state_file(checkpoint), "pt") as file:
            for name, seen in file.metadata().items():
                stream, i = map(int, name.split("."))
                cache = self.carried["train"].setdefault(stream, DynamicCache(config=self.model.config))
                h, c = (file.get_tensor(f"{name}.{part}").to(self.args.device) for part in "hc")
                cache.layers[i].update(h, c, int(seen))
