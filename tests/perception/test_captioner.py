import numpy as np
import pytest

from ag2_ns.core.errors import UserError
from ag2_ns.perception.caption_tags import noun_tags
from ag2_ns.perception.tagger import Tagger, make_tagger

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    """A BLIP of tiny size with random weights, its processor and vocabulary, as a folder."""
    from transformers import (
        BertTokenizerFast,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder = tmp_path_factory.mktemp("blip")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "mug", "plate", "lamp", "chair"]
    (folder / "vocab.txt").write_text("\n".join(words))
    text = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 10,
    }
    text |= {"encoder_hidden_size": 16, "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    vision |= {"image_size": 32, "patch_size": 16}
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    images = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(images, BertTokenizerFast(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


def test_captions_of_picture_and_quarters(blip):
    tagger = make_tagger("captioner", model=blip, tokens=4, beams=1)
    assert isinstance(tagger, Tagger) and tagger.needs_image
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    captions = tagger.captions(image)
    assert len(captions) == 5 and all(isinstance(c, str) for c in captions)
    named = {w for caption in captions for w in noun_tags(caption)}
    assert {w for w, _ in tagger.tag(image, "v", None, None)} == named
    assert len(make_tagger("captioner", model=blip, tokens=2, beams=1, grid=1).captions(image)) == 1


def test_a_missing_or_damaged_model_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no captioning model"):
        make_tagger("captioner", model=tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "blip"}')
    with pytest.raises(UserError, match="not a captioning model"):
        make_tagger("captioner", model=tmp_path)
