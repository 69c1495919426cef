"""The practice Hub answers the real client as the real Hub does."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from local_pipelines.errors import ModelError, ParameterError
from local_pipelines.practice_hub import PracticeHub, Repository

GATED = "meta-llama/Llama-3.2-1B-Instruct"
GPT2 = "openai-community/gpt2"


def be(hub: PracticeHub, account: str | None) -> None:
    """Be logged in as somebody, or nobody."""
    os.environ.pop("HF_TOKEN", None)
    if account is not None:
        os.environ["HF_TOKEN"] = hub.tokens[account]


def config_of(model_id: str) -> Any:
    return huggingface_hub.get_hf_file_metadata(
        huggingface_hub.hf_hub_url(model_id, "config.json"), timeout=5
    )


# --- files --------------------------------------------------------------------------------------


def test_a_small_file_is_redirected_on_the_hub_itself(hub: PracticeHub) -> None:
    """HEAD and GET of a small file go to the resolve-cache of the same host."""
    path = Path(huggingface_hub.hf_hub_download(GPT2, "config.json"))
    assert json.loads(path.read_text())["model_type"] == "llama"
    assert [(r.method, r.status) for r in hub.requests] == [
        ("HEAD", 307),
        ("HEAD", 200),
        ("GET", 200),
    ]
    assert {r.port for r in hub.requests} == {"hub"}
    assert path.parent.name == huggingface_hub.model_info(GPT2).sha


def test_a_large_file_comes_from_the_file_host_without_the_token(hub: PracticeHub) -> None:
    """The token is shown to the Hub and to nobody else."""
    be(hub, "accepted")
    huggingface_hub.hf_hub_download(GATED, "model.safetensors")
    by_port = {port: [r for r in hub.requests if r.port == port] for port in ("hub", "files")}
    assert [r.status for r in by_port["hub"]] == [302]
    assert [(r.method, r.status, r.authorized) for r in by_port["files"]] == [("GET", 200, False)]
    assert all(r.account == "accepted" for r in by_port["hub"])
    assert by_port["files"][0].path.endswith(f"{GATED}/{_sum(GATED)}/model.safetensors")


def _sum(model_id: str) -> str:
    info = huggingface_hub.model_info(model_id, files_metadata=True)
    return next(s.lfs.sha256 for s in info.siblings or [] if s.lfs)


def test_the_file_host_refuses_a_token_and_a_guessed_address(hub: PracticeHub) -> None:
    """As object stores do: the address is the permission, and a second one is an error."""
    url = huggingface_hub.hf_hub_url("practice/chat", "model.safetensors")
    location = huggingface_hub.get_hf_file_metadata(url).location
    assert location.startswith(hub.file_host)
    secret = urllib.parse.urlsplit(location).path.split("/")[1]
    assert _status(location.replace(secret, "guessed")) == 403
    assert _status(location, Authorization="Bearer hf_practice_accepted") == 400
    assert _status(location, Range="bytes=0-9") == 206
    assert _status(location, Range="bytes=999999999-") == 416


def _status(url: str, **headers: str) -> int:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own Hub
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_the_sums_are_those_that_git_and_the_client_compute(
    hub: PracticeHub, run_python: Callable[..., str]
) -> None:
    """`hf cache verify` finds all files in order."""
    huggingface_hub.snapshot_download(GPT2)
    said = _hf("cache", "verify", GPT2)
    assert "Verified" in said
    assert "mismatch" not in said.lower()


def _hf(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_what_is_missing_is_told_in_the_clients_own_errors(hub: PracticeHub) -> None:
    """A missing file, revision and repository are three different errors."""
    with pytest.raises(RemoteEntryNotFoundError):
        huggingface_hub.hf_hub_download(GPT2, "no.json")
    assert huggingface_hub.try_to_load_from_cache(GPT2, "no.json") is not None  # the miss is cached
    with pytest.raises(RevisionNotFoundError):
        huggingface_hub.hf_hub_download(GPT2, "config.json", revision="no-such")
    with pytest.raises(RepositoryNotFoundError):
        huggingface_hub.hf_hub_download("practice/none", "config.json")


def test_an_old_id_is_redirected(hub: PracticeHub) -> None:
    """`gpt2` leads to the repository under its new name."""
    assert huggingface_hub.model_info("gpt2").id == GPT2
    assert Path(huggingface_hub.hf_hub_download("gpt2", "config.json")).is_file()


def test_the_metadata_is_what_the_client_reads(hub: PracticeHub) -> None:
    """`model_info` and the tree tell names, sizes and sums."""
    info = huggingface_hub.model_info(GPT2, files_metadata=True)
    assert (info.pipeline_tag, info.library_name, info.gated) == (
        "text-generation",
        "transformers",
        False,
    )
    assert info.safetensors is not None
    assert info.safetensors.total == info.safetensors.parameters["F32"] > 0
    tree = {entry.path: entry for entry in huggingface_hub.list_repo_tree(GPT2)}
    assert {s.rfilename: s.size for s in info.siblings or []} == {
        path: entry.size for path, entry in tree.items()
    }
    with pytest.raises(RemoteEntryNotFoundError):
        list(huggingface_hub.list_repo_tree(GPT2, "additional_chat_templates"))
    assert huggingface_hub.model_info(GATED).gated == "manual"


# --- accounts -----------------------------------------------------------------------------------

TRUTH = [
    (None, GatedRepoError, 401, "log in"),
    ("bogus", HfHubHTTPError, 401, "Invalid credentials"),
    ("not_accepted", GatedRepoError, 403, "not in the authorized list"),
    ("pending", GatedRepoError, 403, "awaiting a review"),
    ("rejected", GatedRepoError, 403, "has been rejected"),
    ("fine_grained", HfHubHTTPError, 403, "fine-grained"),
]


@pytest.mark.parametrize(("account", "kind", "status", "words"), TRUTH)
def test_the_gate_answers_each_account(
    hub: PracticeHub, account: str | None, kind: type[HfHubHTTPError], status: int, words: str
) -> None:
    """The client's error, the status and the message are those of the real Hub."""
    be(hub, account)
    for ask in (lambda: config_of(GATED), lambda: huggingface_hub.auth_check(GATED)):
        with pytest.raises(HfHubHTTPError) as caught:
            ask()
        assert type(caught.value) is kind
        assert caught.value.response.status_code == status
        assert words in str(caught.value)


def test_the_accepted_account_reads_everything(hub: PracticeHub) -> None:
    """With the licence accepted the gate is open, and the account's own models are there."""
    be(hub, "accepted")
    assert config_of(GATED).size > 0
    assert config_of("practice/private").size > 0
    huggingface_hub.auth_check(GATED)


def test_what_is_public_on_a_gated_model_proves_nothing(hub: PracticeHub) -> None:
    """The card and the file list are readable by everybody."""
    be(hub, None)
    assert huggingface_hub.model_info(GATED).gated
    assert "stand-in" in Path(huggingface_hub.hf_hub_download(GATED, "README.md")).read_text()


@pytest.mark.parametrize("account", [None, "not_accepted", "fine_grained"])
def test_a_private_model_is_hidden(hub: PracticeHub, account: str | None) -> None:
    """For all but its owner it is as if there were no such model."""
    be(hub, account)
    for model_id in ("practice/private", "practice/none"):
        with pytest.raises(RepositoryNotFoundError):
            config_of(model_id)


def test_a_bad_token_is_refused_for_public_models_too(hub: PracticeHub) -> None:
    """As the real Hub does: a token that is nobody's opens nothing."""
    be(hub, "bogus")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        config_of(GPT2)


def test_whoami_names_the_account(hub: PracticeHub) -> None:
    """Each token is somebody's; the bogus one is nobody's."""
    for name, token in hub.tokens.items():
        if name != "bogus":
            assert huggingface_hub.whoami(token=token)["name"] == name
    with pytest.raises(HfHubHTTPError):
        huggingface_hub.whoami(token=hub.tokens["bogus"])


def test_a_licence_is_accepted_by_a_call(hub: PracticeHub) -> None:
    """The same request is refused before and answered after, for that account only."""
    be(hub, "not_accepted")
    with pytest.raises(GatedRepoError):
        config_of(GATED)
    hub.accept_licence(GATED, "not_accepted")
    assert config_of(GATED).size > 0
    be(hub, "pending")
    with pytest.raises(GatedRepoError):
        config_of(GATED)


def test_a_licence_is_accepted_by_the_button_on_the_page(hub: PracticeHub) -> None:
    """The page says where the account stands; its form leads back to a page that says more."""
    page = _read(hub.page(GATED))
    assert "has not accepted the licence yet" in page
    action = re.search(r'<form method="post" action="([^"]+)"', page)
    assert action
    page = _read(hub.url + action[1], data=b"account=not_accepted")
    assert "has accepted the licence" in page
    be(hub, "not_accepted")
    assert config_of(GATED).size > 0


def _read(url: str, data: bytes | None = None) -> str:
    with urllib.request.urlopen(url, data=data, timeout=5) as answer:  # noqa: S310 - our own Hub
        return str(answer.read().decode())


def test_the_token_page_shows_practice_tokens(hub: PracticeHub) -> None:
    """A learner gets a token where the real Hub has that page."""
    page = _read(f"{hub.url}/settings/tokens")
    assert all(hub.tokens[name] in page for name in hub.tokens if name != "bogus")
    assert "practice/private" not in _read(hub.url)


def test_the_log_holds_no_token(hub: PracticeHub) -> None:
    """It says that a token came and whose it was."""
    be(hub, "accepted")
    config_of(GATED)
    assert hub.requests[-1].account == "accepted"
    assert "hf_practice" not in repr(hub.requests)


def test_the_device_login_never_ends_in_success(hub: PracticeHub) -> None:
    """`login()` without a token gets a code and waits: nobody is there to approve it."""
    code = json.loads(_read(f"{hub.url}/oauth/device", data=b""))
    assert {"device_code", "user_code", "verification_uri"} <= code.keys()
    with pytest.raises(urllib.error.HTTPError) as caught:
        _read(f"{hub.url}/oauth/token", data=b"")
    assert json.loads(caught.value.read()) == {"error": "authorization_pending"}


# --- models -------------------------------------------------------------------------------------


def test_every_model_loads_without_a_complaint(hub: PracticeHub) -> None:
    """No tensor is missing, none is left over, and the tokenizer fits the embedding."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    be(hub, "accepted")
    chats = {"microsoft/Phi-3-mini-4k-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"}
    chats |= {GATED, "practice/chat"}
    for model_id in set(hub.models) - {"practice/bin-only"}:
        tokenizer = AutoTokenizer.from_pretrained(model_id)
        model, found = AutoModelForCausalLM.from_pretrained(model_id, output_loading_info=True)
        assert not any(found.values()), (model_id, found)
        assert len(tokenizer) <= model.config.vocab_size
        assert tokenizer.decode(tokenizer("Où es-tu, 小?").input_ids) == "Où es-tu, 小?"
        batch = tokenizer("Hello", return_tensors="pt")
        assert model.generate(**batch, max_new_tokens=2).shape[1] <= len(batch.input_ids[0]) + 2
        assert type(model).__name__ == "LlamaForCausalLM"
        assert bool(tokenizer.chat_template) == (model_id in chats)


def test_the_random_weights_are_the_same_every_time() -> None:
    """Two Hubs have the same commits, so that a cache stays good."""
    first, second = (PracticeHub(client="leave") for _ in range(2))
    for hub in (first, second):
        hub._hub.open()
    commits = [_read(f"{hub.url}/api/models/{GPT2}") for hub in (first, second)]
    for hub in (first, second):
        hub.stop()
    assert commits[0] == commits[1]


def test_a_test_can_add_a_repository(hub: PracticeHub) -> None:
    """One of its own, or a changed one in another's place."""
    hub.add(Repository("practice/mine", {"config.json": b"{}", "sub/notes.txt": b"x"}))
    assert [e.path for e in huggingface_hub.list_repo_tree("practice/mine")] == [
        "sub",
        "config.json",
    ]
    assert [e.path for e in huggingface_hub.list_repo_tree("practice/mine", "sub")] == [
        "sub/notes.txt"
    ]


# --- the client's settings ----------------------------------------------------------------------


def test_the_environment_and_the_client_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs all settings are the practice Hub's; afterwards all are as before."""
    monkeypatch.setenv("HF_TOKEN", "hf_test_mine")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody: requests must not go there
    constants = huggingface_hub.constants
    names = ("ENDPOINT", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN_PATH", "HF_HOME")

    def settings() -> tuple[object, ...]:
        copies = (
            huggingface_hub.hf_api.api.endpoint,
            huggingface_hub.utils._git_credential.ENDPOINT,
        )
        return (*(getattr(constants, name) for name in names), *copies, dict(os.environ))

    before = settings()
    with PracticeHub() as hub:
        assert huggingface_hub.model_info(GPT2).id == GPT2
        assert "HF_TOKEN" not in os.environ
        assert constants.HF_HUB_CACHE.startswith(os.environ["HF_HOME"])
        assert hub.url == huggingface_hub.utils._git_credential.ENDPOINT
        os.environ["HF_TOKEN"] = hub.tokens["accepted"]
        home = Path(os.environ["HF_HOME"])
    assert settings() == before
    assert not home.exists()
    assert not any(r.authorized for r in hub.requests)


def test_a_client_that_should_stay_is_refused() -> None:
    """client="refuse" says that the kernel has to be started anew, and changes nothing."""
    before = dict(os.environ)
    with pytest.raises(ModelError, match="Restart the kernel"):
        PracticeHub(client="refuse").start()
    assert dict(os.environ) == before


FRESH = """
import os
from local_pipelines.practice_hub import PracticeHub
hub = PracticeHub(client="refuse").start()
import huggingface_hub
print(huggingface_hub.model_info("gpt2").id)
hub.stop()
print(huggingface_hub.constants.ENDPOINT, "HF_ENDPOINT" in os.environ)
"""


def test_a_client_imported_later_follows_and_is_let_go(run_python: Callable[..., str]) -> None:
    """In a fresh process the first import reads our settings; stopping restores the real ones."""
    said = run_python(FRESH, HF_HUB_OFFLINE="0").split()
    assert said == [GPT2, "https://huggingface.co", "False"]


def test_starting_a_second_hub_stops_the_first(hub: PracticeHub) -> None:
    """A cell that is run twice leaves one Hub behind, and the settings of before come back."""
    with PracticeHub() as second:
        assert huggingface_hub.constants.ENDPOINT == second.url != hub.url
        assert _is_closed(hub.url)
    assert huggingface_hub.constants.ENDPOINT == "https://huggingface.co"


def _is_closed(url: str) -> bool:
    port = urllib.parse.urlsplit(url).port
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port or 0)) != 0


def test_it_listens_on_loopback_only(hub: PracticeHub) -> None:
    """Nobody else on the network can reach it."""
    for url in (hub.url, hub.file_host):
        assert urllib.parse.urlsplit(url).hostname == "127.0.0.1"
    assert hub.url != hub.file_host


def test_a_taken_port_is_a_sentence(hub: PracticeHub) -> None:
    """It names the way out."""
    port = urllib.parse.urlsplit(hub.url).port
    other = PracticeHub(port=port or 0, client="leave")
    with pytest.raises(ModelError, match="port=0"):
        other._open()


@pytest.mark.parametrize(
    "mistake",
    [
        lambda hub: hub.fail(with_="fire"),
        lambda hub: hub.fail(with_=42),
        lambda hub: hub.accept_licence("practice/none"),
        lambda hub: hub.accept_licence(GPT2),
        lambda hub: hub.accept_licence(GATED, "nobody"),
        lambda hub: PracticeHub(client="other"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_argument_is_a_sentence(
    hub: PracticeHub, mistake: Callable[[PracticeHub], object]
) -> None:
    """It says what there is instead."""
    with pytest.raises(ParameterError):
        mistake(hub)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no interrupt for one process")
def test_the_command_tells_what_to_set() -> None:
    """It prints the address, the tokens and the variables, and ends on Ctrl+C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local_pipelines.practice_hub", "--port", "0"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    lines = []
    while not lines or "Ctrl+C" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], "the command ended early"
    said = "".join(lines)
    url = re.search(r"HF_ENDPOINT=(\S+)", said)
    assert url
    assert GPT2 in _read(f"{url[1]}/api/models/{GPT2}")
    assert "HF_TOKEN=hf_practice_accepted" in said
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    file, public = tmp_path / "certificate.pem", tmp_path / "public.pem"
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    whose = ["-subj", "/CN=practice", "-addext", "subjectAltName=IP:127.0.0.1"]
    where = ["-keyout", str(file), "-out", str(public)]
    subprocess.run([openssl, *make.split(), *whose, *where], check=True, capture_output=True)
    file.write_text(file.read_text() + public.read_text())
    return file


def test_over_tls_the_clients_own_rule_for_401_holds(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over https alone it takes a 401 for a missing model, unless the message says otherwise."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("public.pem")))
    with PracticeHub(tls=tls) as hub:
        assert hub.url.startswith("https://")
        be(hub, None)
        with pytest.raises(RepositoryNotFoundError):
            config_of("practice/none")
        with pytest.raises(GatedRepoError):
            config_of(GATED)
        be(hub, "bogus")
        with pytest.raises(HfHubHTTPError) as caught:
            config_of(GPT2)
        assert type(caught.value) is HfHubHTTPError
        be(hub, "accepted")
        assert Path(huggingface_hub.hf_hub_download(GATED, "model.safetensors")).is_file()
