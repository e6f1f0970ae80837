"""From and to the static embeddings of model2vec and sentence-transformers: a vector per token, texts are their means.

A folder has model.safetensors, tokenizer.json, config.json and modules.json; both libraries open it.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_lineage.converters.safetensors_file import read_safetensors
from hf_lineage.files import CorpusError, replacing, write_json
from hf_lineage.models.configuration_word2vec import Word2VecConfig
from hf_lineage.models.modeling_word2vec import Word2VecModel


# where sentence-transformers puts the part, and where model2vec does
PLACES = ("", "0_StaticEmbedding")
MODULES = [{"idx": 0, "name": "0", "path": ".", "type": "sentence_transformers.models.StaticEmbedding"}]
CONFIG = {
    "model_type": "model2vec",
    "architectures": ["StaticModel"],
    "normalize": False,
    "embedding_dtype": "float32",
    # texts of any length
    "max_length": None,
}


def to_static_embeddings(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path):
    """Writes a model's input embeddings [V, D] and its tokenizer, for `StaticModel` and `SentenceTransformer`.

    Special tokens have zero vectors: model2vec leaves unknown words out, sentence-transformers counts them, and so
    both give a text the direction of the mean of its other tokens, as `embed_texts` does for word2vec.

    Raises:
        ValueError: the model has no vector per token (an ELMo of characters), or its vectors are not one per token of
            the tokenizer.
        OSError: a file cannot be written.
    """
    table = model.get_input_embeddings()
    number, rows = len(tokenizer), getattr(table, "num_embeddings", 0)
    if getattr(model.config, "num_characters", None) is not None and rows != model.config.vocab_size:
        raise ValueError(
            f"{type(model).__name__} reads characters and has no vector per token: export "
            "ELMoModel.vocabulary_vectors, or another model"
        )
    if sorted(tokenizer.get_vocab().values()) != list(range(number)) or rows < number:
        raise ValueError(
            f"the tokenizer has {number} tokens, with ids up to {max(tokenizer.get_vocab().values())}, the model "
            f"{rows} embeddings: take the tokenizer that the model was trained with"
        )
    vectors = table.weight.detach().float().cpu()[:number].clone()
    vectors[tokenizer.all_special_ids] = 0
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / "model.safetensors") as temporary:
        save_file({"embeddings": vectors}, temporary)
    with replacing(folder / "tokenizer.json") as temporary:
        backend.save(str(temporary))
    write_json(folder / "config.json", CONFIG)
    write_json(folder / "modules.json", MODULES)


def from_static_embeddings(folder: str | Path) -> tuple[Word2VecModel, PreTrainedTokenizerFast]:
    """A folder that model2vec or sentence-transformers saved -> `Word2VecModel` with its vectors, and its tokenizer.

    Weights and shared vectors of model2vec are multiplied and spread, so that each token has the vector that both
    libraries average.

    Raises:
        CorpusError: the folder has no such files, or the vectors are not one per token.
        ValueError: as `read_safetensors`.
    """
    folder = Path(folder)
    place = next((folder / name for name in PLACES if (folder / name / "model.safetensors").is_file()), None)
    if place is None or not (place / "tokenizer.json").is_file():
        raise CorpusError(f"{folder} has no model.safetensors with tokenizer.json, as static embeddings have")
    tensors = read_safetensors(place / "model.safetensors")
    name = next((name for name in ("embeddings", "embedding.weight") if name in tensors), None)
    if name is None:
        raise CorpusError(f"{place / 'model.safetensors'} has {', '.join(tensors)}, but no embeddings")
    vectors = tensors[name].float()
    if "mapping" in tensors:
        vectors = vectors[tensors["mapping"].long()]
    if "weights" in tensors:
        vectors = vectors * tensors["weights"].float()[:, None]
    backend = Tokenizer.from_file(str(place / "tokenizer.json"))
    if backend.get_vocab_size() != len(vectors):
        raise CorpusError(f"{place} has {len(vectors)} vectors for {backend.get_vocab_size()} tokens")
    model = Word2VecModel(Word2VecConfig(vocab_size=len(vectors), hidden_size=vectors.shape[1]))
    with torch.no_grad():
        model.embed_tokens.weight.copy_(vectors)
    unknown = json.loads(backend.to_str())["model"].get("unk_token")
    special = {} if unknown is None else {"unk_token": unknown}
    padding = next((token for token in ("[PAD]", "<pad>") if backend.token_to_id(token) is not None), None)
    special |= {} if padding is None else {"pad_token": padding}
    return model.eval(), PreTrainedTokenizerFast(tokenizer_object=backend, **special)
