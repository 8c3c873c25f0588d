import hashlib
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors.torch import save_file

from tests.wilss.models.encoders import tiny
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError, WeightsError
from wilss.models.encoders import weights
from wilss.models.encoders.clip.encoder import open_clip_encoder
from wilss.models.encoders.hub import hub_file, why_offline
from wilss.models.encoders.identity import identity_of
from wilss.models.encoders.look import looks_like
from wilss.models.encoders.multiples import input_multiple
from wilss.models.encoders.weights import load_strictly
from wilss.models.shapes_only import shapes_only
from wilss.models.tensor_files import read_tensors


@pytest.fixture
def saved(tmp_path):
    """A tiny CLIP's config and weights on disk, and its state."""
    encoder = open_clip_encoder(tiny.clip_spec(tmp_path), "cpu")
    path = tmp_path / "clip.safetensors"
    save_file(encoder.network.state_dict(), path)
    return path, encoder.network.state_dict()


def local(path, **more):
    return EncoderSpec(library="open_clip", config=str(path.parent / "clip.json"), file=str(path), **more)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- whole and right ----------------------------------------------------------------------------------------


def test_local_weights_with_an_own_config_compute_what_was_saved(saved, tmp_path):
    path, _ = saved
    loaded = open_clip_encoder(local(path, sha256=sha256(path).upper()), "cpu")
    images = tiny.images(1, 32, 32)
    assert torch.equal(loaded.features(images), open_clip_encoder(tiny.clip_spec(tmp_path), "cpu").features(images))
    assert loaded.digest == sha256(path)
    assert loaded.identity["config"] == sha256(tmp_path / "clip.json")
    json.dumps(dict(loaded.identity))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}])
def test_checkpoints_of_trainers_load_too(saved, wrap):
    path, state = saved
    torch.save(wrap(state | {"input_resolution": torch.tensor(32)}), path.with_suffix(".pt"))
    assert open_clip_encoder(local(path.with_suffix(".pt")), "cpu").digest == sha256(path.with_suffix(".pt"))


def test_weights_of_the_flat_form_load_into_a_custom_text_tower(saved):
    path, _ = saved
    tiny.clip_config(path.parent, custom_text=True)
    assert open_clip_encoder(local(path), "cpu").text(["a dog"]).shape == (1, 24)


def test_a_wrong_digest_names_both(saved):
    path, _ = saved
    with pytest.raises(WeightsError) as caught:
        open_clip_encoder(local(path, sha256="0" * 64), "cpu")
    assert sha256(path) in str(caught.value)
    assert "the manifest says " + "0" * 64 in str(caught.value)
    with pytest.raises(WeightsError, match=r"but a\.lock\.yaml says"):
        open_clip_encoder(local(path).held_to("0" * 64, "a.lock.yaml"), "cpu")


def test_a_digest_is_computed_once_and_again_when_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"one")
    first = weights.sha256_of(path)
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read twice"))
    assert weights.sha256_of(path) == first
    monkeypatch.undo()
    path.write_bytes(b"other")
    assert weights.sha256_of(path) == hashlib.sha256(b"other").hexdigest() != first


def test_a_wrong_digest_is_found_before_anything_is_read(tmp_path, monkeypatch):
    (tmp_path / "w.pt").write_bytes(b"anything")
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("read first"))
    with pytest.raises(WeightsError, match="but the manifest says"):
        open_clip_encoder(
            EncoderSpec(
                library="open_clip",
                config=str(tiny.clip_config(tmp_path)),
                file=str(tmp_path / "w.pt"),
                sha256="0" * 64,
            ),
            "cpu",
        )


# -- damaged and foreign ------------------------------------------------------------------------------------


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_a_pickle_that_wants_to_run_code_does_not(tmp_path, form):
    path, target = tmp_path / "w.pt", tmp_path / "was-run"
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(Attack(target)))
    else:
        torch.save({"a": Attack(target)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(WeightsError, match=r"never loaded|no whole checkpoint"):
        read_tensors(path)
    assert not target.exists()


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".pth", ".bin", ".npz"])
@pytest.mark.parametrize("keep", [0, 1, 7, 100, 0.5, 0.999])
def test_truncated_and_empty_files_are_refused(tmp_path, ending, keep):
    path = tmp_path / f"w{ending}"
    if ending == ".npz":
        np.savez(path, a=np.ones(500))
    else:
        (save_file if ending == ".safetensors" else torch.save)({"a": torch.ones(500)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if isinstance(keep, int) else int(keep * len(whole))])
    with pytest.raises(WeightsError, match=str(path)):
        read_tensors(path)


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".npz"])
def test_files_of_another_kind_are_refused(tmp_path, ending):
    path = tmp_path / f"w{ending}"
    for content in (b"\x89PNG\r\n\x1a\n" + bytes(200), b"<html>not found</html>", bytes(4096)):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=str(path)):
            read_tensors(path)


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".bin", ".npz"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 9\n",
            r"is a pointer of Git LFS.*git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html><head><title>Sign in", "is a web page or XML, not weights"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "is a web page or XML, not weights"),
    ],
)
def test_what_a_failed_download_leaves_is_told(tmp_path, ending, content, said):
    path = tmp_path / f"w{ending}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=said):
        read_tensors(path)


def test_a_truncated_checkpoint_is_told_in_whole_sentences(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"a": torch.ones(5000)}, path)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(WeightsError) as caught:
        read_tensors(path)
    assert re.fullmatch(
        r".*w\.pth is no whole checkpoint \([^()]+\); it is truncated or damaged, fetch it again\.", str(caught.value)
    )
    assert len(str(caught.value)) < len(str(path)) + 150


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("vit_tiny_patch16_224", "width 192, depth 12 and patches of 16 pixels, such as timm's vit_tiny_patch16_224"),
        ("vit_small_patch14_reg4_dinov2", "a vision transformer of width 384, depth 12 and patches of 14 pixels"),
        ("resnet18", "a ResNet"),
        ("convnext_atto", "a ConvNeXt"),
    ],
)
def test_another_models_file_is_told_by_what_it_looks_like(name, told):
    with shapes_only():
        tensors = timm.create_model(name).state_dict()
    assert looks_like(tensors).endswith(told)
    network = torch.nn.Linear(2, 2)
    with pytest.raises(WeightsError) as caught:
        load_strictly(network, tensors, "w.pth")
    assert str(caught.value).endswith(f"it looks like {looks_like(tensors)}.")
    assert len(str(caught.value)) < 420
    assert looks_like({"weight": torch.ones(2)}) == ""


def test_a_zip_that_is_no_checkpoint_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match="no whole checkpoint"):
        read_tensors(tmp_path / "w.pt")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_is_read_as_it_was_saved(tmp_path, save):
    arrays = {"a.weight": np.asfortranarray(np.random.default_rng(0).normal(size=(7, 5))), "t": np.float32(0.5)}
    save(tmp_path / "w.npz", **arrays, big=np.arange(6, dtype=">i4"))
    found = read_tensors(tmp_path / "w.npz")
    assert torch.equal(found["a.weight"], torch.from_numpy(arrays["a.weight"]))
    assert (found["t"].shape, found["t"].item(), found["big"].tolist()) == ((), 0.5, [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.array([SimpleNamespace()], dtype=object), "of the type object, which no weights are"),
        (np.zeros(3, np.longdouble), "of the type float128, which no weights are"),
        (np.array(["text"]), "of the type <U4, which no weights are"),
        (np.zeros(3, dtype=[("a", "<f4")]), r"of the type \[.*\], which no weights are"),
    ],
)
def test_an_npz_of_no_numbers_is_refused_unread(tmp_path, array, told):
    np.savez(tmp_path / "w.npz", a=array)
    with pytest.raises(WeightsError, match=rf"w\.npz: a\.npy is {told}"):
        read_tensors(tmp_path / "w.npz")


@pytest.mark.parametrize("content", [torch.ones(3), [torch.ones(3)], {}])
def test_a_checkpoint_without_a_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="no dict of tensors"):
        read_tensors(tmp_path / "w.pt")


def test_an_unknown_ending_a_folder_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "w.onnx").touch()
    with pytest.raises(WeightsError, match="convert it to .safetensors"):
        read_tensors(tmp_path / "w.onnx")
    with pytest.raises(WeightsError, match="is not a file"):
        weights.resolve(tmp_path)
    with pytest.raises(WeightsError, match="does not exist or may not be read"):
        weights.resolve(tmp_path / "nothing.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(saved, value):
    path, state = saved
    state = {name: tensor.clone() for name, tensor in state.items()}
    state["visual.ln_post.weight"][3] = value
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"NaN or infinite values in visual\.ln_post\.weight"):
        open_clip_encoder(local(path), "cpu")


def test_weights_of_another_network_are_refused_by_name(saved):
    path, state = saved
    state = dict(state)
    del state["visual.proj"], state["ln_final.bias"]
    state["visual.conv1.weight"] = torch.zeros(32, 3, 16, 16)
    state |= {f"decoder.{i}": torch.zeros(1) for i in range(9)}
    save_file(state, path)
    with pytest.raises(WeightsError) as caught:
        open_clip_encoder(local(path), "cpu")
    for part in (
        "2 missing (ln_final.bias, visual.proj)",
        "9 unexpected (decoder.0, decoder.1, ...)",
        "visual.conv1.weight is [32, 3, 16, 16], the network has [32, 3, 8, 8]",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_config_is_refused(tmp_path):
    for content in (b"{", b"[1]", b"\xff\xfe"):
        (tmp_path / "c.json").write_bytes(content)
        with pytest.raises(WeightsError, match=r"c\.json"):
            weights.read_config(tmp_path / "c.json")


# -- names --------------------------------------------------------------------------------------------------


def test_builtin_names_stay_in_their_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "BUILTIN", tmp_path / "builtin")
    (tmp_path / "builtin").mkdir()
    (tmp_path / "builtin" / "clip.safetensors").write_bytes(b"x")
    (tmp_path / "secret.json").write_text("{}")
    assert weights.resolve("builtin:clip.safetensors").read_bytes() == b"x"
    for name in ("builtin:../secret.json", "builtin:", "builtin:..", f"builtin:{tmp_path / 'secret.json'}"):
        with pytest.raises(WeightsError, match=r"one of clip\.safetensors"):
            weights.resolve(name)
    with pytest.raises(WeightsError, match=r"the built-in files are clip\.safetensors"):
        weights.resolve("builtin:vit.safetensors")


def test_untrained_weights_have_a_seed_and_a_digest_of_what_they_are_made_from(tmp_path):
    specs = [tiny.vit_spec(), tiny.vit_spec(depth=2), EncoderSpec(library="timm", args=tiny.DINO, pretrained="random")]
    assert len({weights.digest_of(spec) for spec in specs}) == 3
    assert weights.digest_of(specs[0]) == weights.digest_of(tiny.vit_spec())
    assert [weights.random_seed(spec) for spec in specs] == [1, 1, 0]
    with pytest.raises(EncoderError, match="random:0"):
        weights.random_seed(EncoderSpec(library="timm", args=tiny.DINO, pretrained="random:x"))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"library": "open_clip", "model": "ViT-B-16-quickgelu"}, 16),
        ({"library": "open_clip", "model": "ViT-L-14"}, 14),
        ({"library": "open_clip", "model": "RN50x4"}, 32),
        ({"library": "timm", "model": "vit_small_patch8_224.dino"}, 8),
        ({"library": "timm", "model": "vit_small_patch16_224", "args": {"patch_size": 12}}, 12),
        ({"library": "timm", "args": {}}, 16),
        ({"library": "timm", "model": "vit_small_r26_s32_224"}, 32),
        ({"library": "timm", "model": "vit_small_resnet50d_s16_224"}, 16),
        ({"library": "timm", "model": "vit_small_resnet26d_224"}, 32),
        ({"library": "timm", "model": "vit_base_mci_224"}, 16),
    ],
)
def test_input_multiples_are_read_off_names_and_configs(spec, expected):
    assert input_multiple(EncoderSpec(**spec)) == expected


def test_input_multiples_are_those_of_the_opened_networks(tmp_path):
    from wilss.models.encoders.vit.encoder import open_vit

    for vision in (tiny.VIT, tiny.RESNET):
        spec = tiny.clip_spec(tmp_path, vision)
        assert input_multiple(spec) == open_clip_encoder(spec, "cpu").patch
    assert input_multiple(tiny.vit_spec()) == open_vit(tiny.vit_spec(), "cpu").patch == 8


def test_multiples_and_local_digests_need_no_torch(saved):
    path, _ = saved
    code = (
        "import sys\n"
        "from wilss.data.manifest import EncoderSpec\n"
        "from wilss.models.encoders.multiples import input_multiple\n"
        "from wilss.models.encoders.weights import digest_of\n"
        f"files = dict(config={str(path.parent / 'clip.json')!r}, file={str(path)!r})\n"
        "own = EncoderSpec(library='open_clip', **files)\n"
        "hub = EncoderSpec(library='open_clip', model='ViT-B-16')\n"
        "print(input_multiple(own), input_multiple(hub), digest_of(own))\n"
        "assert 'torch' not in sys.modules and 'open_clip' not in sys.modules\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["8", "16", sha256(path)]


# -- the hub ------------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache, and a hub that is counted but never reached."""
    hub = SimpleNamespace(
        calls=[], cache=tmp_path / "hub", revisions=[], answer=LocalEntryNotFoundError("no connection")
    )

    def download(repository, name, revision=None):
        hub.calls.append((repository, name))
        hub.revisions.append(revision)
        raise hub.answer

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub.cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr("wilss.models.encoders.hub.why_offline", lambda endpoint: None)
    return hub


def put(hub, repository, name, content=b"weights", revision="main"):
    """A file in the hub's cache, as its client lays it out."""
    folder = hub.cache / f"models--{repository.replace('/', '--')}"
    commit = hashlib.sha1(revision.encode()).hexdigest()
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / revision).write_text(commit)
    path = folder / "snapshots" / commit / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


OPENAI = EncoderSpec(library="open_clip", model="ViT-B-16-quickgelu", pretrained="openai")
DINO = EncoderSpec(library="timm", model="vit_small_patch16_224.dino")


@pytest.mark.parametrize(
    ("spec", "repository", "name"),
    [
        (OPENAI, "timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors"),
        (DINO, "timm/vit_small_patch16_224.dino", "model.safetensors"),
        (EncoderSpec(library="open_clip", model="hf-hub:some/clip"), "some/clip", "open_clip_pytorch_model.bin"),
    ],
)
def test_what_is_in_the_cache_is_used_without_asking_the_hub(hub, spec, repository, name):
    path = put(hub, repository, name)
    assert weights.weights_file(spec) == path
    assert weights.digest_of(spec) == hashlib.sha256(b"weights").hexdigest()
    assert hub.calls == []


def test_safetensors_come_before_pickles(hub):
    put(hub, "timm/vit_small_patch16_224.dino", "pytorch_model.bin")
    path = put(hub, "timm/vit_small_patch16_224.dino", "model.safetensors")
    assert weights.weights_file(DINO) == path


def test_a_revision_is_its_own_entry(hub):
    put(hub, "a/b", "w.safetensors", b"old")
    new = put(hub, "a/b", "w.safetensors", b"new", revision="v2")
    assert hub_file("a/b", ["w.safetensors"], "v2") == new


def test_the_hub_is_asked_for_the_pinned_revision(hub):
    put(hub, "timm/vit_small_patch16_224.dino", "model.safetensors")  # of another revision
    pinned = EncoderSpec(library="timm", model="vit_small_patch16_224.dino", revision="0123abc")
    with pytest.raises(WeightsError, match="could not be fetched"):
        weights.weights_file(pinned)
    assert hub.revisions == ["0123abc"]


def test_offline_nothing_is_asked_for(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for spec in (OPENAI, DINO):
        with pytest.raises(WeightsError, match="offline, and the weights of .* are not in the cache; pass `file:`"):
            weights.digest_of(spec)
    assert hub.calls == []


def test_offline_the_sentence_names_the_file_that_is_missing(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    here = EncoderSpec(library="open_clip", model="hf-hub:some/clip", file=str(tmp_path / "w.safetensors"))
    for ask in (identity_of, input_multiple):
        with pytest.raises(WeightsError, match=r"config of some/clip \(open_clip_config\.json\) is not") as caught:
            ask(here.model_copy(update={"file": "builtin:clip.safetensors"}))
        assert "pass `config:`" in str(caught.value)
        assert "`file:`" not in str(caught.value)


def test_without_a_connection_the_hub_is_asked_once(hub):
    with pytest.raises(WeightsError, match="could not be fetched"):
        weights.weights_file(DINO)
    assert len(hub.calls) == 1


def test_where_nobody_answers_the_hub_is_not_asked(hub, monkeypatch):
    monkeypatch.setattr("wilss.models.encoders.hub.why_offline", lambda endpoint: f"{endpoint} does not answer")
    with pytest.raises(WeightsError, match=r"offline \(https://huggingface.co does not answer\), and the weights of "):
        weights.weights_file(DINO)
    assert hub.calls == []


@pytest.mark.parametrize(
    ("proxy", "called"),
    [({}, ("huggingface.co", 443)), ({"HTTPS_PROXY": "http://gate:3128"}, ("gate", 3128)),
     ({"ALL_PROXY": "gate:1080"}, ("gate", 1080)),
     ({"HTTPS_PROXY": "http://gate:3128", "NO_PROXY": "huggingface.co"}, ("huggingface.co", 443))],
)  # fmt: skip
def test_one_call_goes_where_the_client_would(monkeypatch, proxy, called):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in proxy.items():
        monkeypatch.setenv(name, value)
    calls = []

    def refused(address, timeout):
        calls.append(address)
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr("socket.create_connection", refused)
    assert why_offline("https://huggingface.co") == f"{called[0]}: Network is unreachable"
    assert calls == [called]


def test_an_open_port_is_an_answer():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert why_offline(f"http://127.0.0.1:{server.getsockname()[1]}") is None


def test_a_name_server_that_says_nothing_is_not_waited_for(monkeypatch):
    never = threading.Event()

    def silent(*_, **__):
        never.wait()
        raise OSError

    monkeypatch.setattr("wilss.models.encoders.hub._SECONDS", 0.05)
    monkeypatch.setattr("socket.create_connection", silent)
    assert why_offline("https://huggingface.co") == "https://huggingface.co does not answer"
    never.set()


def test_a_repository_without_safetensors_is_asked_for_the_other_file(hub):
    response = type("Response", (), {"headers": {}, "request": None, "status_code": 404})()
    hub.answer = RemoteEntryNotFoundError("404", response=response)
    with pytest.raises(WeightsError, match="could not be fetched"):
        weights.weights_file(DINO)
    assert [name for _, name in hub.calls] == ["model.safetensors", "pytorch_model.bin"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"library": "open_clip", "model": "ViT-B-16-quickgelu"}, "use one of openai"),
        ({"library": "open_clip", "model": "ViT-B-16", "pretrained": "nothing"}, "use one of openai"),
        ({"library": "timm", "model": "vit_of_no_kind"}, "use a tagged one"),
        ({"library": "timm", "args": tiny.DINO}, "use a tagged one"),
    ],
)
def test_a_spec_that_names_no_weights_is_refused(hub, spec, said):
    with pytest.raises(EncoderError, match=said):
        weights.weights_file(EncoderSpec(**spec))
    assert hub.calls == []


def test_a_hub_encoder_opens_from_the_cache_alone(hub, saved):
    path, _ = saved
    put(hub, "some/clip", "open_clip_config.json", (path.parent / "clip.json").read_bytes())
    put(hub, "some/clip", "open_clip_model.safetensors", path.read_bytes())
    encoder = open_clip_encoder(EncoderSpec(library="open_clip", model="hf-hub:some/clip"), "cpu")
    assert encoder.digest == sha256(path)
    assert encoder.identity["config"] == sha256(path.parent / "clip.json")
    assert hub.calls == []
