"""What the text tower is asked: templates, words for the background, and names of classes that are good prompts.

Data only. A class id is not a prompt: "pottedplant" is split by no tokenizer into "potted plant". A manifest's own
`prompts` and `background_prompts` come before everything here.
"""

from collections.abc import Sequence

from wilss.errors import EncoderError

#: The five that MaskCLIP (Zhou et al., ECCV 2022) adds to OpenAI's; they go back to ViLD (Gu et al., ICLR 2022).
MASKCLIP_TEMPLATES = (
    "there is a {} in the scene.",
    "there is the {} in the scene.",
    "this is a {} in the scene.",
    "this is the {} in the scene.",
    "this is one {} in the scene.",
)

#: The 25 background words of CLIP-ES (Lin et al., CVPR 2023) for VOC. For COCO it leaves out "keyboard" and "sign".
BACKGROUND_WORDS = (
    "ground",
    "land",
    "grass",
    "tree",
    "building",
    "wall",
    "sky",
    "lake",
    "water",
    "river",
    "sea",
    "railway",
    "railroad",
    "keyboard",
    "helmet",
    "cloud",
    "house",
    "mountain",
    "ocean",
    "road",
    "rock",
    "street",
    "valley",
    "bridge",
    "sign",
)

#: Prompt names of the VOC and COCO classes whose own name is a poor or an ambiguous prompt: a choice of ours.
SYNONYMS: dict[str, tuple[str, ...]] = {
    # VOC
    "aeroplane": ("airplane", "aeroplane"),
    "diningtable": ("dining table",),
    "motorbike": ("motorbike", "motorcycle"),
    "person": ("person", "people", "human"),
    "pottedplant": ("potted plant",),
    "sofa": ("sofa", "couch"),
    "tvmonitor": ("tv monitor", "television"),
    # COCO
    "couch": ("couch", "sofa"),
    "tv": ("television", "tv monitor"),
    "mouse": ("computer mouse",),
    "remote": ("remote control",),
    "cell phone": ("cell phone", "mobile phone"),
    "tie": ("necktie",),
    "orange": ("orange fruit",),
    "sports ball": ("sports ball", "ball"),
    "donut": ("donut", "doughnut"),
    "hair drier": ("hair dryer",),
    "skis": ("skis", "pair of skis"),
    "refrigerator": ("refrigerator", "fridge"),
}


def prompt_names(class_name: str) -> tuple[str, ...]:
    """The prompt names of a class of VOC or COCO; any other class is prompted by its own name."""
    return SYNONYMS.get(class_name, (class_name,))


def background_words(
    classes: Sequence[Sequence[str]] = (), own: Sequence[str] | None = None, which: str = "own"
) -> tuple[str, ...]:
    """What stands for the background: the words of a manifest, the package's, or both.

    The package's are BACKGROUND_WORDS without those that are prompt names of `classes`: a class is not its own
    background. own: a manifest's words, None where it has none. which: see `FmwissParams.words`.
    """
    taken = {name.lower() for names in classes for name in names}
    package = tuple(word for word in BACKGROUND_WORDS if word not in taken)
    if own is None or which == "package":
        return package
    return tuple(dict.fromkeys((*own, *package))) if which == "both" else tuple(own)


def templates(name: str = "openai") -> tuple[str, ...]:
    """A set of templates, each with `{}` where the class's name goes.

    openai:   the 80 of OpenAI's ImageNet notebook, as open_clip holds them.
    maskclip: those and MaskCLIP's five.
    plain:    "a photo of a {}." alone: quick, for a first look and for small text towers.
    """
    if name == "plain":
        return ("a photo of a {}.",)
    if name not in ("openai", "maskclip"):
        raise EncoderError(f"there is no set of templates {name!r}; use openai, maskclip or plain.")
    import open_clip

    openai = tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
    return openai + MASKCLIP_TEMPLATES if name == "maskclip" else openai
