"""The practice Hub: two ports on loopback, accounts, gated models, and faults on request."""

from __future__ import annotations

import ssl
import tempfile
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote

from local_pipelines.errors import failure
from local_pipelines.practice_hub.accounts import BOGUS_TOKEN, accounts
from local_pipelines.practice_hub.client import ClientSwitch
from local_pipelines.practice_hub.faults import Fault, FaultKind, Faults
from local_pipelines.practice_hub.repositories import File, Repository, build_repositories
from local_pipelines.practice_hub.routes import FileHost, Hub
from local_pipelines.practice_hub.server import Port, Request
from local_pipelines.wording.messages import tr

_running: PracticeHub | None = None


class PracticeHub:
    """A Hub on this machine that speaks the real client's protocol.

    With it every way through tokens, licences and downloads can be practised without a network
    and without an account::

        with PracticeHub() as hub:
            os.environ["HF_TOKEN"] = hub.tokens["accepted"]
            model, tokenizer = load_gated_model("meta-llama/Llama-3.2-1B-Instruct")

    While it runs, `HF_ENDPOINT` and the client's other settings point at it, downloads go into a
    folder of its own, and your tokens are out of reach; afterwards everything is as before. One
    runs at a time: starting another stops the first.

    Args:
        model: The folder of the model behind the gated repository; the embedded one if not given,
            or random weights where that is missing.
        port: The Hub's port; 0 takes a free one. The file host always takes a free one.
        client: "switch" moves a client that is imported already to this Hub, as notebooks need it;
            "refuse" raises an error instead; "leave" changes nothing in this process, for serving
            others.
        tls: Serve https with this context's certificate.
    """

    def __init__(
        self,
        *,
        model: Path | None = None,
        port: int = 0,
        client: Literal["switch", "refuse", "leave"] = "switch",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if client not in {"switch", "refuse", "leave"}:
            raise failure("client-choice", client=client)
        self.requests: list[Request] = []
        self._client = client
        self._faults = Faults()
        self._accounts = accounts()
        self._repositories = {r.id: r for r in build_repositories(model or _embedded_model())}
        files_host = FileHost(self._repositories)
        hub = Hub(self._accounts, self._repositories, self._address)
        make_port = partial(
            Port, account_of=hub.account_of, faults=self._faults, log=self.requests, tls=tls
        )
        self._path_on_file_host = files_host.path
        self._hub = make_port(name="hub", answer=hub.answer, number=port)
        self._files = make_port(name="files", answer=files_host.answer)
        self._switch: ClientSwitch | None = None
        self._home: tempfile.TemporaryDirectory[str] | None = None

    def start(self) -> Self:
        """Open the ports and point the client here. `with` does it, too.

        Raises:
            ModelError: The port is taken, or the client keeps its settings.
        """
        global _running
        if _running is not None:
            _running.stop()
        self._open()
        try:
            self._enter_client()
        except BaseException:
            self.stop()
            raise
        _running = self
        return self

    def stop(self) -> None:
        """Put the client back, close the ports, delete what was downloaded."""
        global _running
        if _running is self:
            _running = None
        switch, self._switch = self._switch, None
        if switch is not None:
            switch.leave()
        self._faults.clear()
        self._hub.close()
        self._files.close()
        home, self._home = self._home, None
        if home is not None:
            home.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _open(self) -> None:
        try:
            self._hub.open()
            self._files.open()
        except OSError as error:
            self.stop()
            raise failure("port-taken", f"{error.strerror}.", url=self.url) from error

    def _enter_client(self) -> None:
        if self._client == "leave":
            return
        self._home = tempfile.TemporaryDirectory(prefix="practice-hub-", ignore_cleanup_errors=True)
        # Remembered first: whatever ends `enter`, `stop` puts back what it has changed.
        self._switch = ClientSwitch(self.url, Path(self._home.name))
        self._switch.enter(refuse_frozen=self._client == "refuse")

    @property
    def url(self) -> str:
        """The Hub's address, which `HF_ENDPOINT` is set to."""
        return self._hub.url

    @property
    def file_host(self) -> str:
        """The address of the second port, where large files lie."""
        return self._files.url

    @property
    def tokens(self) -> dict[str, str]:
        """A practice token for each account, and a "bogus" one that is nobody's."""
        return {name: each.token for name, each in self._accounts.items()} | {"bogus": BOGUS_TOKEN}

    @property
    def models(self) -> list[str]:
        """The ids of the models here."""
        return list(self._repositories)

    def page(self, model_id: str) -> str:
        """The address of a model's page, with the button that accepts its licence."""
        return f"{self.url}/{quote(self._repository(model_id).id)}"

    def add(self, repository: Repository) -> None:
        """Put one more model here, or another in the place of one of the same id."""
        self._repositories[repository.id] = repository

    def accept_licence(self, model_id: str, account: str = "not_accepted") -> None:
        """Accept a gated model's licence, as the button on its page does.

        Args:
            model_id: The gated model.
            account: Who accepts: a key of `tokens`. For "pending" and "rejected" it is the
                owners who say yes.

        Raises:
            ParameterError: There is no such gated model or no such account.
        """
        if not self._repository(model_id).gated:
            raise failure("nothing-to-accept", model_id=model_id)
        if account not in self._accounts:
            raise failure("no-account", account=account, names=", ".join(self._accounts))
        self._accounts[account].accept(model_id)

    def fail(
        self,
        path: str = "*",
        *,
        method: str = "*",
        times: int | None = 1,
        with_: FaultKind | Literal["unreachable"] | int = 503,
        after: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Let answers go wrong.

        Args:
            path: Which requests: a pattern with `*` for the path, such as `"*/config.json"`. Large
                files are fetched from the file host, where the path ends in the same name.
            method: "GET", "HEAD", "POST" or "*".
            times: How many answers go wrong; None means all until `recover`.
            with_: A status such as 503 or 429, or: "close" (the connection ends in mid-file),
                "reset" (by a TCP reset), "stall" (silence in mid-file), "trickle" (a byte now and
                then), "corrupt" (wrong bytes of the right length), "short" (the file ends early,
                in good order), "unreachable" (nobody listens on either port until `recover`; it
                takes no other argument).
            after: The byte at which it happens; half-way if not given, or at the first byte for
                "trickle" and "corrupt". With 0, "close", "reset" and "stall" send nothing at all.
            seconds: How long "stall" lasts (600), or how long a 429 asks the client to wait (1).

        Raises:
            ParameterError: There is no such fault.
        """
        if with_ == "unreachable":
            self._hub.close()
            self._files.close()
        else:
            self._faults.add(Fault(path, method, times, with_, after, seconds))

    def recover(self) -> None:
        """Take all faults back."""
        self._faults.clear()
        self._open()

    def _address(self, repository: Repository, file: File) -> str:
        return self._files.url + self._path_on_file_host(repository, file)

    def _repository(self, model_id: str) -> Repository:
        if model_id in self._repositories:
            return self._repositories[model_id]
        names = ", ".join(self._repositories)
        raise failure("no-practice-model", model_id=model_id, names=names)

    def __repr__(self) -> str:
        width = max(map(len, self.tokens))
        lines = [f"  {name:<{width}}  {token}" for name, token in self.tokens.items()]
        return "\n".join([tr("Practice Hub at {url}").format(url=self.url), *lines])


def _embedded_model() -> Path | None:
    """The folder of the model inside this package, if it is a whole one."""
    folder = files("local_pipelines") / "pocket"
    if isinstance(folder, Path) and (folder / "model.safetensors").is_file():
        return folder
    return None
