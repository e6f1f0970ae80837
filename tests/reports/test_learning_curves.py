"""Learning curves: what is drawn is what was recorded."""

from matplotlib.image import imread

from hf_lineage.reports import plot_learning_curves
from hf_lineage.reports.learning_curves import learning_curves


RUNS = {
    "LSTM": {"train_curve": [(10, 5.0), (20, 4.0)], "validation_curve": [(20, 4.5, 12.0)]},
    "GPT": {"train_curve": [], "validation_curve": [[20, 4.25]]},
}


def test_each_run_has_a_line_and_dots():
    (axes,) = learning_curves(RUNS, "tokens").axes
    drawn = [line.get_xydata().tolist() for line in axes.get_lines()]
    assert drawn == [[[10, 5], [20, 4]], [[20, 4.5]], [], [[20, 4.25]]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["LSTM", "GPT"]
    assert axes.get_xlabel() == "training tokens"


def test_the_picture_is_written(tmp_path):
    plot_learning_curves(RUNS, tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").std() > 0
