"""The whole source against the slow twins, step by step, with tiny untrained networks; and what must not matter."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.references import fmwiss as slow
from tests.references import gradcam as slow_gradcam
from tests.references import placing as slow_placing
from tests.wilss.models.encoders.tiny import clip_spec, vit_spec
from tests.wilss.models.proposers import tiny_networks
from wilss.data.images import read_image, resize_uint8, to_pixels
from wilss.data.layouts import ImageRecord
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError, ParameterError
from wilss.models.encoders.clip.gradcam import gradcam
from wilss.models.encoders.clip.resblocks import ResblockTrunk
from wilss.params import with_values
from wilss.store import ImageContent, Status
from wilss_masks.make.request import require_known_names
from wilss_masks.sources import FmwissSource
from wilss_masks.sources.base import ImageTask
from wilss_masks.sources.fmwiss_params import FmwissParams
from wilss_masks.sources.fusion import refine
from wilss_masks.stages.chain import stage_size
from wilss_masks.stages.regions import batch_regions, open_region_network

CLASSES = (("disk", ("disk", "round plate")), ("star", ("star",)), ("kite", ("kite",)))
SIZES = [(40, 32), (24, 48)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for i, size in enumerate(SIZES):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def source(folder: Path) -> FmwissSource:
    params = FmwissParams(
        clip_size=0, vit_size=0, background="margin", templates="plain", seeds=3, affinity="kk", keep_amount=0.6
    )
    source = FmwissSource(
        params=params, clip=clip_spec(folder), vit=vit_spec(), classes=CLASSES, background_words=("sky", "sea"), seed=5
    )
    return source.prepare("cpu")


def task(folder: Path, i: int, categories: tuple[int, ...] = (0, 2)) -> ImageTask:
    record = ImageRecord(image_id=str(i), path=folder / f"{i}.png", tags=())
    return ImageTask(record=record, height=SIZES[i][0], width=SIZES[i][1], categories=categories)


def proposed(source: FmwissSource, *tasks: ImageTask) -> list[ImageContent]:
    proposer = source.open("cpu", 1)
    return proposer.propose(tasks, [proposer.load(one) for one in tasks])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"affinity": "qk", "keep": "locations", "fusion": "intersection"},
        {"background": "softmax", "threshold": 0.3, "keep": "std", "keep_amount": 0.5, "draws": 3},
        {"background": "minmax", "form": "value", "fusion": "seeds"},
        {"form": "neighbour"},
        {"form": "proxy", "affinity": "qk"},
    ],
)
def test_masks_equal_those_of_the_slow_twins(source: FmwissSource, folder: Path, changes: dict[str, Any]) -> None:
    """Features and keys from the networks (tested for themselves), everything after them by loops."""
    source = replace(source, params=replace(source.params, **changes))
    one = task(folder, 0)
    proposer = source.open("cpu", 1)
    loaded = proposer.load(one)
    clip, vit, *_ = loaded
    (content,) = proposer.propose([one], [loaded])
    proxy = proposer.vit.features(vit[None]) if source.params.form == "proxy" else None
    features = proposer.clip.features(clip[None], proxy)[0].double().numpy()
    block = proposer.vit.last_block(vit[None])
    similarity = slow.score_map(features, source.text)
    mode, scale = source.params.background, proposer.clip.logit_scale
    scores = slow.foreground_score(similarity[[0, 2]], similarity[3:], mode, scale)
    for t, category in enumerate(one.categories):
        np.testing.assert_allclose(content.planes["score"][category], scores[t], atol=2e-3)
        seeds = content.planes["seeds"][category].astype(int)
        tokens = [row * block.grid[1] + column + block.prefix for row, column in seeds]
        queries = block.keys if source.params.affinity == "kk" else block.queries
        rows = queries[0][:, tokens].double().numpy()
        attention = slow.seed_attention(rows, block.keys[0].double().numpy(), block.prefix, source.params.affinity)
        attention = attention.reshape(block.grid) / attention.max()
        np.testing.assert_allclose(content.planes["attention"][category], attention, atol=2e-3)
        expected = refined_by_loops(content, category, one, source.params)
        np.testing.assert_array_equal(content.planes["mask"][category], expected)
        assert content.area[category] == expected.sum()


@pytest.mark.parametrize("affinity", ["vv", "outputs", "qq+kk"])
def test_maps_of_soft_seeds_are_spread_along_the_last_blocks(source: FmwissSource, folder: Path, affinity: Any) -> None:
    params = replace(source.params, placing="soft", affinity=affinity, attention_blocks=2)
    proposer, one = replace(source, params=params).open("cpu", 1), task(folder, 0)
    loaded = proposer.load(one)
    (content,) = proposer.propose([one], [loaded])
    matrices = []
    for block in proposer.vit.last_blocks(loaded.vit[None], 2, ("values", "outputs")):
        assert block.values is not None
        assert block.outputs is not None
        parts = (block.queries, block.keys, block.values, block.outputs)
        queries, keys, values, outputs = (part[0].double().numpy() for part in parts)
        matrices.append(slow_placing.affinity(affinity, queries, keys, values, outputs, block.prefix))
    for category in one.categories:
        score = to_pixels(torch.from_numpy(content.planes["score"][category]).float()[None], *block.grid)
        weights = slow_placing.soft_weights(score.reshape(1, -1).double().numpy(), 2)
        attention = (weights @ np.mean(matrices, axis=0)).reshape(block.grid)
        np.testing.assert_allclose(content.planes["attention"][category], attention / attention.max(), atol=4e-3)


@pytest.mark.parametrize("one_network", [False, True])
def test_grad_cam_scores_by_what_the_whole_image_says(source: FmwissSource, folder: Path, one_network: bool) -> None:
    params = replace(source.params, score="gradcam", background="softmax", synonyms="greatest")
    changed = replace(source, params=params, text=None, vit=source.clip if one_network else source.vit).prepare("cpu")
    assert changed.text is not None
    assert changed.text.shape[0] == 6  # disk has two names, and there are two background words
    proposer, one = changed.open("cpu", 1), task(folder, 0)
    loaded = proposer.load(one)
    (content,) = proposer.propose([one], [loaded])
    text = torch.from_numpy(changed.text)[[0, 1, 3, 4, 5]]
    with torch.inference_mode():
        state = proposer.clip.before_last(loaded.clip[None])
        expected = gradcam(proposer.clip, state, 0, text, (2, 1, 1, 1), 2)
    for category, scores in zip((0, 2), expected, strict=True):
        np.testing.assert_array_equal(content.planes["score"][category], scores.half())
        assert content.planes["score"][category].max() == 1


def test_the_greatest_of_a_class_s_names_scores(source: FmwissSource, folder: Path) -> None:
    changed = replace(source, params=replace(source.params, synonyms="greatest"), text=None).prepare("cpu")
    proposer, one = changed.open("cpu", 1), task(folder, 0)
    loaded = proposer.load(one)
    (content,) = proposer.propose([one], [loaded])
    similarity = slow.score_map(proposer.clip.features(loaded.clip[None])[0].double().numpy(), changed.text)
    of_class = slow_gradcam.greatest_of_names(similarity, (2, 1, 1, 1, 1))
    expected = slow.foreground_score(of_class[[0, 2]], of_class[3:], "margin", proposer.clip.logit_scale)
    for category, scores in zip((0, 2), expected, strict=True):
        np.testing.assert_allclose(content.planes["score"][category], scores, atol=2e-3)


@pytest.mark.parametrize("one_network", [False, True])
def test_windows_change_what_clip_says_and_one_over_all_changes_nothing(
    source: FmwissSource, folder: Path, one_network: bool
) -> None:
    source = replace(source, vit=source.clip if one_network else source.vit)
    whole, over_all, small = (
        proposed(replace(source, params=replace(source.params, window=window)), task(folder, 0))[0].planes
        for window in (0, 64, 16)
    )
    for category in (0, 2):
        np.testing.assert_array_equal(over_all["mask"][category], whole["mask"][category])
        np.testing.assert_array_equal(over_all["score"][category], whole["score"][category])
        assert (small["score"][category] != whole["score"][category]).any()
        assert small["score"][category].shape == whole["score"][category].shape


def test_what_does_not_go_together_is_refused(source: FmwissSource) -> None:
    with pytest.raises(ParameterError, match=r"window_stride is 32; it must be at most the window, 16\."):
        FmwissParams(window=16, window_stride=32)
    clashes: list[dict[str, Any]] = [{"background": "margin"}, {"window": 64}]
    for values in clashes:
        with pytest.raises(ParameterError, match="with `score: gradcam`, which has a softmax of its own"):
            FmwissParams(score="gradcam", **values)
    params = replace(source.params, score="gradcam", background="softmax")
    with pytest.raises(EncoderError, match=r"convolutional image tower, .* use score: text\."):
        replace(source, params=params, clip=EncoderSpec(library="open_clip", model="RN50", pretrained="random")).grids(
            64, 64
        )


def test_the_levers_at_their_defaults_are_not_noted(source: FmwissSource) -> None:
    noted = source.identity()["parameters"]
    assert not {"score", "synonyms", "window", "window_stride", "words"} & set(noted)
    windowed = replace(source, params=replace(source.params, window=336, words="coco")).identity()["parameters"]
    assert (windowed["window"], windowed["words"]) == (336, "coco")


@pytest.mark.parametrize(
    "changes",
    [
        {"balance": "symmetric", "passes": 2},
        {"affinity": "vv", "negatives": "cut", "power": 1.0},
        {"affinity": "outputs", "attention_blocks": 2, "balance": "sinkhorn", "squared": True},
    ],
)
def test_soft_seeds_equal_those_of_the_slow_twins(source: FmwissSource, folder: Path, changes: dict[str, Any]) -> None:
    soft = {"placing": "soft", "power": 2.0, "affinity": "qk", **changes}
    source = replace(source, params=replace(source.params, **soft), vit=vit_spec(depth=2))
    params, one = source.params, task(folder, 0)
    proposer = source.open("cpu", 1)
    loaded = proposer.load(one)
    (content,) = proposer.propose([one], [loaded])
    blocks = proposer.vit.last_blocks(loaded.vit[None], params.attention_blocks, ("values", "outputs"))
    grid = blocks[-1].grid
    matrix = np.mean([affinity_by_loops(block, params) for block in blocks], axis=0)
    matrix = slow_placing.balanced(matrix, params.balance, params.balance_rounds)
    matrix = matrix @ matrix if params.squared else matrix
    score = np.stack([content.planes["score"][c].astype(np.float32) for c in one.categories])
    there = to_pixels(torch.from_numpy(score), *grid).flatten(-2).double().numpy()
    weights = slow_placing.soft_weights(there, params.power)
    maps = slow_placing.spread_again(weights, there, matrix, params.passes, params.power)
    expected = (maps / maps.max(axis=1, keepdims=True)).reshape(-1, *grid)
    for t, category in enumerate(one.categories):
        np.testing.assert_allclose(content.planes["attention"][category], expected[t], atol=5e-3)
        assert content.planes["seeds"][category].shape == (0, 2)
    assert source.seeds_kept == 0


def affinity_by_loops(block: Any, params: FmwissParams) -> Any:
    queries, keys, values, outputs = (
        x[0].double().numpy() for x in (block.queries, block.keys, block.values, block.outputs)
    )
    how = {"how": params.negatives, "sharpness": params.sharpness}
    return slow_placing.affinity(params.affinity, queries, keys, values, outputs, block.prefix, **how)


def test_soft_seeds_hang_on_no_seed_and_tags_that_compete_do_not_overlap(source: FmwissSource, folder: Path) -> None:
    changes: dict[str, Any] = {
        "placing": "soft",
        "classes": "compete",
        "boundaries": "guided",
        "affinity": "qk",
        "fusion": "seeds",
    }
    soft = replace(source, params=replace(source.params, **changes))
    (content,) = proposed(soft, task(folder, 0))
    (again,) = proposed(replace(soft, seed=77), task(folder, 0))
    for category in (0, 2):
        np.testing.assert_array_equal(content.planes["mask"][category], again.planes["mask"][category])
    assert not (content.planes["mask"][0] & content.planes["mask"][2]).any()


def test_inside_regions_attention_stays_in_them(source: FmwissSource, folder: Path) -> None:
    """With the left half as one region and the right as another, what scores on the left alone attends to the left."""
    params = {"placing": "soft", "affinity": "qk", "scope": "regions", "scope_alike": 1.0, "regions": "slic"}
    scoped = replace(source, params=replace(source.params, **params))  # type: ignore[arg-type]
    proposer, one = scoped.open("cpu", 1), task(folder, 0)
    loaded = proposer.load(one)
    assert loaded.regions is not None
    middle = loaded.regions.shape[1] // 2
    halves = torch.zeros_like(loaded.regions)
    halves[:, middle:] = 1
    blocks = (proposer.vit.last_blocks(loaded.vit[None], 1),)
    width = blocks[0][-1].grid[1]
    score = torch.zeros(2, *blocks[0][-1].grid)
    score[:, :, : width // 2 - 1] = 1.0
    attention = proposer.maps(one, score, blocks, 0, halves).attention
    assert attention[..., : width // 2 - 1].min() > 0
    assert attention[..., (width + 1) // 2 + 1 :].max() == 0
    assert proposer.propose([one], [loaded])[0].planes["mask"].keys() == {0, 2}


def test_alike_patches_of_the_vit_vote(source: FmwissSource, folder: Path) -> None:
    """At a cosine of -1 the whole image is one region, above 1 there is one a patch."""
    options: dict[str, Any] = {"regions": "patches", "classes": "compete", "patches_alike": -1.0}
    whole = replace(source, params=replace(source.params, **options))
    assert whole.identity()["parameters"]["patches_alike"] == -1
    (content,) = proposed(whole, task(folder, 0))
    assert all(mask.all() or not mask.any() for mask in content.planes["mask"].values())
    proposer = replace(whole, params=replace(whole.params, patches_alike=1.0)).open("cpu", 1)
    block = proposer.vit.last_block(proposer.load(task(folder, 0)).vit[None])
    regions = proposer.patch_regions(block, 0, SIZES[0])
    assert regions.shape == SIZES[0]
    assert len(regions.unique()) == block.grid[0] * block.grid[1]


def test_clip_says_where_as_well(source: FmwissSource, folder: Path) -> None:
    """The mean of both networks' maps on the ViT's grid."""
    alone = replace(source, params=replace(source.params, placing="soft", affinity="qk", clip_attention=True))
    proposer = alone.open("cpu", 1)
    one = task(folder, 0)
    loaded = proposer.load(one)
    (content,) = proposer.propose([one], [loaded])
    score = torch.stack([torch.from_numpy(content.planes["score"][c]) for c in one.categories]).float()
    with torch.inference_mode():
        _, blocks = proposer.forward([loaded])
        assert len(blocks) == 2
        maps = [proposer._spread(torch.zeros(2, 0, 2).long(), score, each, 0) for each in blocks]
    grid = blocks[0][-1].grid
    maps = [to_pixels(one, *grid) for one in maps]
    mean = torch.stack([one / one.sum(dim=(-2, -1), keepdim=True) for one in maps]).sum(dim=0)
    mean = mean / mean.amax(dim=(-2, -1), keepdim=True)
    for t, category in enumerate(one.categories):
        np.testing.assert_allclose(content.planes["attention"][category], mean[t], atol=5e-3)


def refined_by_loops(content: ImageContent, category: int, one: ImageTask, params: FmwissParams) -> Any:
    """From the kept float16 maps on, since a mask's edge may hang on their rounding."""
    score, attention = (content.planes[name][category].astype(np.float32) for name in ("score", "attention"))
    init = to_pixels(torch.from_numpy(score)[None], one.height, one.width)[0].numpy() >= np.float32(params.threshold)
    kept = slow.keep_top(attention, params.keep_amount, params.keep)
    exact = attention.astype(np.float64)
    by_std = np.float32(exact.mean() + params.keep_amount * exact.std())
    cut = by_std if params.keep == "std" else attention[kept].min()
    seeds = to_pixels(torch.from_numpy(attention)[None], one.height, one.width)[0].numpy() >= cut
    return slow.fuse(init, seeds, params.fusion)


def test_regions_of_a_network_vote_on_the_images_of_a_batch(source: FmwissSource, folder: Path, tmp_path: Path) -> None:
    asked = {"regions": "eomt", "regions_model": str(tiny_networks.eomt(tmp_path / "eomt")), "regions_score": 0.01}
    params = with_values(source.params, {"classes": "compete", "stage_size": 32, **asked}, where="here")
    tasks = [task(folder, 0), task(folder, 0, categories=(1,))]
    image = torch.from_numpy(read_image(tasks[0].record.path)).permute(2, 0, 1)
    pictures = [resize_uint8(image, stage_size(*SIZES[0], params))] * 2
    network = open_region_network(params, "cpu")
    contents = proposed(replace(source, params=params), *tasks)
    for one, content, picture, regions in zip(
        tasks, contents, pictures, batch_regions(network, pictures, [None, None]), strict=True
    ):
        score, attention = (
            torch.from_numpy(np.stack([content.planes[name][c] for c in one.categories]))
            for name in ("score", "attention")
        )
        expected = refine(score, attention, one.height, one.width, params, picture, regions=regions).fused
        for place, category in enumerate(one.categories):
            np.testing.assert_array_equal(content.planes["mask"][category], expected[place].numpy())
    assert replace(source, params=params).identity()["regions_sha256"]


def test_seeds_lie_in_the_foreground_and_belong_to_their_names(source: FmwissSource, folder: Path) -> None:
    (content,) = proposed(source, task(folder, 0))
    for category in (0, 2):
        seeds, score = content.planes["seeds"][category], content.planes["score"][category]
        assert (score[seeds[:, 0], seeds[:, 1]] >= source.params.threshold - 2e-3).all()
        assert content.fallback[category] is False
    (again,) = proposed(source, task(folder, 0, categories=(2,)))
    np.testing.assert_array_equal(again.planes["seeds"][2], content.planes["seeds"][2])
    (other,) = proposed(replace(source, seed=6), task(folder, 0))
    assert any((other.planes["seeds"][c] != content.planes["seeds"][c]).any() for c in (0, 2))


def test_an_empty_foreground_is_flagged_and_still_makes_a_mask(source: FmwissSource, folder: Path) -> None:
    params = replace(source.params, background="softmax", threshold=1.0)
    (content,) = proposed(replace(source, params=params), task(folder, 0))
    assert content.fallback == {0: True, 2: True}
    assert content.area[0] > 0


def test_batch_mates_do_not_change_an_image(source: FmwissSource, folder: Path) -> None:
    first, second = task(folder, 0), task(folder, 0, categories=(1,))
    both = proposed(source, first, second)
    (alone,) = proposed(source, first)
    for category in (0, 2):
        difference = both[0].planes["score"][category].astype(float) - alone.planes["score"][category].astype(float)
        assert np.abs(difference).max() < 2e-3
    assert set(both[1].planes["mask"]) == {1}
    assert both[0].status == Status.DONE


def test_identity_names_all_that_masks_depend_on(source: FmwissSource) -> None:
    def differs(**changes: Any) -> bool:
        return replace(source, **changes).identity() != source.identity()

    assert differs(seed=6)
    assert differs(params=replace(source.params, draws=2))
    assert differs(vit=vit_spec(depth=2))
    assert differs(background_words=("sky",))
    assert differs(classes=CLASSES[:2])
    assert not differs(text=None)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"treshold": "0.5"}, "did you mean threshold"),
        ({"threshold": "2"}, "must be between 0 and 1"),
        ({"threshold": "warm"}, "must be a number"),
        ({"seeds": "1.5"}, "must be a whole number"),
        ({"seeds": 0}, "must be between 1 and 10000"),
        ({"fusion": "xor"}, "choose one of union"),
        ({"clip_size": 7}, "0 \\(the image's own\\) or from 16"),
        ({"keep_amount": 0}, "above 0"),
    ],
)
def test_wrong_parameters_are_refused_in_a_sentence(values: dict[str, Any], words: str) -> None:
    from wilss.params import with_values

    with pytest.raises(ParameterError, match=words):
        with_values(FmwissParams(), values, where="--set")


@pytest.mark.parametrize(
    ("encoders", "said"),
    [
        ({"clip": {"library": "open_clip", "model": "coca_ViT-B-32", "pretrained": "laion2b_s13b_b90k"}}, "CoCa"),
        ({"clip": {"library": "open_clip", "model": "ViT-B-16", "pretrained": "openai"}}, "use model: ViT-B-16-quick"),
        ({"vit": {"library": "timm", "model": "resnet18"}}, "resnet18"),
    ],
)
def test_encoders_that_cannot_be_used_are_refused_before_their_weights_are_asked_for(
    folder: Path, source: FmwissSource, encoders: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `generate`, also with --dry-run."""
    monkeypatch.setattr("wilss.models.encoders.weights.hub_file", lambda *_, **__: pytest.fail("asked for weights"))
    named: dict[str, Any] = {name: EncoderSpec(**values) for name, values in encoders.items()}
    refused = replace(source, **named)
    with pytest.raises(EncoderError, match=said):
        require_known_names(refused)


@pytest.mark.parametrize("form", ["auto", "proxy"])
def test_one_network_for_both_jobs_encodes_an_image_once(
    source: FmwissSource, folder: Path, monkeypatch: pytest.MonkeyPatch, form: Any
) -> None:
    """And makes the masks that two networks of the same weights make; its own patches stand for another's."""
    one, tasks = replace(source, vit=source.clip, params=replace(source.params, form=form)), [task(folder, 0)]
    passes: list[Any] = []
    run = ResblockTrunk.before
    monkeypatch.setattr(ResblockTrunk, "before", lambda *args: (passes.append(args), run(*args))[1])
    together = proposed(one, *tasks)
    assert len(passes) == 1
    opened = one.open("cpu", 1)
    opened.both = None
    apart = opened.propose(tasks, [opened.load(tasks[0])])
    assert len(passes) == 3
    for name, planes in together[0].planes.items():
        for category, plane in planes.items():
            np.testing.assert_array_equal(plane, apart[0].planes[name][category])


def test_it_says_how_often_an_image_is_encoded(source: FmwissSource, folder: Path) -> None:
    one = replace(source, vit=source.clip)
    assert one.encoding.endswith("for both jobs; it encodes each image once")
    larger = replace(one, params=replace(one.params, vit_size=64))
    assert larger.encoding.endswith("twice, since clip_size is 0 and vit_size 64")
    assert len(proposed(larger, task(folder, 0))) == 1
    assert source.encoding.startswith("clip open_clip")


def test_parameters_that_would_change_nothing_are_refused() -> None:
    with pytest.raises(ParameterError, match="kk, vv or outputs with `negatives: cut`"):
        FmwissParams(negatives="cut")
    with pytest.raises(ParameterError, match="auto with `score: gradcam`"):
        FmwissParams(score="gradcam", form="value")


def test_more_blocks_than_there_are_is_told_before_an_image_is_read(source: FmwissSource) -> None:
    asked = replace(source, params=replace(source.params, attention_blocks=99))
    with pytest.raises(EncoderError, match="blocks, not 99; ask for 1 to"):
        asked.grids(40, 32)
    of_clip = replace(asked, vit=source.clip)
    with pytest.raises(EncoderError, match="blocks, not 99; ask for 1 to"):
        of_clip.grids(40, 32)
