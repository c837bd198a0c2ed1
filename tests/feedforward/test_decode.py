import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.feedforward.decode import ClipCap, words_in

WORDS = ["car", "road", "tree", "bus"]


def test_the_words_of_a_mixture_are_found(generator):
    texts = torch.nn.functional.normalize(torch.randn(4, 32, generator=generator), dim=1)
    vectors = torch.stack([texts[0] + 0.6 * texts[1], texts[2], torch.zeros(32), torch.full((32,), torch.nan)])
    found = words_in(vectors, WORDS, texts)
    assert [w for w, _ in found[0]] == ["car", "road"]
    assert found[0][0][1] / found[0][1][1] == pytest.approx(1 / 0.6, rel=1e-3)
    assert [w for w, _ in found[1]] == ["tree"]
    assert found[2:] == [[], []]


def tiny_gpt():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=20, n_positions=90, n_embd=8, n_layer=1, n_head=2)
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def test_captions_stop_and_are_greedy():
    torch.manual_seed(0)
    model = ClipCap(tiny_gpt(), in_dim=6, width=8, prefix=3)
    vector = torch.randn(6)
    tokens = model.token_ids(vector, stop=-1, most=5)
    assert len(tokens) == 5
    assert model.token_ids(vector, stop=tokens[0]) == tokens[:1]
    with torch.no_grad():
        first = model.gpt(inputs_embeds=model.clip_project(vector[None]).reshape(1, 3, 8)).logits[0, -1].argmax()
    assert int(first) == tokens[0]


def test_published_weights_load_by_their_names(tmp_path):
    transformers = pytest.importorskip("transformers")
    gpt = tiny_gpt()
    gpt.config.save_pretrained(tmp_path)
    words = {chr(33 + k): k for k in range(20)}
    import json

    (tmp_path / "vocab.json").write_text(json.dumps(words | {"<|endoftext|>": 19}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    transformers.GPT2Tokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")).save_pretrained(tmp_path)
    model = ClipCap(gpt, in_dim=6, width=8)
    state = {k.replace("clip_project.", "clip_project.model."): v for k, v in model.state_dict().items()}
    torch.save(state, tmp_path / "clipcap.pt")
    again, tokenizer = ClipCap.load(tmp_path / "clipcap.pt", tmp_path, in_dim=6)
    vector = torch.randn(6)
    assert again.token_ids(vector, stop=-1, most=4) == model.token_ids(vector, stop=-1, most=4)
    assert isinstance(again.caption(vector, tokenizer), str)
    with pytest.raises(UserError, match="not ClipCap's weights"):
        ClipCap.load(tmp_path / "none.pt", tmp_path)
