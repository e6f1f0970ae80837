"""What classifiers of texts must beat: the most frequent class, and words without any pretrained vectors."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hf_lineage.data.choice_questions import ChoiceQuestion
from hf_lineage.data.cjk import WITHOUT_BLANKS
from hf_lineage.metrics.class_scores import score_classification


def classification_floors(
    train_texts: Sequence[Sequence[str]],
    train_labels: Sequence,
    texts: Sequence[Sequence[str]],
    labels: Sequence,
    problem_type: str,
) -> dict[str, dict[str, float]]:
    """Scores, as of `score_classification`, of what needs no model: "majority" and "TF-IDF".

    - "majority": the most frequent class of training; of several labels per text, those that most texts have. Numbers
      have none, since correlations with a constant do not exist.
    - "TF-IDF": logistic regression (numbers: ridge regression) on words and pairs of words weighted by TF-IDF;
      characters and pairs of characters where most letters belong to writing without blanks, such as Chinese.

    Where training has one class, or no word, there is no "TF-IDF".

    Each column of texts has features of its own. Labels are as `Labels.encode` gives them, and `problem_type` as in
    transformers. Needs scikit-learn and scipy (extra `finetune`).
    """
    # imported here, since they are an extra
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    inputs = _features(train_texts, texts)
    train_labels, labels = np.asarray(train_labels), np.asarray(labels)
    if problem_type == "regression":
        if inputs is None:
            return {}
        found = Ridge().fit(inputs[0], train_labels).predict(inputs[1])
        return {"TF-IDF": score_classification(found[:, None], labels)}
    if problem_type == "multi_label_classification":
        most = np.broadcast_to(train_labels.mean(0) - 0.5, labels.shape)
        can_learn = True
    else:
        # a part of the training rows may lack a class
        number = int(max(train_labels.max(), labels.max())) + 1
        most = np.broadcast_to(np.bincount(train_labels, minlength=number), (len(labels), number))
        can_learn = len(np.unique(train_labels)) > 1
    floors = {"majority": score_classification(most, labels)}
    if inputs is None or not can_learn:
        return floors
    judge = LogisticRegression(max_iter=1_000)
    if problem_type == "multi_label_classification":
        found = OneVsRestClassifier(judge).fit(inputs[0], train_labels).predict_proba(inputs[1]) - 0.5
    else:
        found = np.zeros((len(labels), number))
        judge.fit(inputs[0], train_labels)
        found[:, judge.classes_] = judge.predict_proba(inputs[1])
    return {**floors, "TF-IDF": score_classification(found, labels)}


def _features(train_texts: Sequence[Sequence[str]], texts: Sequence[Sequence[str]]):
    """TF-IDF of the training texts and of `texts`, from the columns that have words in training; None if none has."""
    from scipy.sparse import hstack

    of_training, features = [], []
    for column, train_column in zip(texts, train_texts, strict=True):
        words = _words_like(train_texts)
        if any(map(words.build_analyzer(), train_column)):
            of_training.append(words.fit_transform(train_column))
            features.append(words.transform(column))
    return (hstack(of_training).tocsr(), hstack(features).tocsr()) if features else None


def choice_floors(
    train_questions: Sequence[ChoiceQuestion], questions: Sequence[ChoiceQuestion]
) -> dict[str, dict[str, float]]:
    """Accuracies of what needs no model: "majority", "chance" and "TF-IDF".

    - "majority": the number of the choice that is right most often in training;
    - "chance": a choice drawn at random;
    - "TF-IDF": logistic regression on each choice's words and pairs of words (characters, as in
      `classification_floors`), weighted by TF-IDF, and its cosine with the text; the likeliest choice of a question.

    Needs scikit-learn and scipy (extra `finetune`).
    """
    # imported here, since they are an extra
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression

    labels = np.array([question.label for question in questions])
    [(most_frequent, _)] = Counter(question.label for question in train_questions).most_common(1)
    read = [text for question in train_questions for text in (question.text, *question.choices)]
    words = _words_like([read]).fit(read)

    def features_of(some):
        choices = words.transform([choice for question in some for choice in question.choices])
        texts = words.transform([question.text for question in some for _ in question.choices])
        # the rows have length 1
        return hstack([choices, csr_matrix(choices.multiply(texts).sum(1))]).tocsr()

    is_right = [number == question.label for question in train_questions for number in range(len(question.choices))]
    judge = LogisticRegression(max_iter=1_000).fit(features_of(train_questions), is_right)
    likely = judge.predict_proba(features_of(questions))[:, 1]
    ends = np.cumsum([len(question.choices) for question in questions])
    found = np.array([part.argmax() for part in np.split(likely, ends[:-1])])
    return {
        "majority": {"accuracy": float((labels == most_frequent).mean())},
        "chance": {"accuracy": float(np.mean([1 / len(question.choices) for question in questions]))},
        "TF-IDF": {"accuracy": float((labels == found).mean())},
    }


def _words_like(columns: Sequence[Sequence[str]]):
    """A TF-IDF vectorizer of words, or of characters where most letters of `columns` are of writing without blanks."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    sample = "".join(text for column in columns for text in column[:1_000])
    by_character = len(WITHOUT_BLANKS.findall(sample)) > sum(map(str.isalpha, sample)) / 2
    options = {"analyzer": "char"} if by_character else {"token_pattern": r"(?u)\w+|[^\w\s]"}
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **options)
