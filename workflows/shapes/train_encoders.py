"""Train the encoders that wilss-masks carries, the trainer's backbone, and the CAM network of the table of masks.

    python workflows/shapes/train_encoders.py clip
    python workflows/shapes/train_encoders.py vit
    python workflows/shapes/train_encoders.py export
    python workflows/shapes/train_encoders.py backbone
    python workflows/shapes/train_encoders.py cam

A run can be stopped at any time; the same command goes on from its last checkpoint. Nothing is downloaded.
"""

import os
import pickle
from pathlib import Path
from typing import Any

import click
import torch
from recipe import data
from recipe.training import Facts
from safetensors.torch import save_file

from wilss.data.shapes import Drawing, Style, draw

HERE = Path(__file__).resolve().parent
PACKAGED = HERE.parents[1] / "pipeline/wilss/models/encoders/builtin"
BACKBONE = HERE.parents[1] / "pipeline/wilss/models/encoders/builtin/backbone.safetensors"


def drawings(folder: Path, count: int) -> list[Drawing]:
    """The training pictures; drawn once, since a restart would otherwise wait a minute for them."""
    path = folder / f"pictures-{data.TRAINING_SEED}-{count}.pickle"
    if path.exists():
        found: list[Drawing] = pickle.loads(path.read_bytes())
        return found
    made = data.pictures(count)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(pickle.dumps(made))
    partial.replace(path)
    return made


@click.group(context_settings={"show_default": True})
@click.option("--out", type=click.Path(path_type=Path), default=HERE / "results", help="Checkpoints and pictures.")
@click.option("--threads", default=os.cpu_count() or 1, help="Threads of torch.")
@click.option("--pictures", default=12000, help="Training pictures to draw.")
@click.pass_context
def main(context: click.Context, out: Path, threads: int, pictures: int) -> None:
    """Train, then export, the built-in encoders."""
    torch.set_num_threads(threads)
    torch.backends.cuda.enable_flash_sdp(False)  # on CPUs too: its bf16 backward takes half of a step
    context.obj = (out, pictures)


def facts(batch: int) -> Facts:
    """What the checkpoint of the command at work says about its making."""
    context = click.get_current_context()
    options = " ".join(f"--{name} {value}" for name, value in context.params.items())
    command = f"python workflows/shapes/train_encoders.py {context.info_name} {options}"
    return {"command": command, "batch": batch, "threads": torch.get_num_threads()}


@main.command()
@click.option("--steps", default=9000)
@click.option("--batch", default=64)
@click.option("--lr", default=2e-3)
@click.option("--dropout", default=0.5, help="Share of patches dropped, until the last 15% of the steps.")
@click.option("--copies", default=3, help="Views of the same tags in a batch, at most.")
@click.option("--seed", default=0)
@click.pass_obj
def clip(obj: tuple[Path, int], /, batch: int, **options: Any) -> None:
    """The image-text encoder, with open_clip's contrastive loss."""
    from recipe import clip as recipe

    out, count = obj
    recipe.train(drawings(out, count), out / "clip.pt", batch=batch, facts=facts(batch), **options)


@main.command()
@click.option("--steps", default=1700)
@click.option("--batch", default=16)
@click.option("--lr", default=1.5e-3)
@click.option("--seed", default=0)
@click.pass_obj
def vit(obj: tuple[Path, int], /, batch: int, **options: Any) -> None:
    """The self-supervised transformer: DINO and co-occurrence; reads no label and no tag."""
    from recipe import vit as recipe

    out, count = obj
    recipe.train(drawings(out, count), out / "vit.pt", batch=batch, facts=facts(batch), **options)


@main.command()
@click.option("--steps", default=2000)
@click.option("--batch", default=64)
@click.option("--lr", default=2e-3)
@click.option("--seed", default=0)
@click.pass_obj
def cam(obj: tuple[Path, int], /, batch: int, **options: Any) -> None:
    """The control: a small CNN trained on the tags, whose activation maps stand beside our masks."""
    from recipe import cam as recipe

    out, count = obj
    network = recipe.train(drawings(out, count), out / "cam.pt", batch=batch, facts=facts(batch), **options)
    save_file(network.state_dict(), out / "cam.safetensors")
    single = [draw(data.HELD_OUT_SEED, i, Style(objects=(1, 1))) for i in range(500)]
    print(f"top-1 on {len(single)} held-out pictures of one object: {recipe.top1(network, single):.3f}")


@main.command()
@click.option("--steps", default=6000)
@click.option("--batch", default=64)
@click.option("--lr", default=2e-3)
@click.option("--seed", default=0)
@click.pass_obj
def backbone(obj: tuple[Path, int], /, batch: int, **options: Any) -> None:
    """The segmenter's backbone: a small ResNet trained on the tags, written into the package."""
    from recipe import backbone as recipe

    out, count = obj
    network = recipe.train(drawings(out, count), out / "backbone.pt", batch=batch, facts=facts(batch), **options)
    recipe.export(network, BACKBONE)
    single = [draw(data.HELD_OUT_SEED, i, Style(objects=(1, 1))) for i in range(500)]
    print(f"top-1 on {len(single)} held-out pictures of one object: {recipe.top1(network, single):.3f}")


@main.command()
@click.option("--package", type=click.Path(path_type=Path), default=PACKAGED, help="Where the encoders go.")
@click.option("--remark", default="", help="A sentence for the page about how the run went.")
@click.pass_obj
def export(obj: tuple[Path, int], package: Path, remark: str) -> None:
    """Write the last checkpoints into the package, in half precision, with their digests and figures."""
    from recipe.export import export as write

    for name, found in write(obj[0], package, remark).items():
        print(name, *(f"{key}={value}" for key, value in found.items()), sep="\n  ")


if __name__ == "__main__":
    main()
