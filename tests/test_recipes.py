"""Recipes: what is accepted, what is refused and in which words, what a sweep expands to, what an id depends on."""

import pytest

from mtlkit import recipes, training
from mtlkit.datasets import DATASETS
from mtlkit.errors import KitError


@pytest.fixture
def tiny():
    return recipes.load("rooms-tiny")


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_of_the_kit_is_valid_and_says_what_it_is_for(name):
    runs = recipes.expand(name)
    assert runs and all(run.about for run in runs)


def test_a_recipe_survives_its_own_toml(tiny, tmp_path):
    path = tmp_path / "again.toml"
    path.write_text(tiny.toml())
    assert recipes.load(str(path)) == tiny


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epoch=3", "unknown key 'epoch': did you mean 'epochs'"),
        ("optimiser.lrr=0.1", "unknown key 'optimiser.lrr': did you mean 'lr'"),
        ("epochs=three", "epochs = 'three': input should be a valid integer"),
        ("epochs=0", "epochs = 0: input should be greater than 0"),
        ("epochs=1.5", "epochs = 1.5"),
        ('seed="1"', "seed = '1'"),
        ("optimiser.lr=-1", "optimiser.lr = -1"),
        ("tasks=depth", "tasks = 'depth': input should be a valid list"),
        ("tasks=[]", "tasks = []"),
        ("protocols=['poled']", "protocols.0 = 'poled'"),
        ("weighting.name=dwaa", "unknown weighting 'dwaa': did you mean 'dwa'"),
        ("weighting.temprature=1.0", "unknown option 'temprature' for weighting 'dwa': did you mean 'temperature'"),
        ("weighting.temperature=warm", "option 'temperature' of weighting 'dwa' should be float, found 'warm'"),
        ("architecture.name=splitt", "unknown architecture 'splitt': did you mean 'split'"),
        ("architecture.widht=0.5", "did you mean 'width'"),
        ("dataset.name=scene", "unknown dataset 'scene': did you mean 'scenes'"),
        ("dataset.hight=64", "did you mean 'height'"),
        ("dataset.height=tall", "should be int, found 'tall'"),
        ("augmentation.name=flipp", "did you mean 'flip'"),
        ("name=../escape", "name = '../escape'"),
        ("precision=16", "precision = 16"),
        ("optimiser.nesterov=true", "nesterov needs a momentum above 0"),
        ("seed", "an override is key=value, found 'seed'"),
        ("epochs.more=1", "'epochs' is a value, not a table"),
    ],
)
def test_bad_input_is_refused_in_one_line_with_the_nearest_name(override, words):
    with pytest.raises(KitError) as caught:
        recipes.load("rooms-tiny", recipes.parse_overrides([override]))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(KitError, match="did you mean 'rooms-tiny'"):
        recipes.load("rooms-tny")


def test_a_file_that_is_not_toml_is_named(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text("epochs = = 3")
    with pytest.raises(KitError, match="bad.toml is not TOML"):
        recipes.load(str(path))


def test_naming_another_weighting_drops_the_options_of_the_old_one():
    table = recipes.read("rooms-tiny")
    table["weighting"]["temperature"] = 5.0
    changed = recipes._overridden(table, {"weighting.name": "uncertainty", "weighting.form": "mtan"})
    assert changed["weighting"] == {"name": "uncertainty", "form": "mtan"}


# --- the id ---


def test_a_default_written_out_is_the_same_run(tiny):
    written = recipes.load("rooms-tiny", {"weighting.temperature": 2.0, "schedule.name": "constant"})
    assert written.identity("data") == tiny.identity("data")


@pytest.mark.parametrize("change", [{"seed": 1}, {"weighting.temperature": 1.0}, {"epochs": 5}, {"dataset.seed": 1}])
def test_what_decides_the_numbers_decides_the_id(tiny, change):
    assert recipes.load("rooms-tiny", change).identity("data") != tiny.identity("data")


def test_the_id_depends_on_the_data_and_not_on_where_they_lie(tiny):
    assert tiny.identity("data") != tiny.identity("other data")
    moved = recipes.load("rooms-tiny", {"dataset.root": "elsewhere"})
    assert moved.identity("data") == tiny.identity("data")


# --- sweeps ---


def test_the_main_job_is_three_baselines_three_weightings_and_mtan():
    runs = recipes.expand("rooms-reproduce")
    seeds = {run.seed for run in runs}
    described = [(r.architecture.name, r.weighting.name, tuple(r.tasks)) for r in runs if r.seed == min(seeds)]
    everything = ("semantic", "depth", "normals")
    assert described == [
        ("mtan", "equal", everything),
        ("single", "equal", ("semantic",)),
        ("single", "equal", ("depth",)),
        ("single", "equal", ("normals",)),
        ("split", "equal", everything),
        ("split", "uncertainty", everything),
        ("split", "dwa", everything),
    ]
    assert len(runs) == 7 * len(seeds)


def test_a_sweep_is_no_single_run():
    with pytest.raises(KitError, match="type: mtlkit sweep rooms-reproduce"):
        recipes.load("rooms-reproduce")


def test_a_point_that_comes_twice_is_run_once(tmp_path):
    path = tmp_path / "twice.toml"
    table = "[sweep]\nseed = [0, 0, 1]\n[[sweep.variants]]\nepochs = [1]\n[[sweep.variants]]\nepochs = [1, 2]\n"
    path.write_text(recipes.load("rooms-tiny").toml() + table)
    assert sorted((r.seed, r.epochs) for r in recipes.expand(str(path))) == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_a_sweep_axis_is_a_list(tmp_path):
    path = tmp_path / "axis.toml"
    path.write_text(recipes.load("rooms-tiny").toml() + "[sweep]\nseed = 3\n")
    with pytest.raises(KitError, match="sweep axis 'seed' is a list of values, found 3"):
        recipes.expand(str(path))


# --- recipes from recipes ---


@pytest.fixture
def write(tmp_path):
    def to(name, text):
        (tmp_path / f"{name}.toml").write_text(text)
        return str(tmp_path / f"{name}.toml")

    return to


def test_a_recipe_says_only_what_differs(write):
    path = write("other", 'extends = "rooms-tiny"\nepochs = 9\n[dataset]\ntrain = 12\n')
    ours, base = recipes.load(path), recipes.load("rooms-tiny")
    assert ours.name == "other" and ours.epochs == 9 and ours.dataset.options == base.dataset.options | {"train": 12}
    assert ours.weighting == base.weighting and ours.about == ""


def test_naming_another_entry_drops_the_options_of_the_first(write):
    path = write("other", 'extends = "rooms-tiny"\n[dataset]\nname = "nyuv2"\n')
    assert recipes.load(path).dataset.options == {}


def test_a_sweep_is_inherited_and_an_empty_one_ends_it(write):
    assert len(recipes.expand(write("same", 'extends = "rooms-reproduce"\n'))) == len(recipes.expand("rooms-reproduce"))
    assert recipes.load(write("one", 'extends = "rooms-reproduce"\n[sweep]\n')).seed == 0


def test_a_file_extends_its_neighbour_wherever_one_stands(write):
    write("base", recipes.load("rooms-tiny", {"epochs": 7}).toml())
    assert recipes.load(write("other", 'extends = "base.toml"\nbatch = 3\n')).epochs == 7


def test_a_file_may_be_called_as_the_recipe_it_extends(write):
    assert recipes.load(write("rooms-tiny", 'extends = "rooms-tiny"\nepochs = 9\n')).epochs == 9


def test_a_misspelt_extends_is_recognised(write):
    with pytest.raises(KitError, match="unknown key 'extend': did you mean 'extends'"):
        recipes.load(write("other", recipes.load("rooms-tiny").toml().replace("name = ", 'extend = "x"\nname = ', 1)))


def test_a_recipe_cannot_extend_itself(write):
    path = write("snake", "")
    write("snake", f'extends = "{path}"\n')
    with pytest.raises(KitError, match="extends itself"):
        recipes.load(path)


# --- the sweeps of MTAN ---


# network and what sets it apart: those of the paper's tables, and what else is swept
_PAPER = (("split", "wide"), ("split", "deep"), ("dense", ""), ("cross_stitch", "sum"), ("mtan", ""))
_BASELINES = (("split", ""), ("cross_stitch", "channel"))


def _together(runs):
    """Network, what sets it apart, and weighting of every run with several tasks."""
    several = [(r.architecture.name, r.architecture.options, r.weighting.name) for r in runs if len(r.tasks) > 1]
    return {(name, options.get("preset", options.get("unit", "")), weighting) for name, options, weighting in several}


def test_mtan_nyuv2_is_the_released_protocol():
    runs = recipes.expand("mtan-nyuv2")
    for run in runs:
        assert (run.optimiser.name, run.optimiser.lr, run.optimiser.weight_decay) == ("adam", 1e-4, 0.0)
        assert (run.schedule.name, run.schedule.every, run.schedule.factor) == ("step", 100, 0.5)
        assert (run.epochs, run.batch, run.average_last, run.normalise) == (200, 2, 10, "none")
        assert run.augmentation.name == "none" and "mtan-legacy" in run.protocols
    networks = {(r.architecture.name, r.architecture.options.get("backbone", "segnet"), len(r.tasks)) for r in runs}
    kinds = (("single", 1), ("mtan", 1), ("split", 3), ("mtan", 3))
    baselines = {("dense", "segnet", 3), ("cross_stitch", "segnet", 3)}
    assert networks == baselines | {(n, b, count) for b in ("segnet", "resnet50-deeplabv3") for n, count in kinds}
    assert _together(runs) == {(*n, w) for n in _BASELINES + _PAPER for w in ("equal", "uncertainty", "dwa")}
    assert {run.seed for run in runs} == {0, 1, 2} and len(runs) == 117


def test_mtan_cityscapes_is_the_same_protocol_with_the_papers_batch():
    runs, model = recipes.expand("mtan-cityscapes"), recipes.expand("mtan-nyuv2")[0]
    changed = {"name", "about", "dataset", "tasks", "architecture", "weighting", "batch", "seed"}
    for run in runs:
        assert run.model_dump(exclude=changed) == model.model_dump(exclude=changed)
        assert run.batch == 8 and run.dataset.options == {"classes": 7, "height": 128, "width": 256}
        assert "backbone" not in run.architecture.options
    assert {(r.architecture.name, *r.tasks) for r in runs if len(r.tasks) == 1} == {
        (name, task) for name in ("single", "mtan") for task in ("semantic", "disparity")
    }
    assert _together(runs) == {(*n, w) for n in _BASELINES + _PAPER for w in ("equal", "uncertainty", "dwa")}
    assert {run.seed for run in runs} == {0, 1, 2} and len(runs) == 75


def test_the_twin_on_streets_differs_in_the_dataset_and_in_metres_for_disparity():
    for real, twin in zip(recipes.expand("mtan-cityscapes"), recipes.expand("mtan-streets"), strict=True):
        assert twin.dataset.options == {"family": "streets", "height": 128, "width": 256, "train": 2975, "test": 500}
        assert [task.replace("disparity", "depth") for task in real.tasks] == twin.tasks
        changed = {"name", "about", "dataset", "tasks"}
        assert real.model_dump(exclude=changed) == twin.model_dump(exclude=changed)


def test_the_tiny_streets_train_on_a_sample_of_cityscapes_as_their_comment_says(tmp_path):
    words = [
        "dataset.name=cityscapes",
        f"dataset.root={tmp_path}",
        "dataset.height=128",
        "dataset.width=256",
        'tasks=["semantic", "disparity"]',
    ]
    DATASETS["cityscapes"].write_sample(tmp_path, 2)
    recipe = recipes.load("mtan-cityscapes-tiny", recipes.parse_overrides(words))
    train, test = training.load_data(recipe)
    assert [task.name for task in training.check(recipe, train)] == ["semantic", "disparity"]
    assert (len(train), len(test), train.size) == (2, 1, (128, 256))


def test_the_twin_on_rooms_differs_in_the_dataset_alone():
    for real, twin in zip(recipes.expand("mtan-nyuv2"), recipes.expand("mtan-nyuv2-rooms"), strict=True):
        assert real.dataset.name == "nyuv2"
        assert twin.dataset.options == {"family": "rooms", "height": 288, "width": 384, "train": 795, "test": 654}
        changed = {"name", "about", "dataset"}
        assert real.model_dump(exclude=changed) == twin.model_dump(exclude=changed)


def test_one_network_of_a_sweep_is_named_whatever_options_the_others_have():
    runs = recipes.expand("mtan-nyuv2", {"architecture.name": "split", "weighting.name": "equal", "seed": 0})
    together = [r.architecture.options for r in runs if len(r.tasks) == 3]
    assert together == [{}, {"preset": "wide"}, {"preset": "deep"}, {"backbone": "resnet50-deeplabv3"}]


def test_the_sweep_can_choose_on_validation():
    chosen = {"dataset.holdout": True, "evaluate_on": "validation", "average_last": 1, "select": "loss"}
    assert len(recipes.expand("mtan-nyuv2", chosen)) == 117


def test_a_root_is_kept_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = recipes.load("mtan-nyuv2-tiny", {"dataset.name": "nyuv2", "dataset.root": "sample"})
    assert recipe.dataset.options["root"] == str(tmp_path / "sample")


def test_one_word_changes_the_data():
    tiny = recipes.load("mtan-nyuv2-tiny", {"dataset.name": "nyuv2"})
    assert tiny.dataset.name == "nyuv2" and tiny.dataset.options == {} and tiny.keep_every == 1
