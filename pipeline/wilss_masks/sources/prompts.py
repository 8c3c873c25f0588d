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

#: CLIP-ES's for COCO.
COCO_WORDS = tuple(word for word in BACKGROUND_WORDS if word not in ("keyboard", "sign"))

#: For scenes, where most of a picture has a name: those of COCO-Stuff (Caesar et al., CVPR 2018) that are told apart by
#: their material or kind are one here, and are put as one says them: a choice of ours.
STUFF_WORDS = (
    *("banner", "blanket", "branch", "bridge", "building", "bush", "cabinet", "cage", "cardboard", "carpet", "ceiling"),
    *("cloth", "clothes", "cloud", "counter", "cupboard", "curtain", "desk", "dirt", "door", "fence", "floor"),
    *("flower", "fog", "food", "fruit", "furniture", "grass", "gravel", "ground", "hill", "house", "leaves", "light"),
    *("mat", "metal", "mirror", "moss", "mountain", "mud", "napkin", "net", "paper", "pavement", "pillow", "plant"),
    *("plastic", "platform", "playing field", "railing", "railroad", "river", "road", "rock", "roof", "rug", "salad"),
    *("sand", "sea", "shelf", "sky", "skyscraper", "snow", "stairs", "stone", "straw", "table", "tent", "towel"),
    *("tree", "vegetable", "wall", "water", "waterdrops", "window blind", "window", "wood"),
)

#: Background words by what `words` calls them.
WORDS = {"package": BACKGROUND_WORDS, "voc": BACKGROUND_WORDS, "coco": COCO_WORDS, "stuff": STUFF_WORDS}

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
    """What stands for the background: the words of a manifest, a list of the package, or both.

    A list's are those of WORDS without the prompt names of `classes`: a class is not its own background. Of `coco` and
    `stuff` also a word is left out by which a prompt name ends, as "table" by "dining table".
    own: a manifest's words, None where it has none. which: see `FmwissParams.words`.
    """
    taken = {name.lower() for names in classes for name in names}
    if which in ("coco", "stuff"):
        taken |= {name.rpartition(" ")[2] for name in taken}
    package = tuple(word for word in WORDS.get(which, BACKGROUND_WORDS) if word not in taken)
    if own is None or which in WORDS:
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
