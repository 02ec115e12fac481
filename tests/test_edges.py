"""How boundaries are measured: thinning, one-to-one matching of maximum cardinality, and what is made of the counts."""

import functools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from processes import CONTEXT
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import maximum_bipartite_matching

from mtlkit import metrics, tasks
from mtlkit.errors import KitError
from mtlkit.metrics import edges, matching
from mtlkit.metrics.thinning import thin, thin_stack

SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
MAPS = SIZES.flatmap(lambda size: arrays(bool, size))
TWO_MAPS = SIZES.flatmap(lambda size: st.tuples(arrays(bool, size), arrays(bool, size)))
TASK = tasks.edges()


def blobs(seed, height, width, smoothness, share):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), smoothness)
    return field > np.quantile(field, 1 - share)


def measure(protocol, *batches, task=TASK):
    meter = task.metrics(protocol)
    for prediction, target in batches:
        meter.update(torch.as_tensor(prediction)[:, None].float(), torch.as_tensor(target)[:, None].float())
    return {name: value.item() for name, value in meter.compute().items()}


# --- thinning ---------------------------------------------------------------------------------------------------------


def thinned_by_the_book(binary_HW):
    """Pixel by pixel, in the words of MATLAB's documentation of bwmorph: conditions G1, G2 and G3 or G3'."""
    now = np.pad(np.asarray(binary_HW, int), 1)
    around = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]  # x1 ... x8
    while True:
        before = now.copy()
        for last in (False, True):
            gone = []
            for y, x in np.argwhere(now):
                n = [0, *(now[y + dy, x + dx] for dy, dx in around)]
                n.append(n[1])
                g1 = sum(not n[2 * i - 1] and (n[2 * i] or n[2 * i + 1]) for i in range(1, 5)) == 1
                n1 = sum(n[2 * k - 1] | n[2 * k] for k in range(1, 5))
                n2 = sum(n[2 * k] | n[2 * k + 1] for k in range(1, 5))
                g3 = (n[6] or n[7] or not n[4]) and n[5] if last else (n[2] or n[3] or not n[8]) and n[1]
                if g1 and 2 <= min(n1, n2) <= 3 and not g3:
                    gone.append((y, x))
            for place in gone:
                now[place] = 0
        if (now == before).all():
            return now[1:-1, 1:-1].astype(bool)


@settings(deadline=None, max_examples=60)
@given(MAPS)
def test_thinning_is_the_one_of_bwmorph(binary_HW):
    assert (thin(binary_HW) == thinned_by_the_book(binary_HW)).all()


@pytest.mark.parametrize("smoothness", [0.3, 1, 3])
def test_thinning_is_the_one_of_scikit_image(smoothness):
    morphology = pytest.importorskip("skimage.morphology")
    for seed, share in enumerate((0.1, 0.4, 0.7, 1.0)):
        binary_HW = blobs(seed, 60, 83, smoothness, share)
        assert (thin(binary_HW) == morphology.thin(binary_HW)).all()


def test_eight_maps_are_thinned_each_as_if_alone():
    maps = [blobs(seed, 30, 37, 1.5, 0.1 * seed + 0.1) for seed in range(8)]
    stack_HW = sum(m.astype(np.uint8) << bit for bit, m in enumerate(maps)).astype(np.uint8)
    for bit, binary_HW in enumerate(maps):
        assert (thin_stack(stack_HW) >> bit & 1 == thin(binary_HW)).all()


def test_thinning_keeps_pieces_and_holes_and_lines_are_thin_already():
    binary_HW = blobs(1, 60, 80, 2, 0.5)
    eight = np.ones((3, 3))
    assert ndimage.label(thin(binary_HW), eight)[1] == ndimage.label(binary_HW, eight)[1]
    once = thin(binary_HW)
    assert (thin(once) == once).all()
    assert thin(np.zeros((0, 4))).shape == (0, 4)


# --- matching ---------------------------------------------------------------------------------------------------------


def near(prediction_HW, truth_HW, radius):
    a, b = np.argwhere(prediction_HW), np.argwhere(truth_HW)
    return np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1)) <= radius


def most_pairs(near_NG):
    """By trying everything: each predicted pixel stays alone or takes any true one that no pixel before it took."""

    @functools.cache
    def most(n, taken):
        if n == len(near_NG):
            return 0
        open_ = (g for g in np.flatnonzero(near_NG[n]) if not taken >> int(g) & 1)
        return max([most(n + 1, taken), *(1 + most(n + 1, taken | 1 << int(g)) for g in open_)])

    return most(0, 0)


@settings(deadline=None, max_examples=150)
@given(TWO_MAPS, st.sampled_from([0, 1, 1.5, 2, 2.9, 4.3]))
def test_as_many_pairs_as_there_can_be(maps, radius):
    prediction_HW, truth_HW = maps
    pairs = matching.match(prediction_HW, truth_HW, radius)
    near_NG = near(prediction_HW, truth_HW, radius)
    assert len(pairs) == near_NG[linear_sum_assignment(near_NG, maximize=True)].sum()
    # they are pairs: of set pixels, none twice, each near enough
    width = truth_HW.shape[1]
    for column, binary_HW in zip(pairs.T, maps, strict=True):
        assert len(set(column)) == len(column) and binary_HW.ravel()[column].all()
    gap = np.hypot(*np.subtract(*(np.divmod(column, width) for column in pairs.T)))
    assert (gap <= radius).all()


@settings(deadline=None, max_examples=60)
@given(st.tuples(arrays(bool, (2, 5)), arrays(bool, (2, 5))), st.sampled_from([1, 1.5, 2]))
def test_as_many_pairs_as_by_trying_everything(maps, radius):
    assert len(matching.match(*maps, radius)) == most_pairs(near(*maps, radius))


@pytest.mark.parametrize("radius", [1, 4.3, 6.35])
def test_as_many_pairs_as_scipy_finds_among_many_lines(radius):
    prediction_HW, truth_HW = thin(blobs(1, 70, 90, 1, 0.5)), thin(blobs(2, 70, 90, 1.5, 0.4))
    for a, b in ((prediction_HW, truth_HW), (truth_HW, prediction_HW)):  # the side with fewer free pixels differs
        graph = matching.scipy.sparse.csr_array(near(a, b, radius))
        assert len(matching.match(a, b, radius)) == (maximum_bipartite_matching(graph) >= 0).sum()


def test_the_nearest_pixel_gives_way_where_that_makes_one_pair_more():
    # predicted . a b .   true . . c d: b lies on c, but alone it reaches d, so a takes c
    prediction_HW, truth_HW = np.array([[0, 1, 1, 0]]), np.array([[0, 0, 1, 1]])
    assert sorted(map(tuple, matching.match(prediction_HW, truth_HW, 1))) == [(1, 2), (2, 3)]


# --- counts -----------------------------------------------------------------------------------------------------------


def counts_by_the_book(probability_HW, truth_HW, thresholds, radius):
    true_HW = thin(truth_HW > 0)
    for threshold in thresholds:
        predicted_HW = thin(probability_HW >= threshold) & (truth_HW >= 0)
        hits = len(matching.match(predicted_HW, true_HW, radius))
        yield hits, predicted_HW.sum(), hits, true_HW.sum()


@pytest.mark.parametrize("thresholds", [edges.SEISM, (0.2, 0.25, 0.26, 0.9), (0.5,)])
@pytest.mark.parametrize("levels", [7, 1000])
def test_counts_at_every_threshold_are_those_of_its_own_map(thresholds, levels):
    field = ndimage.gaussian_filter(np.random.default_rng(levels).normal(size=(33, 47)), 2)
    probability_HW = np.round((field - field.min()) / np.ptp(field) * levels) / levels  # 0 and 1 occur
    truth_HW = blobs(3, 33, 47, 1.5, 0.3).astype(np.float32)
    truth_HW[5:12, 20:30] = -1
    found = edges.edge_counts(probability_HW, truth_HW, thresholds, 2.5 / math.hypot(33, 47))
    assert found.tolist() == [list(row) for row in counts_by_the_book(probability_HW, truth_HW, thresholds, 2.5)]
    assert found.dtype == np.int64


def test_a_thick_line_matches_each_true_pixel_once():
    truth_HW = np.zeros((20, 40))
    truth_HW[10, 5:35] = 1
    many_HW = np.zeros((20, 40))
    many_HW[8:13:2, 5:35] = 1  # three lines, all near enough
    hits, predicted, found, true = edges.edge_counts(many_HW, truth_HW, (0.5,), 3 / math.hypot(20, 40))[0]
    assert (hits, predicted, found, true) == (30, 90, 30, 30)


@pytest.mark.parametrize("shift, f", [(0, 1), (2, 1), (3, 0)])
def test_a_line_counts_within_the_distance_and_not_beyond(shift, f):
    truth_BHW = torch.zeros(1, 150, 200)  # the diagonal is 250: 0.011 of it are 2.75 pixels
    truth_BHW[0, 70] = 1
    task = tasks.edges(max_distance=0.011)
    for protocol in ("pooled", "astmt"):
        assert measure(protocol, (truth_BHW.roll(shift, 1), truth_BHW), task=task)["ods_f"] == f


def test_ignored_pixels_count_on_neither_side():
    truth_HW = np.zeros((40, 60))
    truth_HW[20, 5:55] = 1
    guess_HW = truth_HW * 0.7
    wrong_HW = guess_HW.copy()
    wrong_HW[2:9, 3:50] = 0.9
    ignoring_HW = truth_HW.copy()
    ignoring_HW[:12] = ignoring_HW[19:22, 5:15] = -1
    assert (edges.edge_counts(guess_HW, truth_HW)[0] == 50).all()
    assert edges.edge_counts(wrong_HW, truth_HW)[0, 1] > 50
    assert (edges.edge_counts(wrong_HW, ignoring_HW)[0] == 40).all()
    assert not edges.edge_counts(wrong_HW, np.full_like(truth_HW, -1)).any()


def test_what_is_not_a_number_is_not_predicted():
    guess_HW, truth_HW = np.full((8, 8), np.nan, np.float32), np.eye(8, dtype=np.float32)
    assert edges.edge_counts(guess_HW, truth_HW)[:, :3].max() == 0
    for protocol in ("pooled", "astmt"):
        assert measure(protocol, (guess_HW[None], truth_HW[None])) == {"ods_f": 0, "ois_f": 0, "ap": 0}


def test_maps_of_other_shapes_and_thresholds_out_of_order_are_refused():
    with pytest.raises(KitError, match=r"one size \(H, W\), found \(4, 4\) and \(4, 5\)"):
        edges.edge_counts(np.zeros((4, 4)), np.zeros((4, 5)))
    for thresholds in ((0.5, 0.5), (0.0, 0.5), ()):
        with pytest.raises(KitError, match="thresholds that rise"):
            edges.edge_counts(np.zeros((4, 4)), np.zeros((4, 4)), thresholds)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_of_two_images_by_hand():
    # (hits, predicted, hits, true) at two thresholds
    first = [[10, 40, 10, 20], [8, 10, 8, 20]]  # F 1/3, 8/15
    second = [[15, 20, 15, 20], [5, 5, 5, 20]]  # F 3/4, 2/5
    scores = edges.edge_scores(np.array([first, second]))
    assert scores["ods_f"] == pytest.approx(2 * 25 / (60 + 40))  # 26/55 at the other one
    assert scores["ois_f"] == pytest.approx(2 * (8 + 15) / (10 + 20 + 20 + 20))
    # precision 25/60 at recall 0.625, 13/15 at recall 0.325, a straight line between, nothing outside
    line = [13 / 15 + (25 / 60 - 13 / 15) * (r - 32.5) / 30 for r in range(33, 63)]
    assert scores["ap"] == pytest.approx(sum(line) / 100)


def test_of_one_image_both_f_are_the_same_and_of_more_the_own_threshold_need_not_be_better():
    image = edges.edge_counts(ndimage.gaussian_filter(np.eye(40), 2) * 4, np.eye(40))
    alone = edges.edge_scores(image[None])
    assert alone["ois_f"] == alone["ods_f"] > 0.5
    # the threshold that is best for the first image finds only half of what weighs most in the sum
    first, second = [[10, 30, 10, 20], [20, 90, 20, 20]], [[1, 500, 1, 500]] * 2
    scores = edges.edge_scores(np.array([first, second]))
    assert scores["ois_f"] == pytest.approx(22 / 1050) and scores["ods_f"] == pytest.approx(42 / 1110)


def test_of_equal_thresholds_the_one_counts_that_speaks_for_the_prediction():
    missed = np.array([[0, 9, 0, 4], [0, 3, 0, 4]])
    assert edges.best_counts(missed).tolist() == [0, 3, 0, 4]
    # recall 0.5 twice: precision 0.5 and 1; and nothing predicted, which is precision 0 at recall 0
    scores = edges.edge_scores(np.array([[[2, 4, 2, 4], [2, 2, 2, 4], [0, 0, 0, 4]]]))
    assert scores["ap"] == pytest.approx(sum(r / 50 for r in range(51)) / 100)


def test_without_truth_there_is_no_number_and_without_prediction_it_is_zero():
    truth_BHW = torch.eye(12)[None]
    nothing = torch.zeros_like(truth_BHW)
    for protocol in ("pooled", "astmt"):
        for batches in ([], [(truth_BHW, nothing)], [(nothing, nothing)]):
            assert all(math.isnan(value) for value in measure(protocol, *batches).values())
        assert set(measure(protocol, (nothing, truth_BHW)).values()) == {0}
        # an image without boundaries makes what is predicted there wrong
        both = measure(protocol, (truth_BHW, truth_BHW), (truth_BHW, nothing))
        assert both["ods_f"] == pytest.approx(2 * 12 / (24 + 12))


# --- accumulators -----------------------------------------------------------------------------------------------------


def some_batch(seed, images=3):
    truth = np.stack([thin(blobs(10 * seed + i, 40, 50, 2, 0.4)) for i in range(images)])
    field = ndimage.gaussian_filter(truth.astype(np.float32), (0, 1.2, 1.2)) * 2
    noise = np.random.default_rng(seed).normal(0, 0.05, field.shape)
    return np.clip(field + ndimage.gaussian_filter(noise, (0, 1, 1)), 0, 1).astype(np.float32), truth


def test_batches_and_processes_do_not_change_the_numbers():
    prediction, truth = some_batch(1, images=4)
    for protocol in ("pooled", "astmt"):
        whole, left, right = (TASK.metrics(protocol) for _ in range(3))
        for meter, part in ((whole, slice(0, 4)), (left, slice(0, 1)), (right, slice(1, 4))):
            meter.update(torch.from_numpy(prediction[part, None]), torch.from_numpy(truth[part, None]).float())
        for name in ("counts_T4", "best_4"):
            setattr(left, name, getattr(left, name) + getattr(right, name))
        assert left.compute() == whole.compute()
        assert [*whole.compute()] == [spec.name for spec in whole.specs] == [s.name for s in metrics.SPECS["edges"]]
        assert 0.3 < whole.compute()["ods_f"] < 1


def test_accumulators_count_as_the_function_does():
    prediction, truth = some_batch(2)
    pairs = zip(prediction, truth, strict=True)
    scores = edges.edge_scores([edges.edge_counts(*pair, edges.HUNDREDTHS, 0.011) for pair in pairs])
    assert measure("pooled", (prediction, truth), task=tasks.edges(max_distance=0.011)) == pytest.approx(scores)


def test_astmt_sees_whole_255ths():
    truth_BHW = torch.eye(40)[None]
    # 0.505 is cut to 128/255 = 0.502 and 0.0039 to nothing
    counts = {p: TASK.metrics(p) for p in ("pooled", "astmt")}
    for meter in counts.values():
        meter.update(torch.where(truth_BHW > 0, 0.509, 0.0039)[None], truth_BHW[None])
    assert (counts["pooled"].counts_T4[:, 1] > 0).sum() == 50 and (counts["astmt"].counts_T4[:, 1] > 0).sum() == 51
    assert (counts["astmt"].counts_T4[0] == 40).all()  # at 0.001
    exact = TASK.metrics("astmt")
    exact.update(0.4 * truth_BHW[None], truth_BHW[None])  # 102/255 is 0.4 and reaches it
    assert (exact.counts_T4[:, 1] > 0).sum() == 41


def test_counting_in_processes_gives_the_same(monkeypatch):
    batch = some_batch(3)
    pairs = list(zip(*batch, strict=True))
    alone, measured = edges.edge_counts_of(pairs, jobs=1, progress=False), measure("astmt", batch)
    monkeypatch.setattr(edges.multiprocessing, "get_context", lambda method: CONTEXT)
    with edges.counting_in(2):
        assert edges._pool is not None
        assert (edges.edge_counts_of(pairs, jobs=2, progress=False) == alone).all()
        assert measure("astmt", batch) == measured
    assert edges._pool is None
    assert edges.edge_counts_of([], progress=False).shape == (0, 101, 4)


def _count_as_a_daemon(pairs, results):
    results.put(edges.edge_counts_of(pairs, progress=False).sum())


def test_a_process_that_may_have_no_children_counts_alone():
    pairs = list(zip(*some_batch(4, images=2), strict=True))
    results = CONTEXT.Queue()
    process = CONTEXT.Process(target=_count_as_a_daemon, args=(pairs, results), daemon=True)
    process.start()
    assert results.get(timeout=60) == edges.edge_counts_of(pairs, jobs=1, progress=False).sum()
    process.join(timeout=60)
