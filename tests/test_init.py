"""What a network starts from: trained single-task nets and ImageNet; what is refused, reported and kept."""

import functools
import json
import shutil
from urllib.error import URLError

import pytest
import torch
import torchvision
from typer.testing import CliRunner

from mtlkit import architectures, batch, cli, initialisation, recipes, report, tasks, training
from mtlkit.errors import KitError
from mtlkit.runs import Run

SMALL = {
    "name": "tiny",
    "tasks": ["semantic", "depth"],
    "architecture.name": "cross_stitch",
    "architecture.width": 0.05,
    "dataset.train": 4,
    "dataset.test": 2,
    "batch": 2,
    "epochs": 1,
    "protocols": ["pooled"],
}
RESNET = {"architecture.backbone": "resnet50-deeplabv3plus"}
AFA = {"architecture.name": "afa"} | RESNET
SINGLES = {"init_from": ["single"]}


def recipe(**changes):
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    return recipes.load("rooms-tiny", SMALL | changes)


@functools.cache
def data():
    """The fingerprint; all recipes here are on the same images."""
    return training.fingerprint(*training.load_data(recipe()))


def train(recipe, root):
    run = Run.create(recipe, data(), root=root)
    return training.fit(recipe, run, device="cpu", progress=False)


def started(recipe, root):
    """The session of a run that stands before its first step."""
    run = Run.create(recipe, data(), root=root)
    session = training.Session(recipe, "cpu", 0, 300.0)
    session.resume(run)
    return session, run


def trunk(state, task):
    prefix = f"trunks.{task}."
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.fixture(scope="module")
def singles(tmp_path_factory):
    """A folder of runs with the single-task nets of the recipe, trained; and these by task."""
    root = tmp_path_factory.mktemp("singles")
    return root, {single.tasks[0]: train(single, root) for single in recipe(**SINGLES).singles()}


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """The same of a ResNet."""
    root = tmp_path_factory.mktemp("deep")
    return root, {single.tasks[0]: train(single, root) for single in recipe(**SINGLES, **AFA).singles()}


@pytest.fixture
def root(singles, tmp_path):
    """A copy of it, to spoil."""
    shutil.copytree(singles[0], tmp_path / "copy")
    return tmp_path / "copy"


# --- what is loaded ---


@pytest.mark.parametrize(
    ("nets", "network"),
    [("singles", {}), ("singles", {"architecture.name": "nddr"}), ("deep", AFA)],
    ids=["cross_stitch", "nddr", "afa"],
)
def test_trunks_are_those_of_the_sources_and_the_rest_is_of_the_seed(nets, network, request):
    root, sources = request.getfixturevalue(nets)
    multipliers = {"optimiser.multipliers": {"exchange": 100.0}}
    session, _ = started(recipe(weighting__name="dwa", **SINGLES, **multipliers, **network), root)
    fresh = training.Session(recipe(**network), "cpu", 0, 300.0).model
    for task, source in sources.items():
        trained = source.load()["model"]
        assert equal(session.model.trunks[task].state_dict(), trunk(trained, task))
        heads = {key.removeprefix(f"heads.{task}."): t for key, t in trained.items() if key.startswith("heads.")}
        assert not equal(session.model.heads[task].state_dict(), heads)
    assert equal(session.model.heads.state_dict(), fresh.heads.state_dict())
    assert equal(session.model.exchange.state_dict(), fresh.exchange.state_dict()) and len(fresh.exchange)


def test_the_loaded_parameters_are_what_the_optimiser_moves(singles):
    session, run = started(recipe(**SINGLES), singles[0])
    held = {id(parameter) for group in session.optimizer.param_groups for parameter in group["params"]}
    assert {id(parameter) for parameter in session.model.trunks.parameters()} <= held


def test_it_is_said_once_what_was_loaded_and_kept_in_the_result(singles, root, capsys):
    run = train(recipe(**SINGLES), root)
    said = [line for line in capsys.readouterr().out.splitlines() if line]
    assert run.result["initialised"] == said and len(said) == 3
    for line, (task, source) in zip(said, singles[1].items(), strict=False):
        count = len(trunk(source.load()["model"], task))
        assert f"tiny/{source.folder.name}" in line and "checkpoint.pt" in line
        assert f"{count} tensors, trunk of {task}; not loaded: heads.{task}" in line
    model = run.model()
    heads, exchange = (sum(p.numel() for p in part.parameters()) for part in (model.heads, model.exchange))
    assert said[2] == f"fresh: heads ({heads:,} parameters), exchange ({exchange:,} parameters)"
    assert singles[1]["depth"].result["initialised"] == []


def test_a_run_that_goes_on_does_not_load_again(root, capsys):
    chosen = recipe(**SINGLES)
    session, run = started(chosen, root)
    with torch.no_grad():
        session.model.trunks["depth"].encoder[0].entry.conv.weight.add_(1.0)
    session.save(run)
    capsys.readouterr()
    for source in chosen.sources(data(), run.folder.parent):
        shutil.rmtree(source)
    again, _ = started(chosen, root)
    assert equal(again.model.state_dict(), session.model.state_dict())
    assert again.initialised == session.initialised and len(again.initialised) == 3
    assert capsys.readouterr().out == ""


def test_a_checkpoint_from_before_goes_on(root):
    chosen = recipe()
    session, run = started(chosen, root)
    session.save(run)
    state = run.load()
    del state["initialised"]
    torch.save(state, run.folder / "checkpoint.pt")
    assert started(chosen, root)[0].initialised == []


def test_a_source_that_selects_gives_its_best_epoch(tmp_path):
    chosen = recipe(select="loss", **SINGLES)
    for single in chosen.singles():
        run = train(single, tmp_path)
        best = run.load("best")
        best["model"] = {key: tensor + 1 for key, tensor in best["model"].items()}
        torch.save(best, run.folder / "best.pt")
    session, _ = started(chosen, tmp_path)
    for single in chosen.singles():
        task = single.tasks[0]
        best = Run.of(single, data(), tmp_path).load("best")["model"]
        assert equal(session.model.trunks[task].state_dict(), trunk(best, task))
    assert all("best.pt" in line for line in session.initialised[:2])


def test_one_run_of_several_tasks_gives_several_trunks(tmp_path):
    pair = train(recipe(architecture__name="single"), tmp_path)
    session, _ = started(recipe(init_from=[str(pair.folder)]), tmp_path)
    state = pair.load()["model"]
    for task in ("semantic", "depth"):
        assert equal(session.model.trunks[task].state_dict(), trunk(state, task))
    assert len(session.initialised) == 2
    assert "trunk of semantic, depth; not loaded: heads.semantic, heads.depth" in session.initialised[0]


def test_projections_in_common_are_those_of_the_last_task_and_it_says_so(deep):
    root, sources = deep
    session, _ = started(recipe(architecture__shared_downsample=True, **SINGLES, **RESNET), root)
    assert equal(session.model.trunks["depth"].state_dict(), trunk(sources["depth"].load()["model"], "depth"))
    projections = [key for key in session.model.trunks["depth"].state_dict() if "downsample" in key]
    assert f"{len(projections)} tensors are the same in all trunks: those of depth stand" in session.initialised
    first, theirs = (
        session.model.trunks["semantic"].state_dict(),
        trunk(sources["semantic"].load()["model"], "semantic"),
    )
    other = {key for key in first if not torch.equal(first[key], theirs[key])}
    assert other and other <= set(projections)


# --- what is refused ---


def judged(changes, root):
    chosen = recipe(**changes)
    splits = training.load_data(chosen)
    training.check(chosen, splits[0])
    initialisation.match(chosen, data(), root / "tiny", "mtlkit sweep tiny")


def test_what_cannot_be_started_from_is_refused_in_one_line(singles, root):
    depth, semantic = (str(singles[1][task].folder) for task in ("depth", "semantic"))
    split = str(train(recipe(architecture__name="split"), root).folder)
    unfinished = Run.create(recipe(architecture__name="single", seed=9), "data", root=root)
    cases = [
        ({"architecture.name": "split", "init_from": ["single"]}, "and 'split' has none such"),
        ({"architecture.name": "single", "init_from": ["single"]}, "and 'single' has none such"),
        ({"init_from": [depth]}, "task 'semantic' of cross_stitch .* has no source among"),
        ({"init_from": [depth, semantic, depth]}, "task 'depth' of .* has two sources"),
        ({"tasks": ["semantic", "normals"], "init_from": [depth]}, r"has the tasks \['depth'\], and .* none of them"),
        ({"init_from": [split]}, "of architecture 'single', found 'split'"),
        ({"architecture.width": 0.1, "init_from": [depth]}, f"has width 0.1, its source {depth} has 0.05"),
        ({**AFA, "init_from": [depth]}, "backbone 'resnet50-deeplabv3plus', its source .* has 'segnet'"),
        ({"init_from": [str(unfinished.folder)]}, f"is 'new'; type: mtlkit run {unfinished.folder}/recipe.toml"),
        ({"init_from": [str(root / "0123456789ab")]}, "0123456789ab is no run folder"),
        ({"init_from": ["singel"]}, 'a run folder ends in an id .* found .*singel\'; or type "single"'),
        ({"init_from": ["single", depth]}, '"single" means one net for each task, and stands alone'),
        ({"seed": 5, "init_from": ["single"]}, "nets of semantic, depth, not yet trained; type: mtlkit sweep tiny"),
    ]
    for changes, words in cases:
        with pytest.raises(KitError, match=words) as caught:
            judged(changes, root)
        assert "\n" not in str(caught.value)


def test_a_source_of_another_shape_is_named_with_both(root):
    chosen = recipe(**SINGLES)
    source = Run.of(chosen.singles()[1], data(), root)
    state = source.load()
    state["model"]["trunks.depth.encoder.0.entry.conv.weight"] = torch.zeros(4, 3, 7, 7)
    torch.save(state, source.folder / "checkpoint.pt")
    with pytest.raises(
        KitError, match=r"cross_stitch .* cannot start from .*: the trunk of 'depth' .*weight .*\(4, 3, 7"
    ):
        started(chosen, root)


def test_a_state_with_nothing_of_the_task_is_refused_and_changes_nothing():
    pair = [tasks.depth(), tasks.normals()]
    model = architectures.build("cross_stitch", pair, width=0.05)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = architectures.build("single", pair[:1], width=0.05).state_dict()
    with pytest.raises(KitError, match="there is no trunk of task 'normals' in this state"):
        model.initialise_from("normals", state)
    with pytest.raises(KitError, match="this network has trunks for no task alone, found task 'depth'"):
        architectures.build("split", pair, width=0.05).initialise_from("depth", state)
    with pytest.raises(KitError, match="encoder.0.entry.conv.weight is absent, here of shape"):
        model.initialise_from("depth", dict(list(state.items())[1:]))
    assert equal(model.state_dict(), before)


def test_training_says_what_to_type_when_the_sources_are_not_there(tmp_path):
    with pytest.raises(KitError, match=r"type: mtlkit sweep .*/recipe.toml$"):
        train(recipe(**SINGLES), tmp_path)


# --- the id, and what "single" means ---


def test_recipes_that_start_at_random_keep_their_ids():
    assert not {"init_from", "pretrained"} & set(recipe().canonical())
    assert recipe(pretrained="imagenet").identity("data") != recipe().identity("data")


def test_sources_are_in_the_id_by_their_own_ids(tmp_path):
    def identity(*paths):
        return recipe(init_from=[str(path) for path in paths]).identity("data")

    a, b, c = (f"{digit * 12}" for digit in "abc")
    assert (
        len({identity(tmp_path / a, tmp_path / b), identity(tmp_path / a, tmp_path / c), recipe().identity("d")}) == 3
    )
    assert identity(tmp_path / a, tmp_path / b) == identity(tmp_path / "moved" / b, tmp_path / "elsewhere" / a)
    assert str(tmp_path) not in json.dumps(recipe(init_from=[str(tmp_path / a)]).canonical())
    chosen = recipe(**SINGLES)
    assert chosen.identity("data") == identity(*chosen.sources("data", tmp_path)) != chosen.identity("other data")


def test_the_single_nets_of_a_recipe_differ_in_what_they_do_not_know_alone():
    changes = {"optimiser.multipliers": {"exchange": 100.0, "heads": 10.0}, "architecture.unit": "sum"} | RESNET
    chosen = recipe(select="depth/abs_err", pretrained="imagenet", weighting__name="dwa", **SINGLES, **changes)
    semantic, depth = chosen.singles()
    assert (semantic.tasks, depth.tasks) == (["semantic"], ["depth"])
    assert (semantic.select, depth.select) == ("loss", "depth/abs_err")
    for single in (semantic, depth):
        assert recipes.make(single.model_dump()) == single, "it is a valid recipe"
        assert single.architecture.model_dump() == {
            "name": "single",
            "backbone": "resnet50-deeplabv3plus",
            "width": 0.05,
        }
        assert single.weighting.name == "equal" and single.optimiser.multipliers == {"heads": 10.0}
        changed = {"tasks", "architecture", "weighting", "optimiser", "init_from", "select"}
        assert single.model_dump(exclude=changed) == chosen.model_dump(exclude=changed)
    assert recipe().singles() == []


def test_a_backbone_that_is_this_architectures_default_is_said_to_the_single_nets(tmp_path):
    (tmp_path / "tiny.toml").write_text(
        'extends = "rooms-tiny"\ninit_from = ["single"]\n[architecture]\nname = "afa"\nwidth = 0.05\n'
    )
    chosen = recipes.load(str(tmp_path / "tiny.toml"))
    assert {single.architecture.options["backbone"] for single in chosen.singles()} == {"resnet50-deeplabv3plus"}


def test_a_relative_path_is_the_recipe_files_and_on_the_command_line_the_persons(tmp_path, monkeypatch):
    folder = tmp_path / "recipes"
    folder.mkdir()
    named, swept = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
    text = 'extends = "rooms-tiny"\n[architecture]\nname = "cross_stitch"\n'
    (folder / "one.toml").write_text(f'init_from = ["runs/{named}"]\n{text}')
    (folder / "many.toml").write_text(f'{text}[sweep]\nseed = [0]\n[[sweep.variants]]\ninit_from = [["{swept}"], []]\n')
    monkeypatch.chdir(tmp_path)
    assert recipes.load("recipes/one.toml").init_from == [str(folder / "runs" / named)]
    assert recipes.load("recipes/one.toml", {"init_from": [swept]}).init_from == [str(tmp_path / swept)]
    assert [run.init_from for run in recipes.expand("recipes/many.toml")] == [[str(folder / swept)], []]
    again = recipes.load("recipes/one.toml")
    (tmp_path / "again.toml").write_text(again.toml())
    assert recipes.load("again.toml") == again


# --- sweeps ---

SWEEP = """
[[sweep.variants]]
"architecture.name" = ["cross_stitch", "nddr"]
init_from = [["single"]]
[[sweep.variants]]
"architecture.name" = ["split"]
"""
SINGLES_LAST = '[[sweep.variants]]\n"architecture.name" = ["single"]\ntasks = [["semantic"], ["depth"]]\n'


@pytest.fixture
def write(tmp_path):
    def to(sweep):
        path = tmp_path / "tiny.toml"
        path.write_text(recipe(weighting__name="equal").toml() + sweep)
        return str(path)

    return to


@pytest.mark.parametrize("sweep", [SWEEP + SINGLES_LAST, SWEEP], ids=["listed last", "not listed"])
def test_single_nets_come_first_wherever_they_are_listed_and_also_if_not(write, runs_dir, sweep):
    runs = batch.plan(recipes.expand(write(sweep)))
    described = [(run.recipe.architecture.name, *run.recipe.tasks) for run in runs]
    pair = ("semantic", "depth")
    assert described == [
        ("single", "semantic"),
        ("single", "depth"),
        *((n, *pair) for n in ("cross_stitch", "nddr")),
    ] + [("split", *pair)]
    assert len({run.folder for run in runs}) == 5 and all(run.folder.is_dir() for run in runs)


def test_what_starts_from_others_is_submitted_when_they_are_over(write, monkeypatch):
    submitted, over = [], []

    class Client:
        """Finishes one job at each look, the oldest first."""

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def submit(self, function, folder, *arguments, pure):
            submitted.append((Run(folder).recipe.architecture.name, len(over)))
            return Future()

    class Future:
        status = "finished"

        def done(self):
            over.append(self)
            return True

        def result(self):
            return "not really trained"

    monkeypatch.setattr(batch, "_cluster", lambda jobs: Client())
    runs = batch.plan(recipes.expand(write(SWEEP + SINGLES_LAST)))
    outcomes = batch.run_all(runs, 2, "cpu", say=lambda line: None, progress=False)
    assert submitted == [("single", 0), ("single", 0), ("split", 0), ("cross_stitch", 3), ("nddr", 3)]
    assert [outcome.state for outcome in outcomes] == ["failed"] * 5


def test_a_single_run_says_which_command_trains_its_sources_and_writes_nothing(write, runs_dir):
    words = ["run", write(""), "-p", 'init_from=["single"]', "-p", "epochs=2"]
    result = CliRunner().invoke(cli.app, words)
    assert isinstance(result.exception, KitError)
    message = str(result.exception)
    assert "starts from single-task nets of semantic, depth, not yet trained" in message
    assert message.endswith(f"type: mtlkit sweep {words[1]} -p 'init_from=[\"single\"]' -p epochs=2")
    assert not runs_dir.exists()


def test_a_sweep_says_how_many_nets_it_adds(write):
    shown = CliRunner().invoke(cli.app, ["sweep", write(SWEEP), "--dry-run"])
    assert "5 run(s)" in shown.stdout and "2 single-task net(s) among them are not in the sweep" in shown.stdout
    assert (
        "not in the sweep"
        not in CliRunner().invoke(cli.app, ["sweep", write(SWEEP + SINGLES_LAST), "--dry-run"]).stdout
    )


# --- ImageNet ---

WHOLE = {"architecture.width": 1.0, "pretrained": "imagenet"}


@pytest.fixture(scope="module")
def weights():
    return torchvision.models.resnet50().state_dict()


def loaded(monkeypatch, weights, **changes):
    """A network as it is before its first step; ``weights`` may be an exception."""

    def fetch(which):
        if isinstance(weights, Exception):
            raise weights
        return weights

    monkeypatch.setattr(initialisation, "fetch", fetch)
    chosen = recipe(**{"tasks": ["depth"], **WHOLE} | changes)
    torch.manual_seed(0)
    model = chosen.network([getattr(tasks, name)() for name in chosen.tasks], (32, 64))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    return model, before, initialisation.load(chosen, model, "data", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture.name": "split", "architecture.backbone": "resnet50"},
        {"architecture.name": "mtan", "architecture.backbone": "resnet50-deeplabv3"},
        {"architecture.name": "cross_stitch", "architecture.backbone": "resnet50", "tasks": ["depth", "normals"]},
    ],
    ids=lambda changes: changes["architecture.name"],
)
def test_every_resnet_trunk_has_the_weights_of_imagenet(monkeypatch, weights, changes):
    model, before, lines = loaded(monkeypatch, weights, **changes)
    prefixes = [f"trunks.{name}." for name in changes.get("tasks", ())] or ["trunk."]
    state = model.state_dict()
    for prefix in prefixes:
        for key, tensor in weights.items():
            assert key.startswith("fc.") or torch.equal(state[prefix + key], tensor)
    rest = [key for key in state if not key.startswith(tuple(prefixes))]
    assert rest and all(torch.equal(state[key], before[key]) for key in rest)
    assert lines[0] == (
        f"from ImageNet, ResNet50_Weights.IMAGENET1K_V1: {len(weights) - 2} tensors, {len(prefixes)} trunk(s); "
        "not loaded: fc.weight, fc.bias"
    )
    assert lines[1].startswith("fresh: ")


def test_weights_saved_without_counters_load_and_others_do_not(monkeypatch, weights):
    changes = {"architecture.name": "single", "architecture.backbone": "resnet50"}
    old = {key: tensor for key, tensor in weights.items() if not key.endswith("num_batches_tracked")}
    model, _, lines = loaded(monkeypatch, old, **changes)
    assert torch.equal(model.trunks["depth"].layer4[2].conv3.weight, weights["layer4.2.conv3.weight"])
    for key in ("layer5.weight", "conv1.weight"):
        with pytest.raises(KitError, match=f"ResNet50_Weights.IMAGENET1K_V1 does not fit: there {key} is of shape"):
            loaded(monkeypatch, weights | {key: torch.zeros(3)}, **changes)


def test_each_depth_has_weights_of_its_own():
    for layers in (50, 101):
        assert f"resnet{layers}-" in initialisation._weights(f"resnet{layers}").url


def test_without_network_the_start_is_random_and_said(monkeypatch):
    error = URLError("Name or service not known")
    model, before, lines = loaded(monkeypatch, error, **{"architecture.name": "split"} | RESNET)
    assert equal(model.state_dict(), before)
    (line,) = lines
    assert line.startswith("random: ImageNet weights could not be fetched from https://download.pytorch.org/")
    assert "URLError" in line and "Name or service not known" in line and "\n" not in line


def test_a_server_is_not_waited_for_without_end(monkeypatch):
    import socket

    seen = []

    class Weights:
        def get_state_dict(self, **options):
            seen.append((socket.getdefaulttimeout(), options))
            raise TimeoutError

    with pytest.raises(TimeoutError):
        initialisation.fetch(Weights())
    ((timeout, options),) = seen
    assert timeout == initialisation.TIMEOUT and options["weights_only"] and options["check_hash"]
    assert socket.getdefaulttimeout() is None


def test_the_mark_of_a_random_start_goes_on_to_what_starts_from_it_and_to_the_report(singles, root):
    chosen = recipe(**SINGLES)
    for single in chosen.singles():
        run = Run.of(single, data(), root)
        result = run.result | {"initialised": ["random: ImageNet weights could not be fetched"]}
        (run.folder / "result.json").write_text(json.dumps(result))
    run = train(chosen, root)
    assert run.random_start == run.result["initialised"][-1] == "random: ImageNet weights could not be fetched"
    rows = report.entries([run])
    assert [name.endswith("‡") for name in report.table(rows).index] == [False, True]
    assert any(note.startswith("‡") for note in report.footnotes(rows))
    assert not singles[1]["depth"].random_start


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            RESNET | {"architecture.width": 0.5},
            "fits ResNets and two_stream of width 1 .* found backbone 'resnet50-deeplabv3plus', width 0.5",
        ),
        ({"architecture.width": 1.0}, "fits ResNets and two_stream of width 1 .* found backbone 'segnet', width 1.0"),
    ],
)
def test_what_imagenet_does_not_fit_is_refused(changes, words, tmp_path):
    with pytest.raises(KitError, match=words):
        judged({"pretrained": "imagenet"} | changes, tmp_path)


def test_a_start_is_one_of_those_that_exist():
    with pytest.raises(KitError, match="pretrained = 'coco'"):
        recipe(pretrained="coco")


# --- the size of the images ---


def test_a_network_made_for_a_size_gets_that_of_the_data(deep):
    root, _ = deep
    chosen = recipe(**SINGLES, **AFA)
    assert "size" not in chosen.architecture.options and chosen.canonical()["architecture"]["size"] is None
    session, _ = started(chosen, root)
    assert session.model(torch.zeros(2, 3, 32, 64))["depth"].shape == (2, 1, 32, 64)
    with pytest.raises(KitError, match="made for features of 2 x 4 pixels, found 4 x 4"):
        session.model(torch.zeros(2, 3, 64, 64))
    said = recipe(architecture__size=[64, 64], **AFA).network([tasks.depth(), tasks.normals()], (32, 64))
    assert said(torch.zeros(2, 3, 64, 64))["depth"].shape == (2, 1, 64, 64)
