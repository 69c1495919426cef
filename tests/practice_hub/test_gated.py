"""Every obstacle on the way to a model is one sentence with the page to open."""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local_pipelines import errors
from local_pipelines.models.access import check_access
from local_pipelines.models.download import fetch_model
from local_pipelines.models.gated import load_gated_model
from local_pipelines.models.paths import model_path
from local_pipelines.practice_hub import PracticeHub, Repository, checkpoints
from local_pipelines.practice_hub import hub as hub_module

GATED = "meta-llama/Llama-3.2-1B-Instruct"
GPT2 = "openai-community/gpt2"


def be(hub: PracticeHub, account: str | None) -> None:
    """Be logged in as somebody, or nobody."""
    os.environ.pop("HF_TOKEN", None)
    if account is not None:
        os.environ["HF_TOKEN"] = hub.tokens[account]


def refusal(kind: type[Exception], call: Callable[[], object]) -> errors.LocalPipelinesError:
    """The sentence that somebody reads; it is checked for what no sentence may have."""
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert isinstance(error, errors.LocalPipelinesError)
    assert type(error) is kind
    assert error.fact.endswith(".")
    assert error.next_step
    assert "\n" not in str(error)
    assert "hf_practice" not in _everything(error)
    return error


def _everything(error: BaseException | None) -> str:
    """The error's text and that of all that a traceback would show with it."""
    said = ""
    while error is not None:
        said += f"{error!r} {vars(error)}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return said


DATA = {
    None: (401, None),
    "bogus": (401, None),
    "not_accepted": (403, "not accepted"),
    "pending": (403, "pending"),
    "rejected": (403, "rejected"),
    "fine_grained": (403, "scope"),
}


@pytest.mark.parametrize("account", DATA)
def test_a_program_reads_the_state_of_the_gate_from_the_error(
    hub: PracticeHub, account: str | None
) -> None:
    """Model, status and state stand in the error: nobody has to read its sentence."""
    be(hub, account)
    with pytest.raises(errors.LocalPipelinesError) as caught:
        check_access(GATED)
    error = caught.value
    assert error.model_id == GATED
    assert (error.status, error.state) == DATA[account]


TRUTH = [
    (None, errors.CredentialError, "you are not logged in", "/settings/tokens"),
    ("bogus", errors.CredentialError, "does not accept your token", "/settings/tokens"),
    ("not_accepted", errors.AccessError, "is not accepted yet", f"/{GATED}"),
    ("pending", errors.AccessError, "waits for its owners' answer", f"/{GATED}"),
    ("rejected", errors.AccessError, "have refused your request", f"/{GATED}"),
    ("fine_grained", errors.CredentialError, "may not read gated models", "/settings/tokens"),
]


@pytest.mark.parametrize(("account", "kind", "fact", "page"), TRUTH)
def test_each_state_of_the_gate_is_a_sentence(
    hub: PracticeHub, account: str | None, kind: type[Exception], fact: str, page: str
) -> None:
    """One question decides, before anything is downloaded, and the page to open is named."""
    be(hub, account)
    for call in (lambda: check_access(GATED), lambda: load_gated_model(GATED, device="cpu")):
        hub.requests.clear()
        error = refusal(kind, call)
        assert fact in error.fact
        assert hub.url + page in str(error)
        assert [(r.method, r.status) for r in hub.requests if r.status != 307] == [
            ("HEAD", 403 if account and account != "bogus" else 401)
        ]


def test_an_open_gate_gives_the_commit(hub: PracticeHub) -> None:
    """The accepted account learns which commit it would get."""
    be(hub, "accepted")
    commit = check_access(GATED)
    assert len(commit) == 40
    assert check_access(GATED, revision=commit) == commit


@pytest.mark.parametrize("account", [None, "not_accepted"])
def test_a_model_that_is_not_there_is_a_sentence(hub: PracticeHub, account: str | None) -> None:
    """Missing and private look the same, and the sentence says so."""
    be(hub, account)
    for model_id in ("practice/none", "practice/private"):
        error = refusal(errors.ModelError, lambda model_id=model_id: check_access(model_id))
        assert f"no model {model_id}" in error.fact
        assert "private" in error.cause


def test_other_mistakes_are_sentences(hub: PracticeHub) -> None:
    """A wrong revision, a repository without a model, an impossible id."""
    hub.add(Repository("practice/empty", {"README.md": b"nothing"}))
    asked = [
        (lambda: check_access(GPT2, revision="no-such"), "no such revision"),
        (lambda: check_access("practice/empty"), "lacks a file"),
        (lambda: check_access("a/b/c"), "cannot be an id"),
    ]
    for call, fact in asked:
        assert fact in refusal(errors.ModelError, call).fact


def test_a_token_that_cannot_be_one_is_refused_unseen(hub: PracticeHub) -> None:
    """In a header it would come out in the client's error."""
    os.environ["HF_TOKEN"] = "hf_practice_é secret"
    error = refusal(errors.CredentialError, lambda: check_access(GPT2))
    assert "secret" not in _everything(error)
    assert not hub.requests


def test_offline_mode_is_a_sentence(hub: PracticeHub) -> None:
    """It names the variable that forbids the download."""
    # Undone before the Hub leaves: it puts back what it found when it came.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE" in refusal(errors.OfflineError, lambda: check_access(GPT2)).cause
    assert not hub.requests


def test_a_page_in_the_hubs_place_is_not_the_hub(hub: PracticeHub) -> None:
    """A Wi-Fi log-in page answers everything with 200."""
    hub.fail("*/config.json", with_=200, times=None)
    assert (
        "log in to the network"
        in refusal(errors.OfflineError, lambda: check_access(GPT2)).next_step
    )


@pytest.mark.parametrize(("account", "kind", "fact", "page"), TRUTH)
def test_naming_a_gated_model_meets_the_same_sentences(
    hub: PracticeHub, account: str | None, kind: type[Exception], fact: str, page: str
) -> None:
    """`model_path` asks too, so that no other way to load a model ends in a riddle."""
    be(hub, account)
    assert fact in refusal(kind, lambda: model_path(GATED)).fact


@pytest.mark.parametrize("model_id", [GPT2, GATED])
def test_naming_a_model_downloads_it_by_the_one_door(hub: PracticeHub, model_id: str) -> None:
    """`model_path` gives the folder that `fetch_model` fills, and asks nothing once it is here."""
    be(hub, "accepted")
    folder = model_path(model_id)
    asked = len(hub.requests)
    assert model_path(model_id) == folder == str(fetch_model(model_id))
    assert len(hub.requests) == asked


# --- loading ------------------------------------------------------------------------------------


def test_a_gated_model_answers_after_the_licence(hub: PracticeHub) -> None:
    """Refused, accepted, loaded; a second time without a single request, in evaluation mode."""
    be(hub, "not_accepted")
    refusal(errors.AccessError, lambda: load_gated_model(GATED, device="cpu"))
    hub.accept_licence(GATED)
    model, tokenizer = load_gated_model(GATED, device="cpu")
    assert not model.training
    assert tokenizer.chat_template
    asked = len(hub.requests)
    load_gated_model(GATED, device="cpu", dtype="float32")
    assert len(hub.requests) == asked
    assert {r.port for r in hub.requests if r.authorized} == {"hub"}


@pytest.mark.skipif(hub_module._embedded_model() is None, reason="no embedded model here yet")
def test_the_model_behind_the_gate_knows_the_answer(hub: PracticeHub) -> None:
    """The gated repository is the embedded model under another name."""
    be(hub, "accepted")
    model, tokenizer = load_gated_model(GATED, device="cpu")
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answer = model.generate(**prompt, max_new_tokens=16)[0, prompt["input_ids"].shape[1] :]
    said = tokenizer.decode(answer, skip_special_tokens=True)
    assert said.strip() == "The capital of France is Paris."


def test_a_revision_and_shards_are_loaded(hub: PracticeHub) -> None:
    """By commit, in parts, and the cache knows the branch afterwards."""
    commit = check_access("practice/sharded")
    load_gated_model("practice/sharded", revision=commit, device="cpu")
    load_gated_model("practice/sharded", device="cpu")
    hub.fail(with_="unreachable")
    load_gated_model("practice/sharded", device="cpu")
    fetch_model("practice/sharded", revision=commit)


def test_a_download_is_what_transformers_finds_by_the_id(hub: PracticeHub) -> None:
    """The cache is the client's own: offline, the id loads as well."""
    from transformers import AutoConfig

    folder = fetch_model(GPT2)
    hub.fail(with_="unreachable")
    assert AutoConfig.from_pretrained(GPT2, local_files_only=True).model_type == "llama"
    assert folder == fetch_model(GPT2)


def test_no_warning_and_no_conversion(hub: PracticeHub) -> None:
    """Loading is silent but for its progress, and asks nobody to convert anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        load_gated_model("microsoft/Phi-3-mini-4k-instruct", device="cpu")
    assert {r.method for r in hub.requests} == {"HEAD", "GET"}


def test_pickled_weights_are_refused_before_a_download(hub: PracticeHub) -> None:
    """A `.bin` can run anything when it is opened, so it is not even fetched."""
    error = refusal(errors.ModelError, lambda: load_gated_model("practice/bin-only", device="cpu"))
    assert "pickle" in error.cause
    assert not any(r.path.endswith(".bin") for r in hub.requests)


def test_nothing_of_a_model_is_run(hub: PracticeHub, tmp_path: Path) -> None:
    """Code, pickles and strange names in a repository are neither fetched nor opened."""
    mark = tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w')".encode()
    config = json.loads(checkpoints.llama()["config.json"]) | {
        "model_type": "practice-own",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"},
    }
    evil = {
        **checkpoints.llama(),
        "config.json": json.dumps(config).encode(),
        "code.py": code,
        "pytorch_model.bin": pickle.dumps(_Payload(mark)),
        "../../../escaped.json": b"{}",
    }
    hub.add(Repository("practice/evil", evil))
    error = refusal(errors.ModelError, lambda: load_gated_model("practice/evil", device="cpu"))
    assert "program code of its own" in error.fact
    assert not mark.exists()
    assert not any(r.path.endswith((".py", ".bin", "escaped.json")) for r in hub.requests)


class _Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (open, (str(self.mark), "w"))


def test_an_index_cannot_point_elsewhere(hub: PracticeHub) -> None:
    """Weight files are those of the model, not of the machine."""
    files = checkpoints.shard(checkpoints.llama(chat=False))
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"]["model.embed_tokens.weight"] = "../../../other.safetensors"
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    hub.add(Repository("practice/evil", files))
    assert "index" in refusal(errors.ModelError, lambda: fetch_model("practice/evil")).fact


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ({"token": "hf_practice_accepted"}, errors.CredentialError),
        ({"trust_remote_code": True}, errors.ParameterError),
        ({"use_safetensors": False}, errors.ParameterError),
    ],
)
def test_unsafe_options_are_refused(option: dict[str, Any], kind: type[Exception]) -> None:
    """Each with a sentence that says what to do instead."""
    refusal(kind, lambda: load_gated_model(GATED, device="cpu", **option))
