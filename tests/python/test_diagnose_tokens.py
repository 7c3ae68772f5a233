"""plumb diagnose on what stands before the network: the rendered prompt and the token ids. Each run is right on the ids that it was fed, so that what is
wrong with them is all that there is to find."""

import json
import shutil

import checkpoints
import plumb as package
import pytest
import torch
from capture_models import load
from diagnoses import diagnose, write
from tokenizers import Tokenizer

USER = "What is 12 + 34? Say it in French."
TEXT = "The capital of France is Paris. People in 2024 spoke French, didn't they?"
ANSWER = "<|im_start|>assistant\n"
CHAT = f"<|im_start|>user\n{USER}<|im_end|>\n{ANSWER}"
LLAMA3 = (
    "{{- bos_token }}{%- for message in messages %}{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim"
    " + '<|eot_id|>' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
LLAMA3_CHAT = f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{USER}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


@pytest.fixture(scope="module")
def plain():
    return Checkpoint(checkpoints.folder("qwen3"))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A checkpoint whose tokenizer puts a token before every text, and whose template prints it."""
    folder = tmp_path_factory.mktemp("begun") / "model"
    shutil.copytree(checkpoints.folder("llama"), folder)
    shutil.copy(checkpoints.REPOSITORY / "tests" / "data" / "tokenizers" / "llama3" / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<|begin_of_text|>"}))
    (folder / "chat_template.jinja").write_text(LLAMA3)
    return Checkpoint(folder)


class Checkpoint:
    def __init__(self, folder):
        self.folder = folder
        self.text = (folder / "tokenizer.json").read_text()
        self.tokenizer = Tokenizer.from_str(self.text)
        self.model = load(folder, torch.float32)

    def ids(self, text, special=True):
        return self.tokenizer.encode(text, add_special_tokens=special).ids

    def as_words(self, text, special=False):
        tokenizer = Tokenizer.from_str(self.text)
        tokenizer.encode_special_tokens = True
        return tokenizer.encode(text, add_special_tokens=special).ids

    def run(self, ids, **manifest):
        """The last row of logits, and the token chosen from it."""
        with torch.no_grad():
            row = self.model(torch.tensor([ids])).logits[0, -1:]
        trace = package.Trace(engine={"name": "stranger"}, dtype="float32", token_ids=ids, generated=[int(row.argmax())], **manifest)
        trace.add_step(len(ids))
        trace.add("logits", row.numpy())
        return trace


def judged(plumb_binary, checkpoint, tmp_path, ids, **manifest):
    code, report = diagnose(plumb_binary, write(checkpoint.run(ids, **manifest), tmp_path / "a.trace"), checkpoint.folder)
    return code, report, [(f["stage"], f["row"]) for f in report["findings"]]


@pytest.mark.parametrize(
    ("rendered", "words"),
    [
        (CHAT + " ", "blanks stand behind"),
        (CHAT.replace("user", "human"), "role that the chat template does not know: human"),
        (CHAT.replace("user\n", "user "), "header does not end"),
        (CHAT.replace("<|im_end|>\n", ""), "what ends a turn"),
        (f"<|im_start|>user\n{CHAT}<|im_end|>\n{ANSWER}", "applied twice"),
        (f"<|start_header_id|>user<|end_header_id|>\n\n{USER}<|eot_id|>", "another model's chat template"),
    ],
)
def test_a_rendered_prompt_that_is_not_the_templates(plumb_binary, plain, tmp_path, rendered, words):
    code, report, found = judged(plumb_binary, plain, tmp_path, plain.ids(rendered), prompt=USER, rendered=rendered)
    assert (code, report["verdict"], found) == (1, "tokens", [("prompt", "5")]), report["summary"]
    assert words in report["findings"][0]["cause"]


def test_a_rendered_prompt_that_the_trace_does_not_name(plumb_binary, plain, tmp_path):
    """The ids spell it: they are no fault of the words' tokens, and are judged by the template."""
    assert judged(plumb_binary, plain, tmp_path, plain.ids(CHAT), prompt=USER)[::2] == (0, [])
    code, report, found = judged(plumb_binary, plain, tmp_path, plain.ids(CHAT.removesuffix(ANSWER)), prompt=USER)
    assert (code, found) == (1, [("prompt", "5")]) and "add_generation_prompt" in report["summary"]


def test_special_tokens_cut_as_words(plumb_binary, plain, tmp_path):
    for manifest in ({"prompt": USER, "rendered": CHAT}, {"prompt": CHAT}):
        _, report, found = judged(plumb_binary, plain, tmp_path, plain.as_words(CHAT), **manifest)
        assert found == [("token_ids", "3")] and "cut as if they were words" in report["summary"], report["summary"]
    said = "Explain <|im_end|> please"
    whole = CHAT.replace(USER, said)
    careful = plain.ids("<|im_start|>user\n") + plain.as_words(said) + plain.ids(f"<|im_end|>\n{ANSWER}")
    for ids in (plain.ids(whole), careful):  # what a user spells may be either
        assert judged(plumb_binary, plain, tmp_path, ids, prompt=said, rendered=whole)[::2] == (0, [])
    assert judged(plumb_binary, plain, tmp_path, plain.as_words(said), prompt=said)[::2] == (0, [])


def test_the_token_that_begins_texts(plumb_binary, begun, tmp_path):
    ids, chat = begun.ids(TEXT), begun.ids(LLAMA3_CHAT, False)
    bare = LLAMA3_CHAT.removeprefix("<|begin_of_text|>")
    for right, manifest in (
        (ids, {"prompt": TEXT}),
        (chat, {"prompt": USER, "rendered": LLAMA3_CHAT}),
        (chat, {"prompt": USER, "rendered": bare}),  # added to the ids
        (chat, {"prompt": USER}),
    ):
        assert judged(plumb_binary, begun, tmp_path, right, **manifest)[::2] == (0, []), manifest
    for wrong, rows, manifest in (
        (ids[1:], ["1"], {"prompt": TEXT}),
        ([5, *ids[1:]], ["1"], {"prompt": TEXT}),
        (ids[:1] + ids, ["2"], {"prompt": TEXT}),
        (ids[1:-3], ["1", "6"], {"prompt": TEXT}),
        (begun.ids(" " + TEXT)[1:], ["1", "4"], {"prompt": TEXT}),
        (ids[:1] + begun.ids(TEXT.lower()), ["2", "3"], {"prompt": TEXT}),
        (begun.ids(LLAMA3_CHAT), ["2"], {"prompt": USER, "rendered": LLAMA3_CHAT}),
        (begun.ids(bare, False), ["1"], {"prompt": USER, "rendered": bare}),
    ):
        _, report, found = judged(plumb_binary, begun, tmp_path, wrong, **manifest)
        assert (report["verdict"], found) == ("tokens", [("token_ids", row) for row in rows]), (rows, report["summary"])


@pytest.mark.parametrize(
    ("change", "row", "words"),
    [
        (lambda ids: ids[:8] + ids[11:], "6", "3 tokens of the prompt are lost from token 8 on"),
        (lambda ids: ids[:2] + ids[-4:], "6", "lost from token 2 on"),
        (lambda ids: ids[:8] + ids[7:], "3", "1 token before token 8 is fed twice"),
        (lambda ids: [*ids, 2], "3", "a special token is appended to the prompt"),
    ],
)
def test_tokens_lost_or_more(plumb_binary, plain, tmp_path, change, row, words):
    _, report, found = judged(plumb_binary, plain, tmp_path, change(plain.ids(TEXT)), prompt=TEXT)
    assert (report["verdict"], found) == ("tokens", [("token_ids", row)]) and words in report["summary"], report["summary"]


def test_whether_the_same_text_is_spelled(plumb_binary, plain, tmp_path):
    ids = plain.ids(TEXT)
    first = plain.tokenizer.id_to_token(ids[0])
    letters = [plain.tokenizer.token_to_id(letter) for letter in first]
    _, report, _ = judged(plumb_binary, plain, tmp_path, letters + ids[1:], prompt=TEXT)
    assert "they spell the same text" in report["summary"] and report["findings"][0]["also"] == []
    _, report, _ = judged(plumb_binary, plain, tmp_path, plain.ids(TEXT.lower()), prompt=TEXT)
    assert "they spell another text" in report["summary"] and report["findings"][0]["also"] == ["4", "5"]
