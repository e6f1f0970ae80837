r"""Train word2vec: skip-gram or CBOW with negative sampling, hierarchical or full softmax.

    python recipes/pretrain_word2vec.py recipes/configs/word2vec_tiny.yaml --output_dir runs/word2vec
    python recipes/pretrain_word2vec.py recipes/configs/word2vec_tiny.yaml --output_dir runs/word2vec \
        --corpus my_texts/ --num_threads 2 --analogies questions-words.txt --similarities wordsim353.tsv
    python recipes/pretrain_word2vec.py recipes/configs/word2vec_tiny.yaml --output_dir runs/phrases \
        --phrase_thresholds 200 100
    python recipes/pretrain_word2vec.py --model_name_or_path runs/word2vec --corpus new_texts/ \
        --output_dir runs/more --per_device_train_batch_size 1 --learning_rate 0.01 --lr_scheduler_type linear

The third also learns phrases, such as new_york, in two passes. The last trains a saved model on new text and its new
words. After an interruption, run the same command again: training continues from the last complete checkpoint in
output_dir.
`AutoModel.from_pretrained(output_dir)` opens the word vectors; word_vectors.bin holds them for other programs.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForPreTraining, set_seed

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import DataArguments, ModelArguments, parse, run
from hf_lineage.data import (
    CorpusTexts,
    MappedTexts,
    Phrases,
    WordFile,
    WordWindows,
    load_corpus,
    segment_words,
    segmentation_of,
)
from hf_lineage.metrics import load_analogies, load_similarities, measure_word_analogy, measure_word_similarity
from hf_lineage.text_parts import LONGEST
from hf_lineage.tokenization import PrunedCounts, extend_word_level, open_tokenizer, train_word_level, word_normalizer
from hf_lineage.training import (
    FastPath,
    LineageTrainingArguments,
    Results,
    RunFacts,
    Word2VecTrainer,
    last_complete_checkpoint,
    prepare_output_dir,
)
from hf_lineage.word_vectors import WordVectors


@dataclass
class Word2VecArguments:
    """Arguments of word2vec alone."""

    min_count: int = field(default=5, metadata={"help": "Words that occur less often are left out."})
    grow_vocabulary: bool = field(
        default=True, metadata={"help": "With model_name_or_path: also learn the text's words that the model lacks."}
    )
    phrase_thresholds: list[float] | None = field(
        default=None, metadata={"help": "Join phrases above these scores, one pass each (word2vec's demo: 200 100)."}
    )
    phrases: str | None = field(
        default=None, metadata={"help": "Instead of phrase_thresholds: phrases.json of `hf_lineage scale phrases`."}
    )
    word_counts: str | None = field(
        default=None,
        metadata={"help": "counts.parquet of `hf_lineage scale words`, so that the corpus is read once less."},
    )
    vocab_size: int | None = field(
        default=None, metadata={"help": "Number of words, the most frequent ones; default: all."}
    )
    lowercase: bool = field(default=True, metadata={"help": "Train on lower-cased words."})
    strip_punctuation: bool = field(default=True, metadata={"help": "Leave out punctuation: 'end.' is the word end."})
    subsample: float = field(default=1e-3, metadata={"help": "Drop words above this frequency at random; 0: none."})
    words_per_step: int = field(
        default=50_000, metadata={"help": "Words in a block; the learning rate changes per block."}
    )
    backend: str | None = field(
        default=None, metadata={"help": "numba or torch; default: numba on a CPU, if installed."}
    )
    num_threads: int = field(
        default=1,
        metadata={
            "help": "Threads without locks, per_device_train_batch_size blocks each; above 1: not reproducible."
        },
    )
    analogies: str | None = field(default=None, metadata={"help": "A file of questions, such as questions-words.txt."})
    similarities: str | None = field(
        default=None, metadata={"help": "A file of word pairs with scores, tab-separated."}
    )


ARGUMENTS = (ModelArguments, DataArguments, Word2VecArguments, LineageTrainingArguments)


def main():
    # 1. arguments: flags beat the YAML file, which beats the defaults
    model_args, data_args, word_args, training_args = parse(*ARGUMENTS, description=__doc__)
    model_args.check(AutoModelForPreTraining, "lineage_word2vec")
    if model_args.tokenizer_name and (word_args.word_counts or word_args.phrases):
        raise ValueError("word_counts and phrases are for a new vocabulary: leave them out with a saved tokenizer")
    if word_args.phrases and word_args.phrase_thresholds:
        raise ValueError("phrases and phrase_thresholds exclude each other: give one of them")
    word_counts = PrunedCounts.load(word_args.word_counts) if word_args.word_counts else None
    phrases = Phrases.load(word_args.phrases) if word_args.phrases else None
    # read before training, so that a wrong file stops the run at once
    questions = load_analogies(word_args.analogies) if word_args.analogies else None
    scored_pairs = load_similarities(word_args.similarities) if word_args.similarities else None
    set_seed(training_args.seed)
    output_dir = prepare_output_dir(
        training_args.output_dir,
        training_args.overwrite_output_dir,
        is_main_process=training_args.process_index == 0,
    )
    output_dir.mkdir(parents=True, exist_ok=True)

    # 2. vocabulary and text: the first process writes the word ids to disk, all processes read them from there
    # files on this disk need no copy in the cache: training reads the word ids
    on_disk = data_args.corpus is not None and Path(data_args.corpus).exists()
    corpus = load_corpus(
        data_args.corpus,
        "train",
        text_field=data_args.text_field,
        sample_by=data_args.sample_by,
        streaming=data_args.streaming or on_disk,
        longest=LONGEST,
    )
    way = segmentation_of({"train": corpus}, data_args.word_segmentation)
    corpus = segment_words({"train": corpus}, way)["train"]
    # another name until the run has ended: one that is refused leaves the file of the run before
    texts, ids_file = CorpusTexts(corpus), output_dir / "train.new.ids"
    with training_args.main_process_first(desc="vocabulary and word ids"):
        saved = model_args.tokenizer_name
        if saved:
            tokenizer = open_tokenizer(saved)
            normalizer = tokenizer.backend_tokenizer.normalizer
            if (Path(saved) / "phrases.json").is_file():
                phrases = Phrases.load(Path(saved) / "phrases.json")
        else:
            normalizer = word_normalizer(word_args.lowercase, word_args.strip_punctuation)
        if phrases or word_args.phrase_thresholds:
            texts = MappedTexts(texts, normalizer.normalize_str) if normalizer else texts
            phrases = phrases or Phrases.learn(texts, word_args.phrase_thresholds, min_count=word_args.min_count)
            texts = phrases.joined(texts)
        if not saved:
            tokenizer = train_word_level(
                texts if word_counts is None else word_counts,
                word_args.vocab_size,
                min_frequency=word_args.min_count,
                lowercase=word_args.lowercase,
                strip_punctuation=word_args.strip_punctuation,
                # a phrase holds several characters; words that were counted before have rules of their own
                split_characters=way == "characters" and not phrases and word_counts is None,
                special_tokens={"unk_token": "<unk>", "pad_token": "<pad>"},
            )
        elif model_args.model_name_or_path and word_args.grow_vocabulary:
            tokenizer = extend_word_level(tokenizer, texts, min_frequency=word_args.min_count)
        if training_args.process_index == 0:
            WordFile.write(ids_file, texts, tokenizer)
        words = WordFile(ids_file, len(tokenizer))

    # 3. model: new, or a saved one with the new words added to its vocabulary and counts
    counts = torch.from_numpy(words.counts)
    if model_args.model_name_or_path:
        model = AutoModelForPreTraining.from_pretrained(model_args.model_name_or_path)
        known = len(model.word_counts)
        model.resize_token_embeddings(len(tokenizer))
        if model.config.objective == "hierarchical_softmax":
            # words of the saved model keep their counts, and so their paths in the tree
            counts[:known] = 0
        counts = model.word_counts + counts
    else:
        fields = {"model_type": model_args.model_type, "vocab_size": len(tokenizer)}
        fields |= model_args.config_overrides or {}
        model = AutoModelForPreTraining.from_config(AutoConfig.for_model(**fields))
    model.set_word_counts(counts)

    # 4. trainer
    training_args.per_device_train_batch_size *= word_args.num_threads
    path = FastPath.of(model.config, word_args.backend, training_args.device)
    train_data = WordWindows(
        words,
        window=model.config.window,
        subsample=word_args.subsample,
        noise_exponent=model.config.noise_exponent,
        noise_counts=model.word_counts.numpy(),
        chunk=path.chunk,
        negatives_per_chunk=path.negatives_per_chunk,
        block_size=word_args.words_per_step,
        seed=training_args.seed,
    )
    trainer = Word2VecTrainer(
        model,
        training_args,
        train_dataset=train_data,
        path=path,
        num_threads=word_args.num_threads,
        processing_class=tokenizer,
    )
    trainer.facts = RunFacts(
        data_args.corpus,
        # a frequent word
        tokenizer.convert_ids_to_tokens(min(50, len(tokenizer) - 1)),
        language=None if data_args.corpus else "en",
        base_model=model_args.model_name_or_path,
        # the most frequent words
        texts=tokenizer.convert_ids_to_tokens(range(min(1_000, len(tokenizer)))),
    )

    # 5. train
    try:
        trainer.train(training_args.resume_from_checkpoint or last_complete_checkpoint(output_dir))
    except ValueError:
        ids_file.unlink(missing_ok=True)
        raise

    # 6. save: the whole model, and the vectors alone in word2vec's own format
    trainer.save_model()
    if trainer.is_world_process_zero():
        ids_file.replace(output_dir / "train.ids")
        if phrases:
            phrases.save(output_dir / "phrases.json")
        vectors = WordVectors.from_model(model, tokenizer)
        vectors.save(output_dir / "word_vectors.bin")

        # 7. evaluate
        history = trainer.state.log_history
        results = Results(
            output_dir / "results.json",
            parameters=model.num_parameters(),
            train_seconds=round(trainer.train_seconds, 1),
            words=words.num_words,
            vocabulary=len(vectors),
            losses=[(row["step"], row["loss"]) for row in history if "loss" in row],
            epoch_losses=[row["epoch_loss"] for row in history if "epoch_loss" in row],
        )
        with results.kept_on_error():
            if questions:
                results["analogies"] = measure_word_analogy(vectors, questions)
            if scored_pairs:
                results["similarities"] = measure_word_similarity(vectors, scored_pairs)
        trainer.create_model_card()
        losses = results["epoch_losses"]
        score = f"vectors of {len(vectors):,} words" + (f", loss {losses[-1]:.3f}" if losses else "")
        if questions:
            score += f", {results['analogies']['accuracy']:.1%} of the analogies"
        if scored_pairs:
            score += f", Spearman's correlation {results['similarities']['spearman']:.3f}"
        print(trainer.last_lines(score))
    if training_args.push_to_hub:
        trainer.push_to_hub()


if __name__ == "__main__":
    run(main)
