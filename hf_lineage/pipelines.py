"""Pipelines for word vectors (the input embeddings of any model whose tokens are words), translation and answers.

Importing this file registers for `transformers.pipeline`: "word-analogy", "word-similarity", "multiple-choice",
"next-sentence-prediction", "lineage-translation" and "lineage-question-answering"; and "translation" and
"question-answering", which transformers 5 has removed. `pipeline.save_pretrained` sends the file to the Hub, together
with analogy_scores.py and answer_spans.py. It needs nothing else from this package, except for the option
`replace_unknown`. Of each text the first 100,000 characters are read, with a warning.
"""

import logging
from collections.abc import Mapping

import torch
from torch.nn.functional import normalize
from transformers import (
    AutoModel,
    AutoModelForMultipleChoice,
    AutoModelForNextSentencePrediction,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    Pipeline,
    StoppingCriteria,
)
from transformers.pipelines import PIPELINE_REGISTRY, REMOVED_TASKS
from transformers.pipelines.base import ChunkPipeline

from .analogy_scores import analogy_scores
from .answer_spans import best_spans


# about 50 pages; the tokens of more would take minutes to read
LONGEST_TEXT = 100_000
logger = logging.getLogger(__name__)


def text_of(name: str, text) -> str:
    """The text that an input calls `name`; one of more than `LONGEST_TEXT` characters is cut there, with a warning.

    Raises:
        ValueError: it is no text, is empty, or holds half a character (a surrogate), which no tokenizer reads.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} is {text!r:.60}; it must be a text that is not empty")
    if len(text) > LONGEST_TEXT:
        logger.warning(
            "%s has %s characters; the first %s are read. Give longer texts in parts", name, len(text), LONGEST_TEXT
        )
        text = text[:LONGEST_TEXT]
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds {text[error.start]!r} at character {error.start}, which is no character: read the text "
            "again with the right encoding"
        ) from None
    return text


def texts_of(inputs, *names: str) -> list[str]:
    """The texts with these names in an input, checked by `text_of`.

    Raises:
        ValueError: the input is no mapping, or as `text_of`.
    """
    if not isinstance(inputs, Mapping):
        wanted = ", ".join(f'"{name}": …' for name in names)
        raise ValueError(f"the input is {inputs!r:.60}; it must be a dictionary {{{wanted}}}")
    return [text_of(name, inputs.get(name)) for name in names]


def words_of(inputs, names: str) -> list[str]:
    """The words of a text, or those that a dictionary calls by the letters of `names`.

    Raises:
        ValueError: as `text_of`.
    """
    return texts_of(inputs, *names) if isinstance(inputs, Mapping) else text_of("the input", inputs).split()


class TakesEmptyLists:
    """What all pipelines here share: no input gives no output."""

    def __call__(self, inputs, *args, **options):
        return [] if isinstance(inputs, list | tuple) and not inputs else super().__call__(inputs, *args, **options)


class WordVectorPipeline(TakesEmptyLists, Pipeline):
    """What both pipelines share: look up words, compare rows of the embedding matrix, return the best words."""

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False

    def _word_ids(self, words: list[str]) -> torch.Tensor:
        """Words -> token ids [1, W], cut and lower-cased by the tokenizer.

        Raises:
            ValueError: a word is not exactly one known token.
        """
        ids = []
        for word in words:
            tokens = self.tokenizer.tokenize(word)
            token_ids = self.tokenizer.convert_tokens_to_ids(tokens)
            if len(tokens) != 1 or token_ids[0] in self.tokenizer.all_special_ids:
                raise ValueError(f"{word!r} is not a word of the model's vocabulary; its tokens are {tokens}")
            ids += token_ids
        return torch.tensor([ids])

    def _sanitize_parameters(self, **parameters):
        return {}, parameters, {}

    def _unit_vectors(self, ids: torch.Tensor) -> torch.Tensor:
        return normalize(self.model.get_input_embeddings().weight[ids].float(), dim=-1)

    def _cosines(self, vectors: torch.Tensor) -> torch.Tensor:
        """Unit vectors [..., D] -> cosines with all tokens [..., V]; 0 for a zero vector."""
        weight = self.model.get_input_embeddings().weight.float()
        return vectors @ weight.T / torch.linalg.vector_norm(weight, dim=1).clamp(min=1e-12)

    def _best(self, scores: torch.Tensor, ids: torch.Tensor, top_k: int, restrict_vocab: int | None) -> dict:
        """scores [B, V] -> the best words that are neither special tokens nor among ids [B, W]."""
        for name, value in {"top_k": top_k, "restrict_vocab": restrict_vocab}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        is_word = torch.zeros(scores.shape[1], dtype=torch.bool, device=scores.device)
        is_word[: len(self.tokenizer)] = True  # further rows are padding
        is_word[self.tokenizer.all_special_ids] = False
        candidates = is_word.nonzero()[:restrict_vocab, 0]
        scores = scores.scatter(1, ids, -torch.inf)[:, candidates]
        best = scores.topk(min(top_k, len(candidates)))
        return {"scores": best.values, "best_ids": candidates[best.indices]}

    def _named(self, scores: torch.Tensor, ids: torch.Tensor) -> list[dict]:
        words = self.tokenizer.convert_ids_to_tokens(ids.tolist())
        pairs = zip(words, scores.tolist(), strict=True)
        return [{"word": word, "score": score} for word, score in pairs if score > -torch.inf]


class WordAnalogyPipeline(WordVectorPipeline):
    """Finds the `top_k` (default 5) words d such that a is to b as c is to d; input "a b c" or a dict of a, b, c.

    `method` is "3CosAdd", cos(d, b − a + c) of unit vectors (Mikolov et al., 2013c), or "3CosMul", a product and
    quotient of cosines (Levy and Goldberg, 2014, eq. 4). `restrict_vocab` searches only the first (frequent) words.

    Raises:
        ValueError: a word is not in the vocabulary, there are not three words, or a parameter is out of its range.
    """

    def preprocess(self, inputs):
        words = words_of(inputs, "abc")
        if len(words) != 3:
            raise ValueError(f"an analogy needs three words, got {inputs!r:.60}")
        return {"word_ids": self._word_ids(words)}

    def _forward(self, inputs, top_k=5, method="3CosAdd", restrict_vocab=None):
        ids = inputs["word_ids"]  # [B, 3]
        vectors = self._unit_vectors(ids)  # [B, 3, D]
        scores = analogy_scores(*self._cosines(vectors).unbind(1), method)  # [B, V]
        if method == "3CosAdd":
            # makes the sum of cosines the cosine with b − a + c
            offset = vectors[:, 1] - vectors[:, 0] + vectors[:, 2]
            scores = scores / torch.linalg.vector_norm(offset, dim=-1, keepdim=True).clamp(min=1e-12)
        return self._best(scores, ids, top_k, restrict_vocab)

    def postprocess(self, outputs):
        return self._named(outputs["scores"][0], outputs["best_ids"][0])


class WordSimilarityPipeline(WordVectorPipeline):
    """Finds the `top_k` (default 10) nearest words to a word by cosine, or {"score": cosine} of a pair "a b".

    A pair may also be a dict of a and b. `restrict_vocab` searches only the first, most frequent words.

    Raises:
        ValueError: a word is not in the vocabulary, there are not one or two words, or a parameter is out of range.
    """

    def preprocess(self, inputs):
        words = words_of(inputs, "ab")
        if len(words) not in (1, 2):
            raise ValueError(f"one word or a pair of words is needed, got {inputs!r:.60}")
        # a single word is paired with itself, so that both kinds fit into one batch
        return {"word_ids": self._word_ids((words * 2)[:2]), "is_pair": torch.tensor([len(words) == 2])}

    def _forward(self, inputs, top_k=10, restrict_vocab=None):
        ids = inputs["word_ids"]  # [B, 2]
        cosines = self._cosines(self._unit_vectors(ids[:, 0]))  # [B, V]
        best = self._best(cosines, ids[:, :1], top_k, restrict_vocab)
        return best | {"cosine": cosines.gather(1, ids[:, 1:])[:, 0], "is_pair": inputs["is_pair"]}

    def postprocess(self, outputs):
        if outputs["is_pair"].item():
            return {"score": outputs["cosine"].item()}
        return self._named(outputs["scores"][0], outputs["best_ids"][0])


class LengthLimits(StoppingCriteria):
    """Ends the answers of each sentence at its own length, `limits` [B], the start token included."""

    def __init__(self, limits: torch.Tensor):
        self.limits = limits

    def __call__(self, input_ids, scores, **kwargs):
        return self.limits.repeat_interleave(len(input_ids) // len(self.limits)) <= input_ids.shape[1]


class TranslationPipeline(TakesEmptyLists, Pipeline):
    """Translates a text, or a list of texts, with an encoder-decoder: [{"translation_text": …}] per text.

    It takes the options of generate(): `num_beams`, `max_new_tokens`, `num_return_sequences` (the n best, best first),
    …; their defaults are in the model's generation_config. Without a limit, a translation has at most 50 tokens more
    than its source (Vaswani et al., 2017, section 6.1). `return_tensors` gives {"translation_token_ids": …} instead;
    `clean_up_tokenization_spaces` is as in the tokenizer.

    A translation leaves unknown words out. With `replace_unknown` each becomes the source word aligned with it (Luong
    et al., 2015b): True copies the source word, a mapping translates the words it contains.

    Raises:
        ValueError: an input is not a text, or is empty; `replace_unknown` is given, but the model has no attention to
            the source, or the tokenizer no unknown word.
        ImportError: `replace_unknown` is given, but hf_lineage is not installed.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False

    def _sanitize_parameters(
        self,
        return_tensors=None,
        clean_up_tokenization_spaces=None,
        truncation=None,
        replace_unknown=None,
        generate_kwargs=None,
        **options,
    ):
        # an empty mapping copies all words, so only False turns this off
        keep_text = None if replace_unknown is None else replace_unknown is not False
        before = {"truncation": truncation, "keep_text": keep_text}
        after = {
            "return_tensors": return_tensors,
            "clean_up_tokenization_spaces": clean_up_tokenization_spaces,
            "replace_unknown": replace_unknown,
        }
        before, after = ({k: v for k, v in each.items() if v is not None} for each in (before, after))
        return before, options | (generate_kwargs or {}), after

    def preprocess(self, inputs, truncation=False, keep_text=False):
        inputs = text_of("the text to translate", inputs)
        encoded = self.tokenizer(inputs, return_tensors="pt", truncation=truncation)
        return {**encoded, "text": inputs} if keep_text else encoded

    def _forward(self, inputs, **options):
        inputs = dict(inputs)
        texts = inputs.pop("text", None)
        saved = options.get("generation_config") or self.model.generation_config
        if not any(options.get(name) or getattr(saved, name) for name in ("max_length", "max_new_tokens")):
            longest = inputs["input_ids"].shape[1]
            options["max_new_tokens"] = longest + 50
            if "attention_mask" in inputs:
                limits = LengthLimits(1 + inputs["attention_mask"].sum(1) + 50)
                options["stopping_criteria"] = [*options.get("stopping_criteria", ()), limits]
        if texts is None:
            return {"output_ids": self._by_source(self.model.generate(**inputs, **options), inputs)}
        alignments, eager_attention = self._alignments()
        options |= {"output_attentions": True, "return_dict_in_generate": True}
        # only the eager implementation returns its weights
        with eager_attention(self.model):
            outputs = self.model.generate(**inputs, **options)
        weights = alignments.generated_alignments(outputs)  # [B·n, T, S]
        return {
            "output_ids": self._by_source(outputs.sequences, inputs),
            "weights": self._by_source(weights, inputs),
            "text": texts,
        }

    @staticmethod
    def _by_source(answers: torch.Tensor, inputs: dict) -> torch.Tensor:
        """[B·n, …] -> [B, n, …]"""
        return answers.unflatten(0, (inputs["input_ids"].shape[0], -1))

    @staticmethod
    def _alignments():
        try:
            # in a try block: transformers requires all other imports of a file on the Hub to be installed
            from hf_lineage.inference import generated_alignment as alignments
            from hf_lineage.inference.given_alignment import eager_attention
        except ImportError as error:
            raise ImportError("replace_unknown needs the package hf_lineage: pip install hf_lineage") from error
        return alignments, eager_attention

    def postprocess(self, outputs, return_tensors=False, clean_up_tokenization_spaces=None, replace_unknown=None):
        answers = outputs["output_ids"][0]
        if return_tensors:
            return [{"translation_token_ids": answer} for answer in answers]
        if "weights" in outputs:
            alignments, _ = self._alignments()
            texts = alignments.replace_unknown_words(
                self.tokenizer,
                [outputs["text"]],
                answers,
                outputs["weights"][0],
                replace_unknown if isinstance(replace_unknown, Mapping) else None,
            )
            if clean_up_tokenization_spaces or (
                clean_up_tokenization_spaces is None and self.tokenizer.clean_up_tokenization_spaces
            ):
                texts = [self.tokenizer.clean_up_tokenization(text) for text in texts]
        else:
            texts = self.tokenizer.batch_decode(
                answers, skip_special_tokens=True, clean_up_tokenization_spaces=clean_up_tokenization_spaces
            )
        return [{"translation_text": text} for text in texts]


class QuestionAnsweringPipeline(TakesEmptyLists, ChunkPipeline):
    """Finds the answer to a question in a text: {"answer", "start", "end", "score"}, by the characters of the text.

    The input is {"question": …, "context": …}, several of them, or the two as keywords, each a text or a list. A long
    text is read in windows, which overlap. The score is the product of the probabilities of the first and last token
    within a window; equal answers add theirs. The options are those of transformers before 5.3:

    - top_k (1): with more, a list of the best answers, if there are several;
    - max_answer_len (15), max_seq_len (384, or what the model reads at most), doc_stride (128, or half of
      max_seq_len): tokens in an answer, in a window, and shared by two windows;
    - handle_impossible_answer (False): the empty answer, by the score of the tokenizer's cls_token or the first token;
    - align_to_words (True): an answer begins and ends at words.

    Raises:
        ValueError: a text is missing or empty, a question leaves no room for its text, or an option is out of range.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False

    def __call__(self, inputs=None, *, question=None, context=None, **options):
        if inputs is None:
            questions = question if isinstance(question, list) else [question]
            contexts = context if isinstance(context, list) else [context] * len(questions)
            if len(questions) != len(contexts):
                raise ValueError(f"there are {len(questions)} texts in question, but {len(contexts)} in context")
            inputs = [{"question": one, "context": text} for one, text in zip(questions, contexts, strict=True)]
            if not isinstance(question, list):
                [inputs] = inputs
        return super().__call__(inputs, **options)

    def _sanitize_parameters(
        self,
        top_k=None,
        max_answer_len=None,
        max_seq_len=None,
        doc_stride=None,
        handle_impossible_answer=None,
        align_to_words=None,
    ):
        before = {"max_seq_len": max_seq_len, "doc_stride": doc_stride}
        after = {
            "top_k": top_k,
            "max_answer_len": max_answer_len,
            "handle_impossible_answer": handle_impossible_answer,
            "align_to_words": align_to_words,
        }
        for name, value in {"top_k": top_k, "max_answer_len": max_answer_len, "max_seq_len": max_seq_len}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        before, after = ({k: v for k, v in each.items() if v is not None} for each in (before, after))
        return before, {}, after

    def preprocess(self, inputs, max_seq_len=None, doc_stride=None):
        question, context = texts_of(inputs, "question", "context")
        longest = getattr(self.model.config, "max_position_embeddings", None) or 384
        length = max_seq_len or min(self.tokenizer.model_max_length, longest, 384)
        stride = min(length // 2, 128) if doc_stride is None else doc_stride
        used = len(self.tokenizer(question, add_special_tokens=False)["input_ids"])
        room = length - used - self.tokenizer.num_special_tokens_to_add(pair=True)
        if not 0 <= stride < room:
            raise ValueError(
                f"doc_stride is {stride}, but max_seq_len {length} leaves {room} tokens beside the {used} of the "
                "question: it must be at least 0 and less than them"
            )
        encoded = self.tokenizer(
            question,
            context,
            truncation="only_second",
            max_length=length,
            stride=stride,
            return_overflowing_tokens=True,
            return_attention_mask=True,
        )
        names = {*self.tokenizer.model_input_names, "attention_mask"} & set(encoded)
        for window, encoding in enumerate(encoded.encodings):
            tensors = {name: torch.tensor(encoded[name][window])[None] for name in names}
            is_last = window == len(encoded.encodings) - 1
            # no mapping: batches take lists apart, not mappings
            yield {**tensors, "window": (context, encoding), "is_last": is_last}

    def _forward(self, inputs):
        inputs = dict(inputs)
        window, is_last = inputs.pop("window"), inputs.pop("is_last")
        outputs = self.model(**inputs)
        return {
            "start": outputs.start_logits,
            "end": outputs.end_logits,
            "mask": inputs["attention_mask"],
            "window": window,
            "is_last": is_last,
        }

    def postprocess(self, outputs, top_k=1, max_answer_len=15, handle_impossible_answer=False, align_to_words=True):
        answers, null_score = {}, float("inf")
        for output in outputs:
            window = output["window"]
            # a batch of one is not taken apart
            context, encoding = window[0] if isinstance(window, list) else window
            # batches are padded on either side
            start, end = (output[side][0][output["mask"][0].bool()].double() for side in ("start", "end"))
            cls = self.tokenizer.cls_token_id
            null = encoding.ids.index(cls) if cls in encoding.ids else 0
            allowed = torch.tensor([side == 1 for side in encoding.sequence_ids])
            read = allowed.clone()
            # the token of no answer takes its share
            read[null] = read[null] or cls in encoding.ids
            start, end = (logits.masked_fill(~read, -10000.0).log_softmax(0) for logits in (start, end))
            null_score = min(null_score, (start[null] + end[null]).exp().item())
            allowed[null] = False
            # spans of the same words become one answer
            number = 2 * top_k + 10 if align_to_words else top_k
            for score, first, last in best_spans(start, end, allowed, max_answer_len, number):
                begin, behind = self._characters(encoding, first, last, align_to_words)
                text = context[begin:behind]
                answer = {"score": 0.0, "start": begin, "end": behind, "answer": text}
                answers.setdefault(text.lower(), answer)["score"] += torch.tensor(score).exp().item()
        found = list(answers.values())
        if handle_impossible_answer or not found:
            found.append({"score": null_score, "start": 0, "end": 0, "answer": ""})
        found = sorted(found, key=lambda answer: -answer["score"])[:top_k]
        return found[0] if len(found) == 1 else found

    @staticmethod
    def _characters(encoding, first: int, last: int, align_to_words: bool) -> tuple[int, int]:
        """Where an answer's tokens, or their words, begin and end in the text."""
        words = [encoding.token_to_word(token) for token in (first, last)]
        if align_to_words and None not in words:
            begin, end = (encoding.word_to_chars(word[1] if isinstance(word, tuple) else word, 1) for word in words)
        else:
            begin, end = encoding.offsets[first], encoding.offsets[last]
        return begin[0], end[1]


class MultipleChoicePipeline(TakesEmptyLists, ChunkPipeline):
    """Chooses the best of several texts that go with a first one: [{"choice", "index", "score"}], the best first.

    The input is {"text": …, "choices": [text, …]}, or several of them; the scores are probabilities that add up to 1.
    `top_k` keeps only the best; longer texts are cut if `truncation` is True.

    Raises:
        ValueError: a text is missing or empty, or there are fewer than two choices.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False

    def _sanitize_parameters(self, top_k=None, truncation=None):
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k is {top_k}; it must be at least 1")
        return {} if truncation is None else {"truncation": truncation}, {}, {} if top_k is None else {"top_k": top_k}

    def preprocess(self, inputs, truncation=False):
        [text] = texts_of(inputs, "text")
        choices = inputs.get("choices")
        if not isinstance(choices, list) or len(choices) < 2:
            raise ValueError(f"choices is {choices!r:.60}; it must be a list of at least 2 texts")
        for number, choice in enumerate(choices):
            choice = text_of(f"choices[{number}]", choice)
            encoded = self.tokenizer(text, choice, truncation=truncation, return_tensors="pt")
            # each choice has a score of its own, so a batch may mix questions
            yield {**encoded, "choice": choice, "is_last": number == len(choices) - 1}

    def _forward(self, inputs):
        inputs = dict(inputs)
        choice, is_last = inputs.pop("choice"), inputs.pop("is_last")
        logits = self.model(**{name: tensor[:, None] for name, tensor in inputs.items()}).logits  # [B, 1]
        return {"logits": logits, "choice": choice, "is_last": is_last}

    def postprocess(self, outputs, top_k=None):
        scores = torch.cat([output["logits"].flatten() for output in outputs]).double().softmax(0).tolist()
        choices = [c[0] if isinstance(c, list) else c for c in (output["choice"] for output in outputs)]
        ranked = sorted(range(len(choices)), key=lambda index: -scores[index])
        return [{"choice": choices[i], "index": i, "score": scores[i]} for i in ranked[:top_k]]


class NextSentencePipeline(TakesEmptyLists, Pipeline):
    """Says whether a text follows another: {"label": "next" or "random", "score": its probability}.

    The input is {"text": …, "text_pair": …}, or several of them. Longer pairs are cut if `truncation` is True.

    Raises:
        ValueError: a text is missing or empty.
    """

    _load_tokenizer = True
    _load_processor = _load_image_processor = _load_feature_extractor = _load_video_processor = False

    def _sanitize_parameters(self, truncation=None):
        return {} if truncation is None else {"truncation": truncation}, {}, {}

    def preprocess(self, inputs, truncation=False):
        return self.tokenizer(*texts_of(inputs, "text", "text_pair"), truncation=truncation, return_tensors="pt")

    def _forward(self, inputs):
        return {"logits": self.model(**inputs).logits}

    def postprocess(self, outputs):
        # 0: the second follows
        scores = outputs["logits"][0].double().softmax(0)
        label = int(scores.argmax())
        return {"label": ("next", "random")[label], "score": scores[label].item()}


for task, pipeline_class, model_class in (
    ("word-analogy", WordAnalogyPipeline, AutoModel),
    ("word-similarity", WordSimilarityPipeline, AutoModel),
    ("lineage-translation", TranslationPipeline, AutoModelForSeq2SeqLM),
    ("translation", TranslationPipeline, AutoModelForSeq2SeqLM),
    ("lineage-question-answering", QuestionAnsweringPipeline, AutoModelForQuestionAnswering),
    ("question-answering", QuestionAnsweringPipeline, AutoModelForQuestionAnswering),
    ("multiple-choice", MultipleChoicePipeline, AutoModelForMultipleChoice),
    ("next-sentence-prediction", NextSentencePipeline, AutoModelForNextSentencePrediction),
):
    # a copy that was loaded with a model must not replace the installed one
    if task not in PIPELINE_REGISTRY.supported_tasks:
        PIPELINE_REGISTRY.register_pipeline(task, pipeline_class, pt_model=model_class, type="text")
    # transformers refuses removed tasks before it looks them up
    REMOVED_TASKS.pop(task, None)
