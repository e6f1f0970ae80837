"""Training steps on a pretended GPU; prints for each, as JSON, where it waits for the GPU, or null.

python -m tests.models.steps_on_gpu           # the recipes' runs
python -m tests.models.steps_on_gpu --heads   # and every head of every station
"""

import inspect
import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from transformers import set_seed

from hf_lineage import (
    BERTConfig,
    BERTForMaskedLM,
    BERTForPreTraining,
    BERTForSequenceClassification,
    GPTConfig,
    GPTForCausalLM,
    LSTMConfig,
    LSTMForCausalLM,
    RNNSearchConfig,
    RNNSearchForConditionalGeneration,
    TransformerConfig,
    TransformerForConditionalGeneration,
)
from hf_lineage.data import (
    PackedDocuments,
    PackingCollator,
    PairCollator,
    ParallelStreams,
    TokenBuckets,
    TokenStream,
    TranslationPairs,
    WithScoredPositions,
)
from hf_lineage.models import recurrent_layers
from hf_lineage.training import (
    LineageTrainer,
    LineageTrainingArguments,
    TranslationTrainer,
    TranslationTrainingArguments,
    TruncatedBPTTTrainer,
)
from tests.models.host_syncs import GPU, HostSync, on_gpu, pretended_gpu, there
from tests.models.stations import HEADS, TABLES


WORDS, END = 60, 2
SIZES = {"vocab_size": WORDS, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 24, "max_position_embeddings": 32}


@contextmanager
def lengths_known():
    """Within the block padding's lengths need no GPU, and layers run as if no row were padded."""
    of, run_fast = recurrent_layers.Padding.of, recurrent_layers.run_fast

    def padding_of(attention_mask, length):
        if attention_mask is None:
            return None
        with mock.patch.object(recurrent_layers, "is_recorded", return_value=True):
            return of(attention_mask, length)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(recurrent_layers.Padding, "of", padding_of))
        stack.enter_context(mock.patch.object(recurrent_layers, "run_fast", lambda *args: run_fast(*args[:3], None)))
        yield


def to_gpu(model, mode):
    """The model with parameters and buffers on the GPU; tied ones stay tied."""
    moved = {}
    for module in model.modules():
        for members in (module._parameters, module._buffers):
            for name, tensor in members.items():
                if tensor is not None:
                    if id(tensor) not in moved:
                        new = there(tensor, mode)
                        is_weight = members is module._parameters
                        moved[id(tensor)] = torch.nn.Parameter(new, tensor.requires_grad) if is_weight else new, tensor
                    members[name] = moved[id(tensor)][0]


def where(step) -> str | None:
    """Where `step` waits for the GPU: "file function: what"."""
    try:
        step()
    except HostSync as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "hf_lineage" in Path(f.filename).parts]
        return f"{Path(frames[-1].filename).stem} {frames[-1].name}: {error}"
    return None


def gru(x, state, weights, *options):
    """A stand-in for torch.gru, which has no form for tensors without values."""
    outputs = sum((each.sum() for each in weights), state.sum()) + x[..., :1].expand(-1, -1, state.shape[2])
    return outputs, outputs[:, -1][None]


def step_of(model, batch):
    """A step without a trainer."""
    with pretended_gpu() as mode, mock.patch.object(torch, "gru", gru):
        to_gpu(model, mode)
        batch = on_gpu(batch, mode)

        def step():
            loss = model.train()(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)

        return where(step)


def heads():
    """Every head that learns, with a batch without padding and with it."""
    for name, head in HEADS:
        table = TABLES[name]
        inputs = table.inputs(head)
        labels = table.labels(head, inputs)
        if not labels:
            continue
        dropouts = table.dropouts(0.1)
        batches = {"full": inputs}
        if not table.no_attention_mask:
            batches["padded"] = table.padded(inputs, [7, 5, 2, 1], "right")[0]
        for kind, batch in batches.items():
            model = table.model(head, **dropouts)
            # as Trainer does
            model.config.use_cache = False
            batch = {**batch, **labels}
            if "scored_positions" in inspect.signature(model.forward).parameters:
                batch = WithScoredPositions(lambda given: given)(batch)
            yield f"{name} {head} {kind}", model, batch


def step_of_trainer(trainer) -> str | None:
    """What LineageTrainer does with a batch of its own loader."""
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.current_gradient_accumulation_steps = 1
    trainer._prepare_inputs = lambda inputs: inputs
    with pretended_gpu() as mode:
        to_gpu(trainer.model, mode)
        batch = on_gpu(batch, mode)

        def step():
            # as Trainer does: with a batch that lies on the device
            batches, num_items = trainer.get_batch_samples(iter([batch]), 1, GPU)
            trainer.unlabelled_updates = 0
            trainer.training_step(trainer.model, batches[0], num_items)
            torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)

        return where(step)


def texts(number: int) -> list[torch.Tensor]:
    """Texts of 3 to 7 words."""
    return [torch.randint(5, WORDS, (3 + i % 5,)) for i in range(number)]


def masked_pairs() -> list[dict]:
    """BERT's examples, some of whose words are scored."""
    return [
        {"input_ids": ids, "labels": ids.where(torch.arange(len(ids)) % 3 == 1, -100), "next_sentence_label": i % 2}
        for i, ids in enumerate(texts(8))
    ]


def stream_of(documents: list[torch.Tensor]) -> TokenStream:
    """The documents with end marks between them."""
    lengths = np.array([len(each) for each in documents])
    tokens = np.concatenate([[END], *(np.append(each.numpy(), END) for each in documents)]).astype(np.int32)
    return TokenStream(tokens, 1 + np.cumsum(lengths + 1) - (lengths + 1), len(tokens), len(tokens), 0)


def translation_pairs() -> TranslationPairs:
    sides = [texts(40), texts(41)[1:]]
    pairs = TranslationPairs.__new__(TranslationPairs)
    pairs.sides = [torch.cat(side).numpy() for side in sides]
    pairs.offsets = [np.cumsum([0, *map(len, side)]) for side in sides]
    return pairs


def padded(examples: list[dict]) -> dict:
    """As transformers' collators pad rows."""
    batch = {"next_sentence_label": torch.tensor([each["next_sentence_label"] for each in examples])}
    for name, fill in {"input_ids": 0, "labels": -100}.items():
        rows = [each[name] for each in examples]
        batch[name] = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=fill)
    lengths = torch.tensor([len(each["input_ids"]) for each in examples])
    return {**batch, "attention_mask": (torch.arange(int(lengths.max())) < lengths[:, None]).long()}


def runs(folder: str) -> dict[str, Callable]:
    """What makes trainers as the recipes do, with their data and collators."""
    options = {"output_dir": folder, "per_device_train_batch_size": 4, "remove_unused_columns": False, "max_steps": 4}
    options |= {"save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    args = LineageTrainingArguments(**options)

    def bert(collator, model_class=BERTForPreTraining):
        data = masked_pairs()
        if model_class is BERTForMaskedLM:
            data = [{name: each[name] for name in ("input_ids", "labels")} for each in data]
        if model_class is BERTForSequenceClassification:
            data = [{"input_ids": each["input_ids"], "label": each["next_sentence_label"]} for each in data]
        model = model_class(BERTConfig(**SIZES, num_labels=2))
        return LineageTrainer(model, args, train_dataset=data, data_collator=collator)

    def gpt(data, **fields):
        return LineageTrainer(GPTForCausalLM(GPTConfig(**SIZES)), args, train_dataset=data, **fields)

    def translation(model, packing=False, **fields):
        arguments = TranslationTrainingArguments(**{**options, "per_device_train_batch_size": 1}, **fields)
        data = TokenBuckets(translation_pairs(), 40, pad_token_id=0, packing=packing)
        return TranslationTrainer(model=model, args=arguments, train_dataset=data, data_collator=PairCollator(0))

    def transformer(**fields):
        config = TransformerConfig(**SIZES, decoder_layers=1, pad_token_id=0, decoder_start_token_id=1)
        return translation(TransformerForConditionalGeneration(config), **fields)

    def rnnsearch():
        config = RNNSearchConfig(vocab_size=WORDS, hidden_size=16, pad_token_id=0, decoder_start_token_id=1)
        return translation(RNNSearchForConditionalGeneration(config))

    def lstm():
        model = LSTMForCausalLM(LSTMConfig(vocab_size=WORDS, hidden_size=16, num_hidden_layers=2))
        return TruncatedBPTTTrainer(model, args, train_dataset=ParallelStreams(stream_of(texts(60)), 4, 6))

    rows = [{"input_ids": ids, "labels": ids} for ids in torch.randint(5, WORDS, (8, 12))]
    documents = [{"input_ids": ids, "labels": ids} for ids in texts(8)]
    return {
        "BERT packed": lambda: bert(PackingCollator()),
        "BERT padded": lambda: bert(padded),
        "BERT masked words": lambda: bert(PackingCollator(), BERTForMaskedLM),
        "BERT texts": lambda: bert(PackingCollator(), BERTForSequenceClassification),
        "GPT blocks": lambda: gpt(rows),
        "GPT documents": lambda: gpt(PackedDocuments(stream_of(texts(60)), 24)),
        "GPT packed": lambda: gpt(documents, data_collator=PackingCollator()),
        "LSTM streams": lstm,
        "Transformer packed": lambda: transformer(packing=True, label_smoothing_factor=0.1),
        "Transformer padded": transformer,
        "Transformer packed, summed over time": lambda: transformer(packing=True, sum_over_time=True),
        "RNNsearch padded": rnnsearch,
    }


def outcome(step: Callable) -> str | None:
    """Where it waits, or what else went wrong."""
    try:
        return step()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]


def main():
    torch.set_num_threads(1)
    set_seed(0)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, make in runs(folder).items():
            found[name] = outcome(lambda make=make: step_of_trainer(make()))
    if sys.argv[1:] == ["--heads"]:
        for name, model, batch in heads():
            found[name] = outcome(lambda model=model, batch=batch: step_of(model, batch))
            if found[name] and found[name].startswith("recurrent_layers of"):
                with lengths_known():
                    again = outcome(lambda model=model, batch=batch: step_of(model, batch))
                found[f"{name}, lengths known"] = again
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
