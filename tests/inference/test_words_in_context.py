"""Words in two sentences: alike where the vector is the word's alone, apart where its sentence counts."""

import pytest
import torch

from hf_lineage import BERTConfig, BERTModel, ELMoConfig, ELMoModel, Word2VecConfig, Word2VecModel
from hf_lineage.inference.words_in_context import WordNotFoundError, context_similarities, word_layers
from hf_lineage.tokenization import elmo_tokenizer, train_characters, train_word_level


SENTENCES = ("He got bit by Python.", "Python is my favorite programming language.")


@pytest.fixture
def words():
    roles = {"unk_token": "<unk>", "pad_token": "<pad>"}
    return train_word_level(
        SENTENCES, lowercase=True, strip_punctuation=True, special_tokens=roles, show_progress=False
    )


def test_word2vec_gives_a_word_one_vector(words):
    model = Word2VecModel(Word2VecConfig(vocab_size=len(words), hidden_size=8))
    assert context_similarities(model, words, "Python", SENTENCES) == [1.0]


def test_upper_layers_of_elmo_know_the_sentence():
    marks = {"bos_token": "<S>", "eos_token": "</S>", "unk_token": "<UNK>"}
    # "Python" is not among the words: its letters are read all the same
    trained = train_word_level(["He is my"], split_punctuation=True, special_tokens=marks, show_progress=False)
    tokenizer = elmo_tokenizer(trained)
    sizes = {"cnn_filters": [[1, 4], [2, 8]], "character_size": 4, "hidden_size": 16, "projection_size": 8}
    model = ELMoModel(ELMoConfig(vocab_size=len(tokenizer), num_highway_layers=1, **sizes))
    token, *layers = context_similarities(model, tokenizer, "Python", SENTENCES)
    assert token == 1.0
    assert len(layers) == 2
    assert all(similarity < 0.999 for similarity in layers)


def test_bert_knows_the_sentence_and_joins_pieces(tiny_tokenizer):
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    model = BERTModel(BERTConfig(vocab_size=len(tiny_tokenizer), pad_token_id=tiny_tokenizer.pad_token_id, **sizes))
    sentences = ("The farmers answer Ada.", "Ada gladly visits the farmers.")
    assert all(value < 0.999 for value in context_similarities(model.eval(), tiny_tokenizer, "farmers", sentences))
    text = "Ada visits Emilfarmer."
    ids = tiny_tokenizer(text, return_tensors="pt")
    pieces = [place for place, word in enumerate(ids.word_ids()) if word == 2]
    assert len(pieces) > 1
    expected = model(**ids).last_hidden_state[0, pieces].mean(0)
    torch.testing.assert_close(word_layers(model, tiny_tokenizer, text, "Emilfarmer")[-1], expected)


@pytest.mark.parametrize(
    ("text", "word", "place"),
    [
        # a vowel sign is a part of the word, though no letter
        ("हिन्दी और हिन्द", "हिन्द", 10),
        ("cafe\u0301 cafe", "cafe", 6),
        # in writing without blanks, letters with their marks may be a word
        ("他在大学生活", "大学", 2),
        ("ผมอ่านหนังสือ", "หนังสือ", 6),
        ("ผมที่ที", "ที", 5),
        ("a_b bat b", "b", 8),
    ],
)
def test_words_of_all_scripts_are_found_whole(text, word, place):
    characters = train_characters([text], show_progress=False)
    model = Word2VecModel(Word2VecConfig(vocab_size=len(characters), hidden_size=8))
    ids = characters(text, add_special_tokens=False)["input_ids"]
    expected = model.get_input_embeddings().weight[ids[place : place + len(word)]].mean(0)
    torch.testing.assert_close(word_layers(model, characters, text, word)[0], expected)


def test_a_word_that_is_not_there_or_not_known_is_named(words):
    model = Word2VecModel(Word2VecConfig(vocab_size=len(words), hidden_size=8))
    with pytest.raises(WordNotFoundError, match="'Pyth' does not occur in"):
        word_layers(model, words, "He got bit by Python.", "Pyth")
    with pytest.raises(WordNotFoundError, match="Word2VecModel.*'snake'"):
        word_layers(model, words, "He got bit by a snake.", "snake")
