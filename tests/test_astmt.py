"""ASTMT: every count of its tables, values on golden inputs, a training step with its discriminator, what is whose.

Golden numbers are measured on the released networks, in float64.

Shapes: B batch, C channels, H/W size, T tasks.
"""

import math

import pytest
import torch
import torchvision
from torch import nn

import mtlkit
from mtlkit import KitError, initialisation, recipes, record, tasks
from mtlkit.architectures import ARCHITECTURES, count_macs, count_parameters
from mtlkit.architectures.catalogue import semantic_of
from mtlkit.layers.adversarial import Discriminator, adversarial_loss, task_gradient
from mtlkit.layers.gradients import reverse
from mtlkit.layers.squeeze import Adapter, PerTask, Squeeze, plain

PASCAL = [tasks.edges(), semantic_of(21), tasks.parts(map(str, range(7))), tasks.normals(), tasks.saliency()]
NYUD = [tasks.edges(0.8), semantic_of(41), tasks.normals(), tasks.depth()]
FSV = [semantic_of(3), tasks.albedo(), tasks.depth()]
OFF = {"squeeze_encoder": False, "squeeze_decoder": False, "adapters": False, "discriminator": False}
SE_ENCODER = OFF | {"squeeze_encoder": True}
SE = SE_ENCODER | {"squeeze_decoder": True}
SE_RA = SE | {"adapters": True}
RA = OFF | {"adapters": True}
FULL = {}


def without_storage(chosen, **options):
    with torch.device("meta"):
        return ARCHITECTURES.build("astmt", chosen, **options)


def tiny(chosen=PASCAL[:3], **options):
    torch.manual_seed(0)
    return mtlkit.build("astmt", chosen, **{"width": 0.0625} | options)


def size(parameters):
    return sum(parameter.numel() for parameter in parameters)


# --- counts --------------------------------------------------------------------------------------------------------


class Pieces:
    """Sizes of the kinds of parameters in one whole network of two tasks, from which every setting's count follows."""

    def __init__(self, backbone):
        model = without_storage([tasks.depth(), tasks.edges()], backbone=backbone)
        self.own = {}  # (part, kind) -> parameters for one task
        for part in (model.trunk, model.decoder):
            for module in part.modules():
                if isinstance(module, PerTask):
                    key = part, type(module["depth"])
                    self.own[key] = self.own.get(key, 0) + size(module["depth"].parameters())
        names = {model.trunk: "trunk", model.decoder: "decoder"}
        self.own = {(names[part], kind): count for (part, kind), count in self.own.items()}
        self.shared = size(model.shared_parameters())

    def count(self, chosen, squeeze_encoder=True, squeeze_decoder=True, adapters=True, discriminator=0):
        many = len(chosen)
        heads = sum(65 * task.channels for task in chosen)
        kinds = {
            ("trunk", nn.BatchNorm2d): many,
            ("trunk", Squeeze): many if squeeze_encoder else 1,
            ("trunk", Adapter): many if adapters else 0,
            ("decoder", nn.BatchNorm2d): many if squeeze_decoder else 1,
            ("decoder", Squeeze): many if squeeze_decoder else 0,
            ("decoder", Adapter): many if adapters else 0,
        }
        return self.shared + heads + discriminator + sum(self.own[kind] * times for kind, times in kinds.items())


PLAIN_FLAGS = {"squeeze_encoder": False, "squeeze_decoder": False, "adapters": False}
# backbone -> PASCAL: five plain single nets, one (edges), five with everything, MTL without ASTMT, gates in the trunk,
# in both, and adapters, and discriminator, adapters alone; NYUD the same without the one; FSV: three plain single
# nets, MTL without ASTMT, with everything, and the discriminator
COUNTS = {
    "resnet26": (
        (96_268_665, 19_253_369, 102_557_900, 19_378_329, 24_981_529, 25_009_356, 31_274_956, 31_279_377, 25_643_929),
        (77_016_206, 82_047_594, 19_348_454, 23_550_854, 23_572_906, 28_585_386, 28_624_558, 24_360_934),
        (57_760_367, 19_315_199, 25_892_436, 25_896_727),
    ),
    "resnet50": (
        (149_728_905, 29_945_417, 158_823_900, 30_159_465, 40_283_433, 40_311_260, 49_382_620, 49_387_041, 39_230_825),
        (119_784_398, 127_060_394, 30_107_318, 37_700_294, 37_722_346, 44_979_434, 45_018_606, 37_364_406),
        (89_836_511, 30_051_791, 40_572_868, 40_577_159),
    ),
    "resnet101": (
        (255_923_145, 51_184_265, 270_588_700, 51_607_209, 70_718_057, 70_745_884, 85_387_804, 85_392_225, 66_249_129),
        (204_739_790, 216_472_234, 51_502_838, 65_835_974, 65_858_026, 77_571_562, 77_610_734, 63_216_374),
        (153_553_055, 51_395_087, 69_751_940, 69_756_231),
    ),
}
SPLIT = {
    "resnet26": (17_820_736, 2_690_480),
    "resnet50": (27_360_320, 4_404_096),
    "resnet101": (46_300_224, 7_817_152),
}


@pytest.mark.parametrize("backbone", COUNTS)
def test_every_count_of_the_tables(backbone):
    """From the parts of one network; ``test_models_table`` builds a choice of the settings whole."""
    part = Pieces(backbone)
    encoder, both = PLAIN_FLAGS | {"squeeze_encoder": True}, {"adapters": False}
    alone = PLAIN_FLAGS | {"adapters": True}

    def singles(chosen, **flags):
        return sum(part.count([task], **flags) for task in chosen)

    pascal, nyud, fsv = COUNTS[backbone]
    settings = (PLAIN_FLAGS, encoder, both, {}, {"discriminator": 4_421}, alone)
    one = part.count(PASCAL[:1], **PLAIN_FLAGS)
    assert (singles(PASCAL, **PLAIN_FLAGS), one, singles(PASCAL)) == pascal[:3]
    assert tuple(part.count(PASCAL, **flags) for flags in settings) == pascal[3:]
    assert (singles(NYUD, **PLAIN_FLAGS), singles(NYUD)) == nyud[:2]
    settings = (*settings[:4], {"discriminator": 39_172}, alone)
    assert tuple(part.count(NYUD, **flags) for flags in settings) == nyud[2:]
    settings = (PLAIN_FLAGS, {}, {"discriminator": 4_291})
    assert (singles(FSV, **PLAIN_FLAGS), *(part.count(FSV, **flags) for flags in settings)) == fsv
    shared, own = SPLIT[backbone]
    assert part.shared == shared and part.count(PASCAL[:1]) == shared + own


def test_sizes_of_the_discriminators():
    """Convolutions of 64 channels; kernel 1 and five tasks on PASCAL, 3 and four on NYUD, 1 and three on FSV."""
    found = [count_parameters(Discriminator(64, n, kernel=k)) for n, k in ((5, 1), (4, 3), (3, 1))]
    assert found == [4_421, 39_172, 4_291]
    assert count_parameters(Discriminator(64, 5, depth=1)) == 325


def test_parts_and_tensors_of_the_full_network():
    model = without_storage(PASCAL)
    groups = {name: (size(group), len(group)) for name, group in model.parameter_groups().items()}
    assert groups == {
        "backbone": (13_915_456, 31),
        "decoder": (3_905_280, 9),
        "tasks": (13_454_220, 800),
        "discriminator": (4_421, 3),
    }
    parts = {name: size(part.parameters()) for name, part in (*model.trunk.named_children(), *model.named_children())}
    layers = {f"layer{n}": count for n, count in enumerate((279_200, 1_172_800, 4_639_360, 18_453_760), 1)}
    assert parts | {"conv1": 9_408, "bn1": 128, "heads": 2_145, "discriminator": 4_421, **layers} == parts
    units = [size(unit.parameters()) for unit in model.decoder.children()]
    assert units == [789_972, *[1_838_548] * 3, 134_612, 126_420, 18_987, 71_636, 60_884]
    assert len(list(model.parameters())) == 843 and len(model.state_dict()) == 1401
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 186
    plain = without_storage(PASCAL, **OFF)
    assert len(list(plain.parameters())) == 380 and len(plain.state_dict()) == 830
    assert sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules()) == 150
    assert size(plain.decoder.parameters()) + size(plain.heads.parameters()) == 3_908_473


def test_a_wider_decoder_and_output_stride_8():
    wide = without_storage(PASCAL, backbone="resnet50", decoder_width=256, discriminator=False)
    assert count_parameters(wide) == 72_773_341
    for stride, width, gmacs in ((16, 256, 75.045), (8, 256, 199.867), (8, 64, 123.486)):
        model = without_storage(
            PASCAL[:1], backbone="resnet50", decoder_width=width, output_stride=stride, discriminator=False
        )
        assert count_macs(model, 512, 512, "conv") / 1e9 == pytest.approx(gmacs, abs=5e-4)


def test_five_plain_mobilenets():
    one = count_parameters(without_storage(PASCAL[:1], **OFF, backbone="mobilenet_v2"))
    assert sum(one + 65 * (task.channels - 1) for task in PASCAL) == 9_851_145


# --- golden values -------------------------------------------------------------------------------------------------


PERIOD = (torch.arange(1000) * 7919 + 13).remainder(1000).double() / 1000 - 0.4995


def pattern(shape, scale):
    count = math.prod(shape)
    return PERIOD.repeat(count // 1000 + 1)[:count].mul(scale).reshape(tuple(shape))


def golden(chosen=PASCAL, **options):
    """The network in float64, its weights filled with the pattern."""
    model = without_storage(chosen, **options).double().to_empty(device="cpu")
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(pattern(module.weight.shape, math.sqrt(24 / module.weight[0].numel())))
                if module.bias is not None:
                    module.bias.copy_(pattern(module.bias.shape, 0.1))
    return model


@pytest.fixture(scope="module")
def full():
    return golden()


IMAGES = pattern((2, 3, 64, 64), 2.0)


def exactly(value):
    return pytest.approx(value, rel=1e-9, abs=1e-11)  # ten digits were recorded


def check_golden(model, expected):
    with torch.no_grad():
        outputs, features = model.eval()(IMAGES, list(expected), return_features=True)
    for name, (values, feature) in expected.items():
        raw, last = outputs[name], features[f"decoder/{name}"]
        assert raw.shape == (2, 1 if name == "edges" else 21, 64, 64) and last.shape == (2, 64, 16, 16)
        found = [raw.mean(), raw.std(), raw[0, 0, 0, 0], raw[1, -1, 63, 63]]
        assert [value.item() for value in found] == exactly(values)
        assert [last.mean().item(), last.std().item()] == exactly(feature)


def test_golden_plain_resnet26():
    feature = [0.0305385958, 0.04571206144]
    edges = [-0.04506804969, 0.02565764121, -0.07639556084, -0.07422164105]
    semantic = [0.002945341128, 0.04100694307, -0.07639556084, -0.02134638253]
    check_golden(golden(PASCAL[:2], **OFF), {"edges": (edges, feature), "semantic": (semantic, feature)})


def test_golden_full_resnet26(full):
    feature = [0.01619008183, 0.02453856444]
    edges = [-0.05240590931, 0.04450151317, -0.02085391023, -0.05987032946]
    semantic = [0.003987986852, 0.06092999916, -0.02085391023, -0.07171018165]
    check_golden(full, {"edges": (edges, feature), "semantic": (semantic, feature)})


@pytest.mark.parametrize(
    ("options", "edges", "feature"),
    [
        (OFF, [-0.04565820437, 0.0251037838, -0.07487647772, -0.08454240902], [0.0294631627, 0.0438154626]),
        (SE_RA, [-0.03825076883, 0.05019605442, -0.0009520930256, -0.04184935514], [0.01922091775, 0.02878860943]),
    ],
    ids=["plain", "full"],
)
def test_golden_resnet50(options, edges, feature):
    check_golden(golden(PASCAL[:1], backbone="resnet50", **options), {"edges": (edges, feature)})


def golden_targets():
    """Edges where the pattern says so; classes in turn, eight rows of them unknown."""
    g = torch.arange(2 * 64 * 64).reshape(2, 1, 64, 64)
    classes = (g // 7 % 21)[:, 0]
    classes[0, :8] = -1
    return {"edges": (31 * g % 17 == 0).double(), "semantic": classes}


@pytest.mark.parametrize(
    ("name", "weight", "losses", "norms"),
    [
        ("edges", 50, [3.595186035, 1.545969139, 3.574693866], [250.723009, 145.082949, 0.006815995698]),
        ("semantic", 1, [3.09513673, 1.406671066, 3.078252074], [175.2749282, 103.7865812, 0.002319110225]),
    ],
)
def test_golden_training_step(full, name, weight, losses, norms):
    """A task's weighted loss, the discriminator's, their sum, and the gradients that both leave."""
    full.train().zero_grad()
    task, target = next(task for task in PASCAL if task.name == name), golden_targets()[name]
    outputs, features = full(IMAGES, [name], return_features=True)
    loss = weight * task.loss(outputs[name], target)
    number = PASCAL.index(task)
    against, right = adversarial_loss(
        full.discriminator, loss, features[f"decoder/{name}"], number, task.valid(target), 0.9866142982
    )
    total = 0.99 * loss + 0.01 * against
    total.backward()
    assert [value.item() for value in (loss, against, total)] == pytest.approx(losses, rel=2e-9)
    trained = [parameter.grad for parameter in full.parameters() if parameter.grad is not None]
    assert len(trained) == 203
    own = [torch.linalg.vector_norm(p.grad) for p in (full.trunk.conv1.weight, full.discriminator[0].weight)]
    whole = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in trained]))
    assert [value.item() for value in (whole, *own)] == pytest.approx(norms, rel=2e-9)
    assert 0 <= right <= 1 and not right.requires_grad


def test_the_small_trunk_is_torchvision_s_but_for_gates_and_dilation():
    """With gates wide open, its first 14 blocks, up to where it is dilated, give what MobileNetV2's give."""
    torch.manual_seed(0)
    model = mtlkit.build("astmt", PASCAL[:2], backbone="mobilenet_v2", adapters=False).eval()
    for module in model.trunk.modules():
        if isinstance(module, Squeeze):
            nn.init.zeros_(module.gate[4].weight)
            nn.init.constant_(module.gate[4].bias, 50.0)
    other = torchvision.models.mobilenet_v2().eval()
    state = {k: v for k, v in other.state_dict().items() if not k.startswith(("features.18.", "classifier."))}
    plain(model.trunk, "semantic").load_state_dict(state)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        deep, low = model.trunk(images, "semantic")
        torch.testing.assert_close(low, other.features[:4](images))
        torch.testing.assert_close(model.trunk.features[:14](images, "semantic"), other.features[:14](images))
    assert deep.shape == (1, 320, 4, 4)


# --- adversarial training ------------------------------------------------------------------------------------------


def test_the_reversal_is_the_identity_and_turns_gradients_round():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(reverse(x, 0.3), x)
    (gradient,) = torch.autograd.grad((reverse(x, 0.3) ** 3).sum(), x, create_graph=True)
    torch.testing.assert_close(gradient, -0.9 * x**2)
    assert torch.autograd.gradgradcheck(lambda x: reverse(x, -1.0).sin(), x)  # at -1 it is the identity throughout
    (second,) = torch.autograd.grad(gradient.sum(), x)
    torch.testing.assert_close(second, 0.3**2 * 6 * x)


def test_gradients_of_tasks_have_length_one_or_nothing():
    features = torch.randn(2, 3, 4, 5, requires_grad=True)
    gradient = task_gradient((features[:, :, 1:] ** 3).sum(), features)
    lengths = gradient.norm(dim=1)
    torch.testing.assert_close(lengths[:, 1:], torch.ones(2, 3, 5))
    assert lengths[:, 0].abs().max() == 0 and gradient.requires_grad


def test_a_perfect_discriminator_is_right_on_the_pixels_that_count():
    """Two tasks whose gradients have opposite signs; of the second half of the pixels none counts."""
    features = torch.rand(1, 1, 4, 4, requires_grad=True)
    sign = nn.Conv2d(1, 2, 1, bias=False)
    with torch.no_grad():
        sign.weight.copy_(torch.tensor([20.0, -20.0]).reshape(2, 1, 1, 1))
    valid = torch.zeros(1, 16, 16, dtype=torch.bool)
    valid[:, :8] = True
    up = torch.where(torch.arange(4) < 2, 1.0, -1.0)[:, None] * features  # gradient 1 above, -1 below
    for task, (loss, share) in enumerate([(0, 1), (40, 0)]):
        found, right = adversarial_loss(sign, up.sum(), features, task, valid, 1.0)
        assert found.item() == pytest.approx(loss, abs=1e-4) and right.item() == share
    nobody, right = adversarial_loss(sign, up.sum(), features, 0, torch.zeros_like(valid), 1.0)
    assert nobody.item() == right.item() == 0


def test_the_network_learns_to_deceive():
    """Along the gradient of the network the discriminator's loss rises, along its own it falls."""
    model = tiny().double()
    images, target = torch.rand(2, 3, 32, 32).double(), torch.rand(2, 1, 32, 32).round().double()

    def against():
        outputs, features = model(images, ["edges"], return_features=True)
        loss = PASCAL[0].loss(outputs["edges"], target)
        last = features["decoder/edges"]
        return adversarial_loss(model.discriminator, loss, last, 0, PASCAL[0].valid(target), 1.0)[0]

    before = against()
    before.backward()
    own = {id(p) for p in model.discriminator.parameters()}
    for parameters, rises in (
        (model.discriminator.parameters(), False),
        ((p for p in model.parameters() if id(p) not in own), True),
    ):
        moved = [p for p in parameters if p.grad is not None]
        scale = 1e-4 / math.sqrt(sum(float(p.grad.square().sum()) for p in moved))
        for p in moved:
            p.data -= scale * p.grad
        assert moved and (against().item() > before.item()) == rises
        for p in moved:
            p.data += scale * p.grad


def test_it_trains_under_bfloat16():
    model = tiny()
    images, target = torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32).round()
    with torch.autocast("cpu", torch.bfloat16):
        outputs, features = model(images, ["edges"], return_features=True)
        loss = PASCAL[0].loss(outputs["edges"].float(), target)
        last = features["decoder/edges"]
        against, _ = adversarial_loss(model.discriminator, loss, last, 0, PASCAL[0].valid(target), 1.0)
    (0.99 * loss + 0.01 * against).backward()
    assert against.dtype == torch.float32
    found = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in found)
    assert all(p.grad is not None for p in model.discriminator.parameters())


# --- what is whose -------------------------------------------------------------------------------------------------


def test_a_step_of_one_task_leaves_everything_of_another_alone():
    """Outputs of the others change over what is shared alone; their statistics and gradients not at all."""
    model = tiny(**SE_RA)
    other = {key: value.clone() for key, value in model.state_dict().items() if ".semantic." in key}
    model(torch.rand(2, 3, 32, 32), ["edges"])["edges"].square().mean().backward()
    after = model.state_dict()
    assert len(other) > 200 and all(torch.equal(after[key], value) for key, value in other.items())
    assert all(p.grad is None for p in model.task_parameters("semantic"))
    assert all(p.grad is not None for p in model.task_parameters("edges"))
    mine = {id(p) for p in model.task_parameters("edges")}
    assert mine == {id(p) for key, p in model.named_parameters() if ".edges." in f".{key}."}


@pytest.mark.parametrize(
    ("options", "own"),
    [
        (OFF, {"trunk": {nn.BatchNorm2d}, "decoder": set()}),
        (SE_ENCODER, {"trunk": {nn.BatchNorm2d, Squeeze}, "decoder": set()}),
        (SE, {"trunk": {nn.BatchNorm2d, Squeeze}, "decoder": {nn.BatchNorm2d, Squeeze}}),
        (RA, {"trunk": {nn.BatchNorm2d, Adapter}, "decoder": {Adapter}}),
        (FULL, {part: {nn.BatchNorm2d, Squeeze, Adapter} for part in ("trunk", "decoder")}),
        (OFF | {"backbone": "mobilenet_v2"}, {"trunk": set(), "decoder": set()}),
    ],
)
def test_what_each_setting_gives_a_task(options, own):
    model = tiny(**options)
    for part, kinds in own.items():
        found = [m for m in getattr(model, part).modules() if isinstance(m, PerTask) and m.own]
        assert {type(module["edges"]) for module in found} == kinds
    assert (model.discriminator is None) == (options != FULL)


def test_adapters_change_nothing_at_first_and_then_their_task_alone():
    model = tiny(PASCAL[:2]).train()
    images = torch.rand(2, 3, 32, 32)
    before = model(images, ["edges"])["edges"]
    for module in model.modules():
        if isinstance(module, Adapter):
            assert not module.weight.any()
    with torch.no_grad():
        model.trunk.layer2[0].adapter["semantic"].weight.fill_(1.0)
        assert torch.equal(model(images, ["edges"])["edges"], before)
        model.trunk.layer2[0].adapter["edges"].weight.fill_(1.0)
        assert not torch.equal(model(images, ["edges"])["edges"], before)


def test_recorded_gates():
    model = tiny()
    with record(model, "squeeze/*") as seen:
        model.eval()(torch.rand(2, 3, 32, 32), ["edges"])
    assert set(seen) == {name for name in seen.names if name.startswith("squeeze/edges/")}
    decoder = [*(f"aspp{n}" for n in range(5)), "aspp_final", "reduce", "concat", "process"]
    blocks = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    assert [name.split("/")[-1] for name in seen] == blocks + decoder
    assert all(gate.shape[2:] == (1, 1) and 0 < gate.min() and gate.max() < 1 for gate in seen.values())
    assert seen["squeeze/edges/layer1.0"].shape[:2] == (2, 16)
    shared = tiny(**OFF).taps()
    assert list(shared) == [f"squeeze/shared/{block}" for block in blocks]


@pytest.mark.parametrize("options", [{"output_stride": 8}, {"backbone": "mobilenet_v2", "adapters": False}])
def test_other_forms_train(options):
    model = tiny(**options)
    outputs, features = model(torch.rand(2, 3, 48, 32), return_features=True)
    assert {name: raw.shape[1:] for name, raw in outputs.items()} == {
        "edges": (1, 48, 32), "semantic": (21, 48, 32), "parts": (7, 48, 32)
    }  # fmt: skip
    assert {feature.shape[2:] for feature in features.values()} == {(12, 8)}
    sum(raw.square().mean() for raw in outputs.values()).backward()
    auxiliary = {id(p) for p in model.auxiliary_parameters()}
    assert all(p.grad is not None for p in model.parameters() if id(p) not in auxiliary)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "resnet18"}, "unknown backbone 'resnet18'"),
        ({"output_stride": 32}, "16 or 8, found 32"),
        ({"backbone": "mobilenet_v2"}, "set adapters = false"),
        ({"decoder_width": 40}, "multiple of 16, found 40"),
        ({"discriminator_kernel": 2}, "odd kernel, found depth 2, kernel 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(KitError, match=message) as caught:
        tiny(**options)
    assert "\n" not in str(caught.value)


# --- ImageNet ------------------------------------------------------------------------------------------------------


def start(**options):
    table = {f"architecture.{key}": value for key, value in ({"name": "astmt", "width": 1.0} | options).items()}
    return recipes.load("rooms-tiny", table | {"pretrained": "imagenet"})


def load_imagenet(monkeypatch, model, state, **options):
    monkeypatch.setattr(initialisation, "fetch", lambda weights: state)
    initialisation.check(start(**options), model)
    return initialisation.load(start(**options), model, "data", None)


def test_imagenet_weights_go_into_every_task_s_normalisation(monkeypatch):
    options = {"backbone": "mobilenet_v2", "adapters": False}
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    state = {key: torch.full(value.shape, float(len(key))) for key, value in state.items()}
    model = mtlkit.build("astmt", PASCAL[:2], **options)
    lines = load_imagenet(monkeypatch, model, state, **options)
    assert "306 tensors, 2 trunk(s)" in lines[0] and "(8 tensors)" in lines[0] and "discriminator (" in lines[1]
    for key, value in model.trunk.state_dict().items():
        name = key.replace(".edges.", ".").replace(".semantic.", ".")
        assert (value == len(name)).all() == ("squeeze" not in key), key


def test_imagenet_weights_fit_the_deep_trunks(monkeypatch):
    """By names and shapes; of 320 tensors the last layer's two stay."""
    with torch.device("meta"):
        state = torchvision.models.resnet50(weights=None).state_dict()
    lines = load_imagenet(monkeypatch, without_storage(PASCAL[:2], backbone="resnet50"), state, backbone="resnet50")
    assert "318 tensors, 2 trunk(s); not loaded: fc.weight, fc.bias" in lines[0]


@pytest.mark.parametrize("options", [{"backbone": "resnet26"}, {"backbone": "resnet50", "width": 0.0625}])
def test_imagenet_weights_that_do_not_fit_are_refused(options):
    with pytest.raises(KitError, match="astmt on resnet50, resnet101 or mobilenet_v2; .* found backbone 'resnet"):
        initialisation.check(start(**options), without_storage(PASCAL[:1], **options))
