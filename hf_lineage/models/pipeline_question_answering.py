"""The pipeline of question answering, which transformers 5 has removed."""

import torch
from transformers import AutoModelForQuestionAnswering
from transformers.pipelines.base import ChunkPipeline

from .answer_spans import best_spans
from .pipeline_inputs import TakesEmptyLists, logger, register, texts_of


class QuestionAnsweringPipeline(TakesEmptyLists, ChunkPipeline):
    """Finds the answer to a question in a text: {"answer", "start", "end", "score"}, by the characters of the text.

    The input is {"question": …, "context": …}, several of them, or the two as keywords, each a text or a list. A long
    text is read in windows, which overlap. The score is the product of the probabilities of the first and last token
    within a window; equal answers add theirs. The options are those of transformers before 5.3:

    - top_k (1): with more, a list of the best answers, if there are several;
    - max_answer_len (15), max_seq_len (384, or what the model reads at most), doc_stride (128, or half of
      max_seq_len): tokens in an answer, in a window, and shared by two windows;
    - max_question_len (64): a question of more tokens is cut, with a warning, as by transformers' slow tokenizers;
    - padding ("do_not_pad"): the tokenizer's, such as "max_length", which pads each window to max_seq_len;
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
        max_question_len=None,
        padding=None,
        handle_impossible_answer=None,
        align_to_words=None,
    ):
        before = {
            "max_seq_len": max_seq_len,
            "doc_stride": doc_stride,
            "max_question_len": max_question_len,
            "padding": padding,
        }
        after = {
            "top_k": top_k,
            "max_answer_len": max_answer_len,
            "handle_impossible_answer": handle_impossible_answer,
            "align_to_words": align_to_words,
        }
        sizes = {"top_k": top_k, "max_answer_len": max_answer_len, "max_seq_len": max_seq_len}
        for name, value in {**sizes, "max_question_len": max_question_len}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        before, after = ({k: v for k, v in each.items() if v is not None} for each in (before, after))
        return before, {}, after

    def preprocess(
        self, inputs, max_seq_len=None, doc_stride=None, max_question_len=64, padding: bool | str = "do_not_pad"
    ):
        question, context = texts_of(inputs, "question", "context")
        longest = getattr(self.model.config, "max_position_embeddings", None) or 384
        length = max_seq_len or min(self.tokenizer.model_max_length, longest, 384)
        stride = min(length // 2, 128) if doc_stride is None else doc_stride
        tokens = self.tokenizer(question, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        used = len(tokens["input_ids"])
        if used > max_question_len:
            logger.warning(
                "the question has %s tokens; the model reads the first %s (max_question_len)", used, max_question_len
            )
            question, used = question[: tokens["offset_mapping"][max_question_len - 1][1]], max_question_len
        room = length - used - self.tokenizer.num_special_tokens_to_add(pair=True)
        if not 0 <= stride < room:
            raise ValueError(
                f"doc_stride is {stride}, but max_seq_len {length} leaves {room} tokens after the {used} of the "
                "question: it must be at least 0 and below that number, or max_question_len smaller"
            )
        encoded = self.tokenizer(
            question,
            context,
            padding=padding,
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
            # as are windows
            places = [place for place, is_token in enumerate(encoding.attention_mask) if is_token]
            cls, ids = self.tokenizer.cls_token_id, [encoding.ids[place] for place in places]
            null = ids.index(cls) if cls in ids else 0
            allowed = torch.tensor([encoding.sequence_ids[place] == 1 for place in places])
            read = allowed.clone()
            # the token of no answer takes its share
            read[null] = read[null] or cls in ids
            start, end = (logits.masked_fill(~read, -10000.0).log_softmax(0) for logits in (start, end))
            null_score = min(null_score, (start[null] + end[null]).exp().item())
            allowed[null] = False
            # spans of the same words become one answer
            number = 2 * top_k + 10 if align_to_words else top_k
            for score, first, last in best_spans(start, end, allowed, max_answer_len, number):
                begin, behind = self._characters(encoding, places[first], places[last], align_to_words)
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


register("lineage-question-answering", QuestionAnsweringPipeline, AutoModelForQuestionAnswering)
register("question-answering", QuestionAnsweringPipeline, AutoModelForQuestionAnswering)
