"""Recipes: what is accepted, what is refused and in which words, what a sweep expands to, what an id depends on."""

import pytest

from mtlkit import recipes
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


def test_the_main_job_is_three_baselines_and_three_weightings():
    runs = recipes.expand("rooms-reproduce")
    seeds = {run.seed for run in runs}
    described = [(r.architecture.name, r.weighting.name, tuple(r.tasks)) for r in runs if r.seed == min(seeds)]
    everything = ("semantic", "depth", "normals")
    assert described == [
        ("single", "equal", ("semantic",)),
        ("single", "equal", ("depth",)),
        ("single", "equal", ("normals",)),
        ("split", "equal", everything),
        ("split", "uncertainty", everything),
        ("split", "dwa", everything),
    ]
    assert len(runs) == 6 * len(seeds)


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
