"""The pipeline of tags that a chain decides together."""

import torch
from transformers import TokenClassificationPipeline
from transformers.pipelines.token_classification import AggregationStrategy

from .pipeline_inputs import ReadsWhatFits


class ChainPipeline(ReadsWhatFits, TokenClassificationPipeline):
    """transformers' TokenClassificationPipeline, which decodes with the chain over the tags, where the model has one.

    The chain runs over the first tokens of the words, as in training: the words given with `is_split_into_words`, else
    those of the tokenizer. The tags are those of the best path, as `model.decode` gives them; the score is the tag's
    marginal probability (`model.probabilities`). A word's other tokens have its tag; where tokens stand for themselves
    (`none`, `simple`), a B- continues as I-. A tokenizer that knows no words has a word in each token. Tags of
    IOBES, BMES and BILOU are grouped as those of IOB.
    """

    def preprocess(self, sentence, offset_mapping=None, **options):
        # before the base class takes some of them out
        is_split, given = options.get("is_split_into_words", False), dict(options.get("tokenizer_params") or {})
        given["is_split_into_words"] = is_split
        parts = list(super().preprocess(sentence, offset_mapping, **options))
        if "stride" not in given:
            self.warn_if_cut(
                self.tokens_in(parts[0]),
                lambda: len(self.tokenizer(sentence, is_split_into_words=is_split, verbose=False)["input_ids"]),
            )
        if getattr(self.model, "crf", None) is None:
            yield from parts
            return
        if self.tokenizer.is_fast:
            encoded = self.tokenizer([sentence], truncation=True, **given)
        for number, part in enumerate(parts):
            is_word = 1 - part["special_tokens_mask"]
            if self.tokenizer.is_fast:
                words = encoded.word_ids(number)
                begins = [word is not None and (not t or word != words[t - 1]) for t, word in enumerate(words)]
                is_word = torch.tensor([begins]).long()
            yield {**part, "begins_word": is_word}

    def _forward(self, model_inputs):
        begins = model_inputs.pop("begins_word", None)
        outputs = super()._forward(model_inputs)
        if begins is None:
            return outputs
        tags = self.model.decode(outputs["logits"], begins).clamp(min=0)
        shares = self.model.probabilities(outputs["logits"], begins).gather(2, tags[..., None])[..., 0]
        # of each token the place at which its word begins
        place = (begins * torch.arange(begins.shape[1], device=begins.device)).cummax(1).values
        return {**outputs, "begins_word": begins, "tags": tags.gather(1, place), "shares": shares.gather(1, place)}

    def postprocess(self, all_outputs, aggregation_strategy=AggregationStrategy.NONE, ignore_labels=None):
        if "begins_word" not in all_outputs[0]:
            return super().postprocess(all_outputs, aggregation_strategy, ignore_labels)
        ignored, found = ["O"] if ignore_labels is None else ignore_labels, []
        for outputs in all_outputs:
            offsets = outputs["offset_mapping"]
            tokens = self.gather_pre_entities(
                all_outputs[0]["sentence"],
                outputs["input_ids"][0],
                outputs["logits"][0],
                None if offsets is None else offsets[0],
                outputs["special_tokens_mask"][0],
                # else it warns of words that it has to guess
                AggregationStrategy.NONE,
                word_ids=outputs.get("word_ids"),
                word_to_chars_map=all_outputs[0].get("word_to_chars_map"),
            )
            for token in tokens:
                of_token = (outputs[name][0, token["index"]].item() for name in ("tags", "shares", "begins_word"))
                token |= self._of_path(*of_token, aggregation_strategy)
            entities = self.aggregate(tokens, aggregation_strategy)
            found += [one for one in entities if one.get("entity", one.get("entity_group")) not in ignored]
        return self.aggregate_overlapping_entities(found) if len(all_outputs) > 1 else found

    def get_tag(self, entity_name: str) -> tuple[str, str]:
        """Whether a tag begins an entity ("B") or continues one ("I"), and its kind, in IOBES, BMES and BILOU too."""
        mark, dash, kind = entity_name.partition("-")
        if dash and len(mark) == 1 and mark in "BSUIMEL":
            return "B" if mark in "BSU" else "I", kind
        return super().get_tag(entity_name)

    def _of_path(self, tag: int, share: float, begins_word: int, aggregation_strategy) -> dict:
        """What the base class reads of a token: scores, 0 but for its tag, and whether it continues a word."""
        names, numbers = self.model.config.id2label, self.model.config.label2id
        if not begins_word and aggregation_strategy in (AggregationStrategy.NONE, AggregationStrategy.SIMPLE):
            tag = numbers.get("I-" + names[tag][2:], tag) if names[tag].startswith("B-") else tag
        scores = torch.zeros(len(names))
        scores[tag] = share
        return {"scores": scores.numpy(), "is_subword": not begins_word}
