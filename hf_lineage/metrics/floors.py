"""What classifiers of texts must beat: the most frequent class, and words without any pretrained vectors."""

from collections.abc import Sequence

import numpy as np

from hf_lineage.data.cjk import WITHOUT_BLANKS
from hf_lineage.metrics.classification import score_classification


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

    Each column of texts has features of its own. Labels are as `Labels.encode` gives them, and `problem_type` as in
    transformers. Needs scikit-learn and scipy (extra `finetune`).
    """
    # imported here, since they are an extra
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.multiclass import OneVsRestClassifier

    sample = "".join(text for column in train_texts for text in column[:1_000])
    by_character = len(WITHOUT_BLANKS.findall(sample)) > sum(map(str.isalpha, sample)) / 2
    options = {"analyzer": "char"} if by_character else {"token_pattern": r"(?u)\w+|[^\w\s]"}
    features, of_training = [], []
    for column, train_column in zip(texts, train_texts, strict=True):
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, **options)
        of_training.append(words.fit_transform(train_column))
        features.append(words.transform(column))
    of_training, features = hstack(of_training).tocsr(), hstack(features).tocsr()
    train_labels, labels = np.asarray(train_labels), np.asarray(labels)

    if problem_type == "regression":
        found = Ridge().fit(of_training, train_labels).predict(features)
        return {"TF-IDF": score_classification(found[:, None], labels)}
    if problem_type == "multi_label_classification":
        most = np.broadcast_to(train_labels.mean(0) - 0.5, labels.shape)
        judge = OneVsRestClassifier(LogisticRegression(max_iter=1_000)).fit(of_training, train_labels)
        found = judge.predict_proba(features) - 0.5
    else:
        # a part of the training rows may lack a class
        number = int(max(train_labels.max(), labels.max())) + 1
        most = np.broadcast_to(np.bincount(train_labels, minlength=number), (len(labels), number))
        judge = LogisticRegression(max_iter=1_000).fit(of_training, train_labels)
        found = np.zeros((len(labels), number))
        found[:, judge.classes_] = judge.predict_proba(features)
    return {"majority": score_classification(most, labels), "TF-IDF": score_classification(found, labels)}
