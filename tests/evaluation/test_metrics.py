import json
import math

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics.functional.classification as reference
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fieldmark.evaluation import metrics
from fieldmark.evaluation.metrics import Score, confused_pairs, scores

NAMES = ["top1", "top5", "mean_class_accuracy", "nll", "calibration_error"]


def simulated(num_images: int, num_classes: int, seed: int, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are calibrated at sharpness 1."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((num_images, num_classes))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (shares.cumsum(1) > rng.random((num_images, 1)) * shares.sum(1, keepdims=True)).argmax(1)
    return (sharpness * logits).astype(np.float32), labels


def values(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {name: score.value for name, score in scores(logits, labels, replicates=1).items()}


def softmax(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).double().softmax(1).numpy()


class TestValues:
    @pytest.mark.parametrize(("num_images", "num_classes"), [(500, 10), (200, 40), (300, 2)])
    def test_against_sklearn_and_torchmetrics(self, num_images: int, num_classes: int) -> None:
        logits, labels = simulated(num_images, num_classes, seed=1)
        got = values(logits, labels)
        classes = np.arange(num_classes)
        top = min(5, num_classes)
        assert list(got) == NAMES
        assert got["top1"] == pytest.approx(sklearn.metrics.accuracy_score(labels, logits.argmax(1)))
        assert got["mean_class_accuracy"] == pytest.approx(
            sklearn.metrics.balanced_accuracy_score(labels, logits.argmax(1))
        )
        assert got["nll"] == pytest.approx(sklearn.metrics.log_loss(labels, softmax(logits), labels=classes))
        tensors = torch.from_numpy(logits), torch.from_numpy(labels)
        expected = reference.multiclass_accuracy(*tensors, num_classes, average="micro", top_k=top)
        assert got["top5"] == pytest.approx(float(expected), abs=1e-6)

    def test_calibration_error_against_torchmetrics(self) -> None:
        """With confidences spread evenly over [0, 1], bins of equal mass are bins of equal width."""
        num_images, num_classes = 150, 400
        rng = np.random.default_rng(0)
        confidence = rng.permutation((np.arange(num_images) + 0.5) / num_images)
        shares = np.repeat((1 - confidence)[:, None] / (num_classes - 1), num_classes, axis=1)
        top = rng.integers(num_classes, size=num_images)
        shares[np.arange(num_images), top] = confidence
        labels = np.where(rng.random(num_images) < 0.6, top, (top + 1) % num_classes)
        expected = reference.multiclass_calibration_error(
            torch.from_numpy(shares), torch.from_numpy(labels), num_classes, n_bins=15, norm="l1"
        )
        assert values(np.log(shares), labels)["calibration_error"] == pytest.approx(float(expected), abs=1e-6)

    @settings(max_examples=60, deadline=None)
    @given(
        num_images=st.integers(1, 200), num_classes=st.integers(1, 7), seed=st.integers(0, 10**6), ties=st.booleans()
    )
    def test_brute_force(self, num_images: int, num_classes: int, seed: int, ties: bool) -> None:
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(num_images, num_classes)).round(0 if ties else 9)
        labels = rng.integers(num_classes, size=num_images)
        shares = softmax(logits)
        order = np.argsort(-logits, axis=1, kind="stable")
        right = order[:, 0] == labels
        groups: dict[int, list[int]] = {}
        confidence = shares.max(1).round(12)
        num_bins = 1 if num_images < 20 else 15 if num_images >= 150 else num_images // 10
        for image in range(num_images):
            groups.setdefault(int((confidence < confidence[image]).sum()) * num_bins // num_images, []).append(image)
        expected = {
            "top1": float(right.mean()),
            "top5": float(np.mean([label in row[:5] for label, row in zip(labels, order, strict=True)])),
            "mean_class_accuracy": float(np.mean([right[labels == label].mean() for label in set(labels.tolist())])),
            "nll": float(np.mean([-math.log(row[label]) for label, row in zip(labels, shares, strict=True)])),
            "calibration_error": sum(
                len(group) / num_images * abs(float(right[group].mean() - shares.max(1)[group].mean()))
                for group in groups.values()
            ),
        }
        assert values(logits, labels) == pytest.approx(expected, abs=1e-9)

    def test_equal_logits_count_as_argmax_has_it(self) -> None:
        got = values(np.zeros((4, 8)), np.array([0, 4, 5, 7]))
        assert got["top1"] == 0.25
        assert got["top5"] == 0.5
        assert got["calibration_error"] == pytest.approx(0.25 - 1 / 8)  # one bin

    def test_enormous_logits_do_not_overflow(self) -> None:
        got = values(np.array([[1e4, -1e4], [1e4, -1e4]], dtype=np.float32), np.array([0, 1]))
        assert got["nll"] == pytest.approx(1e4)

    def test_half_precision(self) -> None:
        logits, labels = simulated(200, 12, seed=3)
        half = logits.astype(np.float16)
        assert values(half, labels) == pytest.approx(values(half.astype(np.float64), labels))


class TestIntervals:
    @settings(max_examples=30, deadline=None)
    @given(
        num_images=st.integers(1, 60),
        num_classes=st.integers(1, 8),
        seed=st.integers(0, 10**6),
        sharpness=st.sampled_from([0.2, 1.0, 5.0]),
    )
    @example(num_images=2, num_classes=3, seed=1, sharpness=5.0)  # one sure and wrong, one sure and right
    def test_contains_the_value(self, num_images: int, num_classes: int, seed: int, sharpness: float) -> None:
        for name, score in scores(*simulated(num_images, num_classes, seed, sharpness), replicates=50).items():
            assert 0 <= score.low <= score.value <= score.high, name
            assert name == "nll" or score.high <= 1

    def test_is_a_function_of_the_seed(self) -> None:
        data = simulated(300, 6, seed=0)
        assert scores(*data) == scores(*data)
        assert scores(*data)["nll"].low != scores(*data, seed=1)["nll"].low
        assert scores(*data, seed=1)["nll"].value == scores(*data)["nll"].value

    def test_of_a_mean_is_the_normal_one_where_that_holds(self) -> None:
        logits, labels = simulated(2000, 10, seed=4)
        nll = -np.log(softmax(logits))[np.arange(2000), labels]
        half_width = 1.96 * nll.std() / math.sqrt(2000)
        score = scores(logits, labels, replicates=2000)["nll"]
        assert (score.low, score.high) == pytest.approx((nll.mean() - half_width, nll.mean() + half_width), abs=0.005)

    @pytest.mark.parametrize("sharpness", [1.0, 2.0])
    def test_covers_the_truth_about_95_times_of_100(self, sharpness: float) -> None:
        truth = values(*simulated(100_000, 6, seed=0, sharpness=sharpness))
        # the calibration error is biased upwards, so its interval is one of what 300 images show on average
        shown = [
            values(*simulated(300, 6, seed=seed, sharpness=sharpness))["calibration_error"] for seed in range(500, 700)
        ]
        truth["calibration_error"] = float(np.mean(shown))
        hits = dict.fromkeys(NAMES, 0)
        for seed in range(1, 151):
            for name, score in scores(*simulated(300, 6, seed, sharpness), seed=seed, replicates=300).items():
                hits[name] += score.low <= truth[name] <= score.high
        assert all(0.89 <= count / 150 <= 1 for count in hits.values()), hits

    def test_all_right_is_no_certainty(self) -> None:
        labels = np.arange(20) % 4
        score = scores(10 * np.eye(4)[labels], labels)
        for name in ("top1", "top5", "mean_class_accuracy"):
            assert (score[name].value, score[name].high) == (1, 1)
            assert score[name].low == pytest.approx(20 / (20 + 1.96**2), abs=1e-4)  # Wilson's bound

    def test_bursts_are_no_independent_witnesses(self) -> None:
        """25 bursts of 8 frames that are right or wrong together: only intervals over bursts hold the truth."""
        burst = np.repeat(np.arange(25), 8)
        inside = {"images": 0, "bursts": 0}
        for seed in range(100):
            wrong = np.random.default_rng(seed).random(25) < 0.3  # 70 % are of class 0, as is told
            labels = wrong.astype(int)[burst]
            logits = np.tile([2.0, 0.0], (len(burst), 1))
            for name, units in {"images": None, "bursts": burst}.items():
                score = scores(logits, labels, units, seed=seed, replicates=200)["top1"]
                inside[name] += score.low <= 0.7 <= score.high
        assert inside["bursts"] >= 90
        assert inside["images"] < 75

    def test_units_of_one_image_each_change_nothing(self) -> None:
        logits, labels = simulated(60, 3, seed=0)
        numbers = np.random.default_rng(0).permutation(1000)[:60]
        assert scores(logits, labels, numbers, replicates=50) == scores(logits, labels, replicates=50)

    def test_wilson_against_scipy(self) -> None:
        import scipy.stats

        for right in (0, 1, 17, 40):
            expected = scipy.stats.binomtest(right, 40).proportion_ci(method="wilson")
            low, high = metrics.wilson_interval(np.array([right / 40]), 40)
            assert (float(low[0]), float(high[0])) == pytest.approx((expected.low, expected.high), abs=1e-6)

    def test_class_absent_and_single_image(self) -> None:
        one = scores(np.array([[0.0, 3.0, 1.0]]), np.array([1]))
        assert one["mean_class_accuracy"].value == one["top1"].value == 1
        assert one["top1"].low < 0.3
        assert all(math.isfinite(number) for score in one.values() for number in score.as_dict().values())

    def test_fewer_classes_than_five(self) -> None:
        assert scores(*simulated(50, 3, seed=0))["top5"].value == 1


class TestBadInput:
    def test_not_a_number(self) -> None:
        with pytest.raises(AssertionError, match="not finite"):
            scores(np.array([[0.0, np.nan]]), np.array([0]))

    @pytest.mark.parametrize(
        ("logits", "labels"),
        [
            (np.zeros((0, 3)), np.zeros(0, dtype=int)),
            (np.zeros((2, 3)), np.array([0])),
            (np.zeros((1, 3)), np.array([3])),
            (np.zeros((1, 3)), np.array([-1])),
            (np.zeros(3), np.array([1])),
        ],
    )
    def test_shapes(self, logits: np.ndarray, labels: np.ndarray) -> None:
        with pytest.raises(AssertionError):
            scores(logits, labels)


class TestScore:
    def test_reads_well(self) -> None:
        assert str(Score(0.842, 0.821, 0.86)) == "84.2 % (82.1–86.0)"
        assert repr(Score(0.842, 0.821, 0.86)) == "Score(84.2 % (82.1–86.0))"
        assert str(Score(1.2344, 1.2, 1.3, percent=False)) == "1.234 (1.200–1.300)"
        assert "%" not in str(scores(*simulated(30, 3, seed=0))["nll"])

    def test_is_json(self) -> None:
        score = scores(*simulated(30, 3, seed=0))["top1"]
        assert Score(**json.loads(json.dumps(score.as_dict()))) == score
        assert list(score.as_dict()) == ["value", "low", "high"]


class TestConfusedPairs:
    CLASSES = ("crow", "raven", "rook", "wren")

    def logits(self, taken: list[int]) -> np.ndarray:
        return np.eye(4)[taken]

    def test_counts_both_ways(self) -> None:
        labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
        taken = [1, 1, 0, 0, 1, 1, 2, 2, 3]
        pairs = confused_pairs(self.logits(taken), labels, self.CLASSES)
        assert [(pair.first, pair.second) for pair in pairs] == [("crow", "raven"), ("raven", "rook")]
        assert (pairs[0].first_as_second, pairs[0].second_as_first) == (2, 1)
        assert (pairs[0].num_first, pairs[0].num_second) == (3, 2)
        assert (pairs[0].mistakes, pairs[0].share) == (3, 0.6)
        assert (pairs[1].first_as_second, pairs[1].second_as_first) == (0, 1)

    def test_equal_counts_are_sorted_by_share(self) -> None:
        labels = np.array([0, 0, 0, 1, 2, 3])
        pairs = confused_pairs(self.logits([1, 0, 0, 1, 3, 3]), labels, self.CLASSES)
        assert [(pair.first, pair.second) for pair in pairs] == [("rook", "wren"), ("crow", "raven")]

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10**6), st.integers(1, 60))
    def test_against_the_confusion_matrix(self, seed: int, num_images: int) -> None:
        rng = np.random.default_rng(seed)
        labels, taken = rng.integers(4, size=(2, num_images))
        matrix = sklearn.metrics.confusion_matrix(labels, taken, labels=range(4))
        pairs = confused_pairs(self.logits(list(taken)), labels, self.CLASSES, most=100)
        for pair in pairs:
            a, b = self.CLASSES.index(pair.first), self.CLASSES.index(pair.second)
            assert a < b
            assert (pair.first_as_second, pair.second_as_first) == (matrix[a, b], matrix[b, a])
            assert (pair.num_first, pair.num_second) == (matrix[a].sum(), matrix[b].sum())
        assert sum(pair.mistakes for pair in pairs) == matrix.sum() - matrix.trace()
        counts = [pair.mistakes for pair in pairs]
        assert counts == sorted(counts, reverse=True)

    def test_most_and_none(self) -> None:
        labels = np.array([0, 1, 2, 3])
        assert len(confused_pairs(self.logits([1, 2, 3, 0]), labels, self.CLASSES, most=2)) == 2
        assert confused_pairs(self.logits([0, 1, 2, 3]), labels, self.CLASSES) == []


def test_a_likelihood_of_no_image_is_no_number() -> None:
    found = scores(np.eye(3), np.arange(3), learnt=np.zeros(3, bool))["nll"]
    assert np.isnan([found.value, found.low, found.high]).all()
