"""Scores of text classifiers as in GLUE: accuracy, F1 and Matthews correlation; correlations for numbers."""

import math

import numpy as np


def score_classification(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Predictions [N, classes] (or [N, 1], numbers) and labels [N], or [N, classes] of 0 and 1 -> scores by name.

    Classes: accuracy, F1 (of class 1 out of two, else the mean over the classes) and Matthews correlation.
    Several classes per row (scores above 0): the share of rows that are all right, F1 over all decisions (micro) and
    its mean over the classes (macro). Numbers: Pearson and Spearman correlation, NaN if all labels or
    all predictions are equal. Needs scikit-learn and scipy (extra `finetune`).
    """
    # imported here, since they are an extra
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    predictions, labels = np.asarray(predictions), np.asarray(labels)
    if labels.ndim == 2:
        chosen = predictions > 0
        return {
            "accuracy": float(accuracy_score(labels, chosen)),
            "micro_f1": float(f1_score(labels, chosen, average="micro", zero_division=0)),
            "macro_f1": float(f1_score(labels, chosen, average="macro", zero_division=0)),
        }
    if predictions.shape[1] == 1:
        numbers = predictions[:, 0]
        if len(numbers) < 2:
            # scipy refuses to correlate one pair
            return {"pearson": math.nan, "spearman": math.nan}
        return {
            "pearson": float(pearsonr(numbers, labels).statistic),
            "spearman": float(spearmanr(numbers, labels).statistic),
        }
    chosen = predictions.argmax(1)
    average = "binary" if predictions.shape[1] == 2 else "macro"
    return {
        "accuracy": float(accuracy_score(labels, chosen)),
        "f1": float(f1_score(labels, chosen, average=average, zero_division=0)),
        "matthews_correlation": float(matthews_corrcoef(labels, chosen)),
    }
