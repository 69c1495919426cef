"""Every fault of the table in the findings: a sentence, in bounded time, and a second try works.

Where the client already copes, the test holds it to that. Where it gives up or waits without end,
our download tries again or says what to do.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest

from local_pipelines import LocalPipeline, errors, load_llm
from local_pipelines.models import access
from local_pipelines.models import download as download_module
from local_pipelines.models.access import call_hub, check_access
from local_pipelines.models.download import fetch_model
from local_pipelines.models.gated import load_gated_model
from local_pipelines.practice_hub import PracticeHub, Repository

GPT2 = "openai-community/gpt2"
WEIGHTS = "*/model.safetensors"
SOURCES = Path(__file__).parents[2] / "src"


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Fail if it takes more than a minute: ten times what an idle machine needs at most."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 60


def sentence(kind: type[Exception], call: Callable[[], object]) -> errors.LocalPipelinesError:
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, errors.LocalPipelinesError)
    assert caught.value.next_step
    assert "\n" not in str(caught.value)
    return caught.value


def served(hub: PracticeHub, name: str) -> list[int]:
    """The statuses of the answers with a file's body."""
    return [r.status for r in hub.requests if r.method == "GET" and r.path.endswith(f"/{name}")]


def assert_a_second_try_works(hub: PracticeHub) -> None:
    """All is well again: only what is missing is fetched, and the model loads."""
    hub.recover()
    before = len(served(hub, "config.json"))
    folder = fetch_model(GPT2)
    assert (folder / "model.safetensors").stat().st_size > 10_000
    assert download_module.damaged_file(folder) is None
    assert len(served(hub, "config.json")) <= max(before, 1)


# --- the connection -----------------------------------------------------------------------------


@pytest.mark.usefixtures("little_patience")
@pytest.mark.parametrize("kind", ["close", "stall"])
def test_a_break_in_mid_file_is_resumed(hub: PracticeHub, kind: str) -> None:
    """An orderly close and a silence beyond the time limit cost nothing: the rest is fetched."""
    hub.fail(WEIGHTS, method="GET", with_=kind, seconds=3)  # type: ignore[arg-type]
    with bounded():
        fetch_model(GPT2)
    assert served(hub, "model.safetensors") == [200, 206]
    assert_a_second_try_works(hub)


@pytest.mark.parametrize("kind", ["reset", 500, 503])
def test_what_the_client_gives_up_on_is_tried_again(hub: PracticeHub, kind: str | int) -> None:
    """A TCP reset and a fault of the file host would end the client's download; ours goes on."""
    hub.fail(WEIGHTS, method="GET", with_=kind)  # type: ignore[arg-type]
    with bounded():
        fetch_model(GPT2)
    assert len(served(hub, "model.safetensors")) == 2
    assert_a_second_try_works(hub)


def test_a_fault_that_stays_is_a_sentence(hub: PracticeHub) -> None:
    """After a few tries it gives up, and what came before the fault is kept."""
    hub.fail(WEIGHTS, method="GET", with_="reset", times=None)
    with bounded():
        error = sentence(errors.OfflineError, lambda: fetch_model(GPT2))
    assert "broke off 4 times" in error.fact
    assert "stay" in error.next_step
    assert_a_second_try_works(hub)
    assert len(served(hub, "tokenizer.json")) == 1


def test_the_sentence_counts_the_tries_as_they_were(
    hub: PracticeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first comes without a pause, and the number told is that of the requests."""
    pauses: list[float] = []
    monkeypatch.setattr(access.time, "sleep", pauses.append)
    hub.fail(WEIGHTS, method="GET", with_=503, times=None)
    error = sentence(errors.OfflineError, lambda: fetch_model(GPT2))
    assert f"broke off {len(served(hub, 'model.safetensors'))} times" in error.fact
    assert pauses == list(download_module.PAUSES)


@pytest.mark.parametrize(
    ("status", "kind"), [(403, errors.CredentialError), (404, errors.ModelError)]
)
def test_a_refusal_in_mid_download_is_told_as_what_it_is(
    hub: PracticeHub, status: int, kind: type[Exception]
) -> None:
    """A licence that is withdrawn and a file that goes are not tried again."""
    hub.fail(WEIGHTS, method="GET", with_=status, times=None)
    error = sentence(kind, lambda: fetch_model(GPT2))
    assert "broke off" not in error.fact
    assert error.status == status
    assert len(served(hub, "model.safetensors")) == 1


def test_a_burst_of_faults_at_the_hub_passes(hub: PracticeHub) -> None:
    """Two 503 to the first question and two to a later one are waited out."""
    hub.fail("*/config.json", method="HEAD", with_=503, times=2)
    hub.fail("*/tokenizer.json", method="HEAD", with_=503, times=2)
    with bounded():
        fetch_model(GPT2)
    assert_a_second_try_works(hub)


def test_a_hub_that_stays_broken_is_a_sentence(hub: PracticeHub) -> None:
    """It says that the fault is the Hub's."""
    hub.fail("*/config.json", with_=503, times=None)
    with bounded():
        error = sentence(errors.OfflineError, lambda: fetch_model(GPT2))
    assert "has a fault" in error.fact
    assert_a_second_try_works(hub)


def test_a_short_rush_is_waited_out(hub: PracticeHub) -> None:
    """A 429 names the seconds to wait; both the question and the download keep to them."""
    hub.fail("*/config.json", method="HEAD", with_=429, seconds=0)
    hub.fail(WEIGHTS, method="GET", with_=429, seconds=0)
    with bounded():
        fetch_model(GPT2)
    assert_a_second_try_works(hub)


def test_a_long_rush_is_a_sentence(hub: PracticeHub) -> None:
    """Nobody waits minutes before a cell that says nothing."""
    hub.fail("*/config.json", method="HEAD", with_=429, seconds=250)
    with bounded():
        error = sentence(errors.OfflineError, lambda: fetch_model(GPT2))
    assert "Wait 251 seconds" in error.next_step
    assert_a_second_try_works(hub)


@pytest.mark.usefixtures("little_patience")
def test_a_trickle_is_broken_off(hub: PracticeHub) -> None:
    """A byte now and then keeps the client waiting without end; we stop it and say so."""
    hub.fail(WEIGHTS, method="GET", with_="trickle", times=None)
    with bounded():
        error = sentence(errors.OfflineError, lambda: fetch_model(GPT2))
    assert "all but stands still" in error.fact
    assert_a_second_try_works(hub)


HANGING = {
    "whoami": lambda: huggingface_hub.whoami(),
    "auth_check": lambda: huggingface_hub.auth_check(GPT2),
    "model_info": lambda: huggingface_hub.model_info(GPT2),
}


@pytest.mark.usefixtures("little_patience")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "stall") for name in HANGING),
        ("whoami", "trickle"),
        ("model_info", "trickle"),  # the answer to auth_check has two bytes, which come at once
    ],
)
def test_a_hub_that_hangs_is_a_sentence(hub: PracticeHub, name: str, kind: str) -> None:
    """Questions for which the client has no time limit of its own end after ours."""
    os.environ["HF_TOKEN"] = hub.tokens["accepted"]
    hub.fail("/api/*", with_=kind, times=None, after=0)  # type: ignore[arg-type]
    with bounded():
        error = sentence(errors.OfflineError, lambda: call_hub(GPT2, HANGING[name]))
    assert "cannot be reached" in error.fact
    hub.recover()
    call_hub(GPT2, HANGING[name])


@pytest.mark.usefixtures("little_patience")
def test_a_list_of_files_that_hangs_is_a_sentence(hub: PracticeHub) -> None:
    """The download's own question is bounded, too."""
    hub.fail("/api/models/*", with_="stall", times=None, after=0)
    with bounded():
        sentence(errors.OfflineError, lambda: fetch_model(GPT2))
    assert_a_second_try_works(hub)


@pytest.mark.usefixtures("little_patience")
def test_a_first_question_that_hangs_is_a_sentence(hub: PracticeHub) -> None:
    """The preflight is bounded although the Hub accepts the connection."""
    hub.fail("*/config.json", method="HEAD", with_="stall", times=None)
    with bounded():
        sentence(errors.OfflineError, lambda: check_access(GPT2))
    assert_a_second_try_works(hub)


def test_an_unreachable_hub_is_a_sentence(hub: PracticeHub) -> None:
    """With nothing in the cache it says what is missing and what works without a connection."""
    hub.fail(with_="unreachable")
    with bounded():
        error = sentence(errors.OfflineError, lambda: load_gated_model(GPT2, device="cpu"))
    assert "cannot be reached" in error.fact
    assert "pocket" in error.next_step
    assert_a_second_try_works(hub)


def test_an_unreachable_hub_does_not_matter_once_the_model_is_here(hub: PracticeHub) -> None:
    """A whole model in the cache needs no Hub."""
    folder = fetch_model(GPT2)
    hub.fail(with_="unreachable")
    with bounded():
        assert fetch_model(GPT2) == folder


def test_a_hub_that_goes_away_in_between_is_a_sentence(
    hub: PracticeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The preflight went well, then the network was gone; what came before is kept."""
    download = download_module.download_once

    def download_and_lose_the_network(
        model_id: str, file: download_module._File, commit: str
    ) -> Path:
        if file.name == "model.safetensors":
            hub.fail(with_="unreachable")
        return download(model_id, file, commit)

    monkeypatch.setattr(download_module, "download_once", download_and_lose_the_network)
    monkeypatch.setattr(download_module, "PAUSES", (0.1,))  # the client takes a second to say so
    with bounded():
        error = sentence(errors.OfflineError, lambda: fetch_model(GPT2))
    assert "broke off" in error.fact
    monkeypatch.setattr(download_module, "download_once", download)
    assert_a_second_try_works(hub)


# --- the bytes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 20_000])
def test_wrong_bytes_are_noticed_and_fetched_again(hub: PracticeHub, place: int) -> None:
    """The client checks the size only; we check the sum, in the header and in the numbers."""
    hub.fail(WEIGHTS, method="GET", with_="corrupt", after=place)
    with bounded():
        fetch_model(GPT2)
    assert served(hub, "model.safetensors") == [200, 200]
    assert_a_second_try_works(hub)


def test_bytes_that_stay_wrong_are_a_sentence(hub: PracticeHub) -> None:
    """A proxy that spoils every download: the file is named and not kept."""
    hub.fail(WEIGHTS, method="GET", with_="corrupt", times=None)
    with bounded():
        error = sentence(errors.ModelError, lambda: fetch_model(GPT2))
    assert "model.safetensors" in error.fact
    assert_a_second_try_works(hub)


def test_a_damaged_file_in_the_cache_is_named_with_its_remedy(hub: PracticeHub) -> None:
    """What the client kept as good fails at every load; the command in the sentence repairs it."""
    hub.fail(WEIGHTS, method="GET", with_="corrupt")
    huggingface_hub.snapshot_download(GPT2)
    error = sentence(errors.ModelError, lambda: load_gated_model(GPT2, device="cpu"))
    assert "model.safetensors" in error.fact
    command = re.search(r"`hf (.+?)`", error.next_step)
    assert command
    subprocess.run(
        [sys.executable, "-m", "huggingface_hub.cli.hf", *command[1].split()],
        check=True,
        capture_output=True,
        timeout=60,
    )
    load_gated_model(GPT2, device="cpu")


def test_wrong_numbers_behind_a_good_header_are_found(hub: PracticeHub) -> None:
    """The cache names a large file by its sum, which is compared, not only the header."""
    hub.fail(WEIGHTS, method="GET", with_="corrupt", after=9900)
    folder = Path(huggingface_hub.snapshot_download(GPT2))
    assert download_module.damaged_file(folder) == "model.safetensors"


@pytest.mark.parametrize("door", [LocalPipeline.from_model_id, load_llm, load_gated_model])
def test_no_door_lets_wrong_numbers_in(hub: PracticeHub, door: Callable[[str], object]) -> None:
    """Weights of the right size with wrong numbers load without a word, so they are not kept."""
    hub.fail(WEIGHTS, method="GET", with_="corrupt", after=20_000, times=None)
    error = sentence(errors.ModelError, lambda: door(GPT2))
    assert "model.safetensors" in error.fact
    assert len(served(hub, "model.safetensors")) == 4


def test_a_loaded_model_is_called_by_the_name_it_was_asked_for(hub: PracticeHub) -> None:
    """It lies in the cache, which is not its name."""
    assert LocalPipeline.from_model_id(GPT2).model_id == GPT2


def test_the_revision_among_the_options_for_loading_is_the_one_downloaded(hub: PracticeHub) -> None:
    """As in transformers, where it stands beside the number format."""
    options = {"revision": "no-such"}
    error = sentence(
        errors.ModelError, lambda: LocalPipeline.from_model_id(GPT2, model_kwargs=options)
    )
    assert "no such revision" in error.fact


def test_a_model_that_is_an_export_is_told_as_one(hub: PracticeHub) -> None:
    """It is neither a GGUF file nor an adapter, and there is a way to use it."""
    hub.add(Repository("practice/export", {"config.json": b"{}", "openvino_model.xml": b""}))
    error = sentence(errors.ModelError, lambda: fetch_model("practice/export"))
    assert "OpenVINO" in error.fact
    assert "hf download practice/export" in error.next_step


def test_a_token_copied_with_quotes_is_sent_without_them(hub: PracticeHub) -> None:
    """As `setup_environment` and `login` do, which not everybody calls first."""
    for opening, closing in ("“”", "''", '""'):
        os.environ["HF_TOKEN"] = f" {opening}{hub.tokens['accepted']}{closing}"
        check_access("meta-llama/Llama-3.2-1B-Instruct")
        assert hub.requests[-1].account == "accepted"


def test_a_short_file_is_fetched_again(hub: PracticeHub) -> None:
    """A file that ends early in good order is refused by its size."""
    hub.fail(WEIGHTS, method="GET", with_="short")
    with bounded():
        fetch_model(GPT2)
    assert_a_second_try_works(hub)


# --- this machine -------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_is_told_before_the_download(
    hub: PracticeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sizes are known, so nobody waits an hour for this."""
    measured = download_module.download_space
    monkeypatch.setattr(download_module, "download_space", lambda: 1000)
    assert "does not fit on the disk" in sentence(errors.CacheError, lambda: fetch_model(GPT2)).fact
    assert not served(hub, "model.safetensors")
    monkeypatch.setattr(download_module, "download_space", measured)
    assert_a_second_try_works(hub)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_disk_that_fills_up_is_a_sentence(
    hub: PracticeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real error of the system, met while writing the weights."""
    http_get = huggingface_hub.file_download.http_get

    def write_to_a_full_disk(url: str, temp_file: object, **options: object) -> None:
        if url.endswith("model.safetensors"):
            with Path("/dev/full").open("wb") as full:
                http_get(url, full, **options)
        http_get(url, temp_file, **options)

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", write_to_a_full_disk)
    error = sentence(errors.CacheError, lambda: fetch_model(GPT2))
    assert "disk is full" in error.fact
    assert len(served(hub, "model.safetensors")) == 1  # trying again would not help
    monkeypatch.setattr(huggingface_hub.file_download, "http_get", http_get)
    assert_a_second_try_works(hub)


FETCH = (
    "from local_pipelines.models.download import fetch_model; fetch_model('openai-community/gpt2')"
)


def _start_fetching() -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": str(SOURCES)}
    return subprocess.Popen([sys.executable, "-c", FETCH], env=environment)


def test_two_processes_fetch_a_file_once(hub: PracticeHub) -> None:
    """The second waits for the first and takes what it fetched."""
    size = huggingface_hub.get_hf_file_metadata(
        huggingface_hub.hf_hub_url(GPT2, "model.safetensors")
    ).size
    hub.fail(WEIGHTS, method="GET", with_="trickle", after=size - 10)  # so that they meet
    both = [_start_fetching() for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]
    assert served(hub, "model.safetensors").count(200) == 1
    assert_a_second_try_works(hub)


def test_a_killed_download_starts_anew(hub: PracticeHub) -> None:
    """Files that were whole stay; the one in hand is fetched from its beginning, lock or not."""
    hub.fail(WEIGHTS, method="GET", with_="stall", seconds=60)
    process = _start_fetching()
    with bounded():
        while not served(hub, "model.safetensors"):
            time.sleep(0.05)
            assert process.poll() is None
    process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    process.wait(timeout=10)
    assert_a_second_try_works(hub)
    assert served(hub, "model.safetensors") == [200, 200]
    assert len(served(hub, "tokenizer.json")) == 1
