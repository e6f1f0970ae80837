"""Saves tiny checkpoints of this version, with what they answer today: `python -m tests.checkpoints.save`.

Run once for every release, at its commit; writes tests/checkpoints/VERSION.tar.xz and never over an older one. From
then on tests/models/test_earlier_checkpoints.py opens them by the code of the day. A new station and its heads are
saved as soon as they are in LINEAGE; new variants belong in VARIANTS, new kinds of tokenizers in `tokenizers`.

The archive: models/NAME and tokenizers/NAME, as save_pretrained writes them, with the inputs and the answers; code/
holds the files that travel with every checkpoint once.
"""

import dataclasses
import json
import shutil
import tarfile
import typing
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import transformers
from safetensors.torch import save_file
from transformers import GenerationConfig

import hf_lineage
from hf_lineage.data import task_tokenizer
from hf_lineage.tokenization import (
    causal_tokenizer,
    elmo_tokenizer,
    extend_word_level,
    train_word_level,
    train_wordpiece,
    translation_tokenizer,
)
from tests.checkpoints.answers import DROPOUTS, EXPECTED, EXPECTED_TEXTS, model_answers, tokenizer_answers


VOCABULARY = 20
BATCH, TIME = 2, 4
# each configuration takes what it has
TINY = {
    "vocab_size": VOCABULARY,
    "embedding_size": 4,
    "hidden_size": 4,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 6,
    "max_position_embeddings": 12,
    "task_size": 3,
    "max_characters": 5,
    "character_size": 2,
    "cnn_filters": [[1, 2], [2, 2]],
}
# what is a size in one station and a variant in another
OWN_SIZES = {
    "rnnsearch": {"readout_size": 3},
    # bounds that are reached
    "elmo": {"projection_size": 3, "cell_clip": 0.5, "projection_clip": 0.3},
}
LUONG = {"embedding_size": None, "cell": "lstm", "bidirectional": False, "bridge": "copy", "readout_size": None}
LUONG |= {"num_hidden_layers": 2, "reverse_source": True, "input_feeding": True, "output_bias": True}
CHO = {"num_hidden_layers": 1, "cell": "gru", "reset_mode": "before", "reverse_source": False, "bridge": "dense"}
CHO |= {"feed_context": True, "readout_size": 3, "output_rank": 2}
WORDS = {"token_layer": "words"}
# class -> name of the variant -> what differs from the tiny configuration
VARIANTS = {
    "NNLMForCausalLM": {
        "hidden_only": {"direct_connections": False},
        "direct_only": {"hidden_size": 0},
        "adaptive": {"objective": "adaptive_softmax", "cutoffs": [6, 12]},
        "sampled": {"objective": "sampled_softmax", "num_negatives": 3},
        "nce": {"objective": "nce", "num_negatives": 3},
    },
    "Word2VecForPreTraining": {
        "cbow": {"architecture": "cbow"},
        "cbow_sum": {"architecture": "cbow", "cbow_mean": False},
        "tree": {"objective": "hierarchical_softmax"},
        "softmax": {"objective": "softmax"},
    },
    "RNNForCausalLM": {"relu": {"hidden_act": "relu"}, "tied": {"tie_word_embeddings": True}},
    "RNNForSequenceClassification": {"bidirectional": {"bidirectional": True}},
    "LSTMForCausalLM": {
        "diagonal": {"peephole": "diagonal"},
        "full": {"peephole": "full"},
        "coupled_input": {"coupled_gates": "input"},
        "coupled_forget": {"coupled_gates": "forget"},
        "projection": {"projection_size": 2, "cell_clip": 0.3, "projection_clip": 0.2},
        "coupled_peephole_projection": {"coupled_gates": "input", "peephole": "diagonal", "projection_size": 2},
        "awd": {
            "hidden_size": 6,
            "last_hidden_size": 4,
            "tie_word_embeddings": True,
            "activation_penalty": 2.0,
            "change_penalty": 1.0,
        },
    },
    "LSTMModel": {
        "dropout": {"dropout_mask": "locked", "weight_dropout": 0.5, "embedding_dropout": 0.1, "hidden_dropout": 0.1}
    },
    "LSTMForSequenceClassification": {"bidirectional": {"bidirectional": True}},
    "LSTMForTokenClassification": {
        "bidirectional_full_projection": {"bidirectional": True, "peephole": "full", "projection_size": 2}
    },
    "GRUForCausalLM": {
        "before": {"reset_mode": "before"},
        "before_replace": {"reset_mode": "before", "update_convention": "replace"},
    },
    "GRUForTokenClassification": {"bidirectional": {"bidirectional": True}},
    "Seq2SeqForConditionalGeneration": {
        "sutskever": {"decoder_vocab_size": VOCABULARY - 2},
        "cho": CHO,
        "rnn": {"cell": "rnn", "hidden_act": "relu"},
        "gru_dense": {"cell": "gru", "bridge": "dense", "encoder_hidden_size": 3, "decoder_layers": 1},
        "bidirectional_backward": {"bidirectional": True, "bridge": "backward", "num_hidden_layers": 1},
        "bidirectional_copy": {"bidirectional": True, "encoder_hidden_size": 2, "num_hidden_layers": 1},
        "variant_lstm": {"peephole": "diagonal", "coupled_gates": "input", "num_hidden_layers": 1},
        "tied": {"tie_word_embeddings": True, "num_hidden_layers": 1},
    },
    "RNNSearchForConditionalGeneration": {
        "coverage": {"coverage": True, "coverage_loss_weight": 1.0},
        "output_rank": {"output_rank": 2, "attention_size": 3},
        "lstm": {"cell": "lstm", "bridge": "dense", "bidirectional": False},
        **{
            attention: LUONG | {"attention": attention, "max_source_length": 6}
            for attention in ("dot", "general", "concat", "location")
        },
        "no_input_feeding": LUONG | {"attention": "general", "input_feeding": False},
        "local_m": LUONG | {"attention": "general", "attention_window": "local-m", "window_size": 1},
        "local_p": LUONG | {"attention": "general", "attention_window": "local-p", "window_size": 1},
        "concat_coverage": LUONG | {"attention": "concat", "coverage": True, "answer_bias": True},
    },
    "TransformerForConditionalGeneration": {
        "concatenated": {"position_layout": "concatenated", "output_bias": True, "num_hidden_layers": 1},
        "tensor2tensor": {"position_layout": "tensor2tensor", "position_offset": 2, "num_hidden_layers": 1},
        "decoder_layers": {"num_hidden_layers": 2, "decoder_layers": 1},
    },
    "ELMoModel": {
        "words": WORDS,
        "tanh": {"cnn_act": "tanh", "residual": False, "num_highway_layers": 0},
        "mixes": WORDS | {"num_mixes": 2, "mix_layer_norm": True, "cell_clip": None, "projection_clip": None},
    },
    "ELMoForPreTraining": {
        "words": WORDS,
        "softmax": WORDS | {"output_layer": "softmax"},
        "adaptive": WORDS | {"output_layer": "adaptive", "adaptive_cutoffs": [6], "projection_size": 4},
    },
    "ELMoForTokenClassification": {
        "crf": WORDS | {"use_crf": True},
        "two_mixes": WORDS | {"num_mixes": 2, "mix_l2": 0.5, "freeze_bilm": True},
    },
    "ELMoForSequenceClassification": {"word_vectors": WORDS | {"word_vector_size": 2}},
    "GPTForCausalLM": {
        "tables": {"embedding_dropout_of": "tables"},
        "gelu": {"hidden_act": "gelu"},
        "untied": {"tie_word_embeddings": False},
    },
    "GPTForSequenceClassification": {"tables": {"embedding_dropout_of": "tables", "lm_loss_weight": 0.25}},
    "BERTForPreTraining": {"untied": {"tie_word_embeddings": False, "hidden_act": "relu"}},
    "BERTForSequenceClassification": {"regression": {"num_labels": 1}},
}
TEXTS = ["the dog sees the old dog .", "A cat, seen by the dog!", "the unseen zebra"]
CORPUS = ["the dog sees the old dog .", "the cat sees the dog .", "A dog was seen by the cat !", "old cats see dogs ."]
SENTENCE_MARKS = {"unk_token": "<UNK>", "bos_token": "<S>", "eos_token": "</S>", "cls_token": None, "sep_token": None}


def new_config(config_class, changes: dict):
    """The tiny configuration, with only those sizes that the class has and allows."""
    hints = {field.name: field.type for field in dataclasses.fields(config_class)}
    # NNLM has one layer, whatever the others have
    allowed = {
        name: typing.get_origin(hint) is not typing.Literal or TINY.get(name) in typing.get_args(hint)
        for name, hint in hints.items()
    }
    sizes = {name: size for name, size in TINY.items() if allowed.get(name)}
    sizes |= OWN_SIZES.get(config_class.model_type.removeprefix("lineage_"), {})
    # without dropout, training has a loss that can be compared too
    dropouts = {name: 0.0 for name in hints if name.endswith(DROPOUTS)}
    return config_class(**{"num_labels": 3} | dropouts | sizes | changes)


def coarse(shape) -> torch.Tensor:
    """Sixteenths: numbers of few bits, which the archive can compress and a sum does not round."""
    return torch.randint(-12, 13, shape) / 16


@torch.no_grad()
def new_model(auto: str, config):
    model = getattr(transformers, auto).from_config(config).eval()
    for parameter in model.parameters():
        # the scales of norms stay around 1
        parameter.copy_(coarse(parameter.shape) + parameter.eq(1))
    if hasattr(model, "set_word_counts"):
        model.set_word_counts(torch.arange(VOCABULARY, 0, -1))
    if auto == "AutoModelForSeq2SeqLM":
        names = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
        ids = {name: getattr(config, name) for name in names}
        model.generation_config = GenerationConfig(**ids, gnmt_length_penalty=0.6)
    return model


def new_ids(*shape: int) -> torch.Tensor:
    """Words: the first ids are those of marks."""
    return torch.randint(4, VOCABULARY - 2, shape)


def new_inputs(auto: str, config) -> dict[str, torch.Tensor]:
    if auto == "AutoModelForMultipleChoice":
        return {"input_ids": new_ids(BATCH, 3, TIME)}
    mask = torch.ones(BATCH, TIME, dtype=torch.int64)
    mask[1, -1] = 0
    inputs = {"attention_mask": mask, "input_ids": new_ids(BATCH, TIME)}
    if getattr(config, "token_layer", None) == "characters":
        characters = torch.randint(1, config.num_characters, (BATCH, TIME, config.max_characters))
        del inputs["input_ids"]
        inputs["char_ids"] = characters * mask[..., None]
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = new_ids(BATCH, TIME - 1)
    if hasattr(config, "type_vocab_size"):
        inputs["token_type_ids"] = torch.tensor([[0, 0, 1, 1]] * BATCH)
    return inputs


def is_sampled(config) -> bool:
    """Whether training compares each word with a few others only, which come with the labels."""
    objective = getattr(config, "objective", None) or getattr(config, "output_layer", None)
    return objective in ("sampled_softmax", "nce", "sampled")


def new_labels(auto: str, config) -> dict[str, torch.Tensor]:
    of_text, of_token = (BATCH,), (BATCH, TIME)
    words = new_ids(*of_token)
    # of the second text the last token is padding
    words[1, -1] = -100
    if auto == "AutoModel":
        return {}
    if auto in ("AutoModelForCausalLM", "AutoModelForPreTraining") and is_sampled(config):
        negatives = (3,) if hasattr(config, "output_layer") else (BATCH, 3)
        return {"labels": words, "negative_ids": new_ids(*negatives)}
    if auto == "AutoModelForQuestionAnswering":
        return {name: torch.randint(TIME - 1, of_text) for name in ("start_positions", "end_positions")}
    if auto == "AutoModelForTokenClassification":
        return {"labels": torch.where(words == -100, words, torch.randint(config.num_labels, of_token))}
    if auto == "AutoModelForSequenceClassification" and config.num_labels == 1:
        return {"labels": torch.rand(of_text)}
    if auto == "AutoModelForSeq2SeqLM":
        return {"labels": new_ids(BATCH, TIME - 1)}
    if auto == "AutoModelForPreTraining" and hasattr(config, "architecture"):
        return {"labels": new_ids(*of_text)}
    if auto == "AutoModelForPreTraining" and hasattr(config, "type_vocab_size"):
        return {"labels": words, "next_sentence_label": torch.randint(2, of_text)}
    if auto in ("AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForPreTraining"):
        return {"labels": words}
    classes = {"AutoModelForMultipleChoice": 3, "AutoModelForNextSentencePrediction": 2}
    return {"labels": torch.randint(classes.get(auto, config.num_labels), of_text)}


def save_model(folder: Path, auto: str, config):
    transformers.set_seed(0)
    model = new_model(auto, config)
    given = {f"inputs.{name}": tensor for name, tensor in new_inputs(auto, config).items()}
    given |= {f"labels.{name}": tensor for name, tensor in new_labels(auto, config).items()}
    model.save_pretrained(folder)
    save_file(given | model_answers(model, given, auto), folder / EXPECTED)


def save_models(folder: Path):
    left = {(name, variant) for name, variants in VARIANTS.items() for variant in variants}
    for config_class in hf_lineage.LINEAGE:
        for auto, reference in config_class.auto_classes.items():
            name = reference.split(".")[1]
            save_model(folder / name, auto, new_config(config_class, {}))
            for variant, changes in VARIANTS.get(name, {}).items():
                save_model(folder / f"{name}-{variant}", auto, new_config(config_class, changes))
                left.remove((name, variant))
    assert not left, f"no station has {left}"


def tokenizers() -> dict:
    quiet = {"show_progress": False}
    wordpiece = train_wordpiece(CORPUS, vocab_size=60, **quiet)
    words = train_word_level(CORPUS, **quiet)
    sentences = train_word_level(CORPUS, special_tokens=SENTENCE_MARKS, **quiet)
    return {
        "wordpiece": wordpiece,
        "wordpiece-cased": train_wordpiece(CORPUS, vocab_size=60, lowercase=False, model_max_length=64, **quiet),
        "word_level": words,
        "word_level-split": train_word_level(CORPUS, split_punctuation=True, **quiet),
        "word_level-strip": train_word_level(CORPUS, strip_punctuation=True, lowercase=True, **quiet),
        "word_level-extended": extend_word_level(words, ["a zebra sees"], **quiet),
        "causal-wordpiece": causal_tokenizer(wordpiece),
        "causal-word_level": causal_tokenizer(words),
        "translation-wordpiece": translation_tokenizer(wordpiece),
        "translation-word_level": translation_tokenizer(words),
        "elmo": elmo_tokenizer(sentences, max_characters_per_token=6),
        "elmo-list": elmo_tokenizer(["<S>", "</S>", "<UNK>", "the", "dog", "."], max_characters_per_token=5),
        "task-wordpiece": task_tokenizer(wordpiece),
        "task-word_level": task_tokenizer(words),
    }


def save_tokenizers(folder: Path):
    for name, tokenizer in tokenizers().items():
        tokenizer.save_pretrained(folder / name)
        expected = {"texts": TEXTS, "answers": tokenizer_answers(tokenizer, TEXTS)}
        (folder / name / EXPECTED_TEXTS).write_text(json.dumps(expected), encoding="utf-8")


def move_code(folder: Path):
    """Puts what travels with every checkpoint into one folder."""
    code = folder / "code"
    code.mkdir()
    for path in sorted(folder.glob("*/*/*.py")):
        shutil.move(path, code / path.name)


def anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same bytes whoever makes the archive, and whenever."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry


def main():
    torch.set_num_threads(1)
    target = Path(__file__).with_name(f"{hf_lineage.__version__}.tar.xz")
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_models(folder / "models")
        save_tokenizers(folder / "tokenizers")
        move_code(folder)
        with tarfile.open(target, "x:xz", preset=9) as archive:
            # similar files next to each other: sort by the file names first
            for path in sorted(folder.glob("*/**/*"), key=lambda path: (path.suffix, path.name, path)):
                if path.is_file():
                    archive.add(path, path.relative_to(folder), filter=anonymous)
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
