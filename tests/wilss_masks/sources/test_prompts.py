import pytest

from wilss.errors import EncoderError
from wilss_masks.sources import prompts


def test_the_eighty_templates_are_open_clips() -> None:
    found = prompts.templates("openai")
    assert len(found) == len(set(found)) == 80
    assert found[0] == "a bad photo of a {}."
    assert all(template.count("{}") == 1 for template in found)


def test_maskclip_adds_five() -> None:
    assert prompts.templates("maskclip") == prompts.templates("openai") + prompts.MASKCLIP_TEMPLATES
    assert len(set(prompts.templates("maskclip"))) == 85


def test_plain_needs_one_and_anything_else_is_refused() -> None:
    assert prompts.templates("plain") == ("a photo of a {}.",)
    with pytest.raises(EncoderError, match="openai, maskclip or plain"):
        prompts.templates("all")


def test_the_background_words_are_those_of_clip_es() -> None:
    assert len(set(prompts.BACKGROUND_WORDS)) == 25


def test_a_class_is_not_its_own_background() -> None:
    words = prompts.background_words([("Bridge", "viaduct"), ("dog",)])
    assert "bridge" not in words
    assert len(words) == 24
    assert prompts.background_words() == prompts.BACKGROUND_WORDS


def test_words_of_a_data_set_stand_in_the_place_of_a_manifests_own() -> None:
    assert prompts.background_words((), ("mine",), "voc") == prompts.BACKGROUND_WORDS
    coco = prompts.background_words((), ("mine",), "coco")
    assert len(coco) == 23
    assert set(prompts.BACKGROUND_WORDS) - set(coco) == {"keyboard", "sign"}
    assert prompts.background_words((), ("mine",), "own") == ("mine",)


def test_what_a_class_is_called_by_its_last_word_is_no_background_either() -> None:
    words = prompts.background_words([("dining table",), ("potted plant",), ("Sky",)], None, "stuff")
    assert not {"table", "plant", "sky"} & set(words)
    assert "floor" in words
    assert len(words) == len(set(words)) == len(prompts.STUFF_WORDS) - 3


def test_names_that_are_no_prompts_have_some() -> None:
    assert prompts.prompt_names("pottedplant") == ("potted plant",)
    assert prompts.prompt_names("dog") == ("dog",)
    assert all(names and all(name.strip() for name in names) for names in prompts.SYNONYMS.values())


def test_every_synonym_is_of_a_class_that_there_is() -> None:
    from wilss.data.taxonomy import COCO, VOC

    assert set(prompts.SYNONYMS) <= {*VOC.class_names, *COCO.class_names}
