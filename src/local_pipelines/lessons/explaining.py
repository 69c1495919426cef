"""`explain(error)`: what the errors that learners really meet mean, and what to do about them.

Many messages name a symptom, and some the wrong cause: a token without the right scope is reported
as a missing connection. Each rule below was met in practice; the first that fits counts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from local_pipelines.engines.options import GENERATION_OPTIONS
from local_pipelines.errors import LocalPipelinesError, ParameterError
from local_pipelines.wording.grammar import paragraph
from local_pipelines.wording.messages import mark, tr

__all__ = ["Explanation", "explain"]

_MOST = 300  # characters of a foreign message that are repeated


@dataclass(frozen=True, repr=False)
class Explanation:
    """What an error means.

    Args:
        fact: What happened.
        cause: Why it probably happened.
        next_step: What to type, click or change now.
        known: Whether the error is one that this package knows.
    """

    fact: str
    cause: str
    next_step: str
    known: bool = True

    def __repr__(self) -> str:
        return "\n  ".join(part for part in (self.fact, self.cause, self.next_step) if part)

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{escape(self.fact)}</b></p>"]
        parts += [f"<p>{escape(part)}</p>" for part in (self.cause, self.next_step) if part]
        return "".join(parts)


@dataclass(frozen=True)
class _Rule:
    pattern: re.Pattern[str]
    cause: str
    next_step: str
    fact: str = ""


def explain(error: BaseException | None = None) -> Explanation:
    """Say what an error means and what to do now.

    Args:
        error: The error; the last one that a cell of the notebook ended with, if not given.

    Returns:
        The explanation, which a notebook shows as three short paragraphs.

    Raises:
        ParameterError: There is no error to explain.
    """
    error = error or getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    if not isinstance(error, BaseException):
        raise ParameterError(
            tr("There is no error to explain."),
            tr("explain() takes the last one that a cell ended with."),
            tr("Run it after a cell that failed, or write explain(error)."),
        )
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, LocalPipelinesError):
            return Explanation(each.fact, each.cause, each.next_step)
    for rule in _RULES:
        for each in chain:
            if match := rule.pattern.search(_described(each)):
                return _filled(rule, match, _fact(each))
    return _unknown(error)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, the last one first."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _described(error: BaseException) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"{type(error).__name__}: {error}" + (f" [HTTP {status}]" if status else "")


def _fact(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else ""
    first = first if len(first) <= _MOST else first[:_MOST] + " …"
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _filled(rule: _Rule, match: re.Match[str], fact: str) -> Explanation:
    words = {name: value or "" for name, value in match.groupdict().items()}
    words["token_page"] = _TOKEN_PAGE
    return Explanation(
        tr(rule.fact) or fact,
        tr(rule.cause).format(**words),
        tr(rule.next_step).format(**words),
    )


def _unknown(error: BaseException) -> Explanation:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    module = str(frame.tb_frame.f_globals.get("__name__", "")) if frame else ""
    package = module.partition(".")[0]
    where = (
        tr("It was raised in {package}.").format(package=package)
        if package not in {"", "__main__"}
        else ""
    )
    return Explanation(
        _fact(error),
        paragraph(tr("This error is not among those known here."), where),
        tr("Read the message's last lines, and search for them together with the package's name."),
        known=False,
    )


def _rule(pattern: str, cause: str, next_step: str, fact: str = "") -> _Rule:
    return _Rule(re.compile(pattern, re.DOTALL | re.IGNORECASE), cause, next_step, fact)


_OPTION = "|".join(sorted(GENERATION_OPTIONS))
_TOKEN_PAGE = "https://huggingface.co/settings/tokens"  # noqa: S105 - an address

_RULES = [
    # --- the token; its own text must not be repeated ------------------------------------------
    _rule(
        r"^LocalProtocolError: Illegal header value",
        mark("The token has a line break or a blank in it, most likely at its end."),
        mark(
            "Copy it again without one, and make a new token if this one has been shown anywhere."
        ),
        mark("The token cannot be sent to the Hub."),
    ),
    _rule(
        r"StdinNotImplementedError",
        mark(
            "Something asked for input, and nobody is at the keyboard: papermill, nbconvert or CI."
        ),
        mark("Put what was asked for (usually a token, as HF_TOKEN) into the environment or .env."),
    ),
    _rule(
        r"^(KeyboardInterrupt|Interrupted):?",
        mark("Somebody stopped the cell: with the button, a shortcut or Ctrl-C."),
        mark("Run the cell again; answer_file goes on where it was stopped."),
    ),
    # --- access to models, 403 before 401 before "not found" -----------------------------------
    _rule(
        r"awaiting a review",
        mark("You have asked for access, and the model's authors have not answered yet."),
        mark("Wait for their e-mail, or use another model meanwhile."),
    ),
    _rule(
        r"has been rejected",
        mark("The model's authors have refused your request for access."),
        mark("Use another model: will_it_fit() and catalogue() name some."),
    ),
    _rule(
        r"not in the authorized list|ask for access|\[HTTP 403\].*gated|gated.*\[HTTP 403\]",
        mark("The model is gated, and this account has not accepted its licence."),
        mark("Open the model's page while logged in, accept the licence, and run the cell again."),
    ),
    _rule(
        r"\[HTTP 403\]|403 Forbidden|403 Client Error",
        mark(
            "The token is valid and may not read this: a fine-grained token needs the scope"
            " for gated"
            " repositories."
        ),
        mark("Allow it at {token_page}, or make a token of the type Read."),
    ),
    _rule(
        r"Invalid credentials|Invalid username or password|invalid user token"
        r"|token (has|is) (expired|invalid)",
        mark(
            "The Hub does not know the token: it was revoked, has expired, or was not copied whole."
        ),
        mark("Make a new one at {token_page}, put it into HF_TOKEN, and restart the kernel."),
    ),
    _rule(
        r"^RepositoryNotFoundError|is not a valid model identifier",
        mark("The id is misspelt, the model is private, or there is no such folder here."),
        mark("Run catalogue() for ids that work, or correct the id: it has the form owner/name."),
    ),
    _rule(
        r"You must have access to it and be authenticated|gated repo|GatedRepoError",
        mark("The model is gated, and the Hub was asked without a token that has access."),
        mark("Accept the licence on the model's page, run login(), and run the cell again."),
    ),
    _rule(
        r"\[HTTP 401\]|401 Client Error",
        mark("The Hub wants a token, or does not accept the one it was given."),
        mark("Run login() with a token from {token_page}."),
    ),
    _rule(
        r"\[HTTP 429\]|429 Client Error|Too Many Requests",
        mark("The Hub was asked too often from this address."),
        mark("Wait a few minutes; with a token (run login()) the limit is higher."),
    ),
    _rule(
        r"\[HTTP 5\d\d\]|5\d\d Server Error",
        mark("The Hub has a problem of its own."),
        mark('Run the cell again in a minute; MODEL_ID = "pocket" needs no Hub.'),
    ),
    # --- the network and the disk --------------------------------------------------------------
    _rule(
        r"Errno 28|No space left on device|not enough (disk|free) space",
        mark("The disk is full; what was half downloaded has been removed."),
        mark("Free space, or set HF_HOME to a folder on a larger disk and restart the kernel."),
    ),
    _rule(
        r"SafetensorError|header too large|Unable to load weights from .* checkpoint",
        mark(
            "A file of the model is damaged: a download of the right length is not checked further."
        ),
        mark(
            "Run `hf cache verify` with the model's id, delete the file it names, and load again."
        ),
    ),
    _rule(
        r"OfflineModeIsEnabled|offline mode is enabled|HF_HUB_OFFLINE",
        mark("HF_HUB_OFFLINE forbids downloads, and the model is not whole in the cache."),
        mark('Set HF_HUB_OFFLINE=0 and restart the kernel, or write MODEL_ID = "pocket".'),
    ),
    _rule(
        r"client has been closed|couldn.t connect to|LocalEntryNotFoundError|ConnectError"
        r"|ConnectionError|Name or service not known|getaddrinfo failed|ReadTimeout|ConnectTimeout",
        mark("There is no way to the Hub from here, or it did not answer in time."),
        mark('Connect to the internet and run the cell again, or write MODEL_ID = "pocket".'),
    ),
    _rule(
        r"PermissionError.*(cache|huggingface|hub)",
        mark("The folder for downloaded models belongs to somebody else."),
        mark("Set HF_HOME to a folder that you may write to, and restart the kernel."),
    ),
    # --- options in the wrong place -------------------------------------------------------------
    _rule(
        rf"TypeError: .*unexpected keyword argument '(?P<option>{_OPTION})'",
        mark("{option} is about generating, and stands where the options for loading are."),
        mark("Move {option} from model_kwargs to pipeline_kwargs."),
    ),
    _rule(
        r"`temperature` \(=.*has to be a strictly positive float",
        mark("Sampling divides by the temperature."),
        mark(
            "Write do_sample=False and leave temperature out: the answer is the same every"
            " time then."
        ),
    ),
    _rule(
        r"`model_kwargs` are not used by the model: \[(?P<options>[^\]]*)\]",
        mark("The model has no option called {options}: it is misspelt, or meant for loading."),
        mark("Correct it; the usual ones are max_new_tokens, do_sample, temperature and top_p."),
    ),
    _rule(
        r"Both `device` and `device_map` are specified",
        mark("device puts the whole model in one place, device_map spreads it."),
        mark("Leave one of them out."),
    ),
    _rule(
        r"Got device==|device is required to be within|Torch not compiled with CUDA"
        r"|Found no NVIDIA driver|invalid device ordinal",
        mark(
            "There is no such device in this machine, or this torch was built without"
            " support for it."
        ),
        mark("Run select_device() to see what there is, or write DEVICE = -1 for the CPU."),
    ),
    _rule(
        r"no kernel image is available|not compatible with the current PyTorch",
        mark("This build of torch has no code for a GPU of this age."),
        mark("Install a build of torch that fits the GPU, or write DEVICE = -1 for the CPU."),
    ),
    _rule(
        r"Expected all tensors to be on the same device",
        mark("The model is on one device and the prompt on another."),
        mark("Load it with from_model_id(…, device=…), which moves both."),
    ),
    _rule(
        r"`?\.to`? is not supported for .*(4|8)-?bit",
        mark("A quantised model is placed while it is loaded and cannot be moved afterwards."),
        mark('Leave device out and write device_map="auto".'),
    ),
    # --- memory and length ------------------------------------------------------------------------
    _rule(
        r"OutOfMemoryError|out of memory|can.t allocate memory|not enough memory|^MemoryError",
        mark("The model, or the prompts that it reads at a time, need more memory than is free."),
        mark(
            "Restart the kernel, then write a smaller batch_size, shorter prompts or a"
            " smaller model;"
            " will_it_fit() tells before loading."
        ),
    ),
    _rule(
        r"IndexError: index out of range in self|device-side assert",
        mark("Prompt and answer are longer than the model can read, or a token is unknown to it."),
        mark(
            "Shorten the prompt or write a smaller max_new_tokens; LocalPipeline checks"
            " this before."
        ),
    ),
    _rule(
        r"does not have a padding token",
        mark(
            "Prompts of different length need a token to fill up with, and this tokenizer has none."
        ),
        mark("Write tokenizer.pad_token = tokenizer.eos_token; from_model_id does so by itself."),
    ),
    # --- what LangChain's own classes do not do ---------------------------------------------------
    _rule(
        r"async generation is not supported|has no attribute 'async_client'",
        mark("LangChain's ChatHuggingFace has no async calls for local models."),
        mark("Use LocalChat(llm=LocalPipeline.from_model_id(…)), which has."),
    ),
    _rule(
        r"^Empty: ?$|^Empty$",
        mark(
            "The first token took longer than 60 seconds, or the generating thread failed:"
            " LangChain's"
            " class loses that error."
        ),
        mark("Use LocalPipeline, which raises the error itself and has no time limit."),
    ),
    _rule(
        r"chat_template is not set|no chat template",
        mark("This model was not trained for conversations."),
        mark(
            "Use a model with a chat template (catalogue() names some), or leave the chat"
            " class out."
        ),
    ),
    # --- packages --------------------------------------------------------------------------------
    _rule(
        r"torchvision::nms does not exist",
        mark("torchvision and torch are not built for each other; nothing here needs torchvision."),
        mark("Run `%pip uninstall -y torchvision` and restart the kernel."),
    ),
    _rule(
        r"No module named 'langchain\.(llms|chat_models|prompts|chains)"
        r"|cannot import name .* from 'langchain",
        mark("The import path has moved: integrations have packages of their own now."),
        mark(
            "Write `from langchain_huggingface import HuggingFacePipeline`, and take prompts from"
            " langchain_core.prompts."
        ),
    ),
    _rule(
        r"requires? .{0,40}accelerate|accelerate.{0,20}is required",
        mark("device_map is the work of the package accelerate, which is not installed."),
        mark('Run install_packages("accelerate"), or leave device_map out.'),
    ),
    _rule(
        r"bitsandbytes",
        mark(
            "Loading in 4 or 8 bits is the work of bitsandbytes, which is missing or does not fit."
        ),
        mark("Run `%pip install -U bitsandbytes` and restart the kernel, or load without it."),
    ),
    _rule(
        r"flash.?attn|FlashAttention",
        mark("FlashAttention is a package of its own, for some NVIDIA GPUs only."),
        mark('Leave attn_implementation out, or write "sdpa", which every torch has.'),
    ),
    _rule(
        r"custom code which must be executed|trust_remote_code",
        mark("This model brings Python code of its own, which would run on your machine."),
        mark("Read that code first; then write trust_remote_code=True, or use another model."),
    ),
    _rule(
        r"vulnerability issue in `torch\.load`|upgrade torch to at least v2\.6",
        mark("The weights are pickled, and this torch can be attacked by such files."),
        mark("Use a model with safetensors, or a newer torch."),
    ),
    _rule(
        r"does not recognize this architecture|Unrecognized model|Unrecognized configuration class",
        mark("The model is newer than the installed transformers, or does not generate text."),
        mark("Use a newer transformers, or another model."),
    ),
    # --- OpenVINO --------------------------------------------------------------------------------
    _rule(
        r"(task could not be automatically inferred|cannot infer the task|"
        r"infer.{0,40}task.{0,60}(local|directory))",
        mark("For a folder nobody knows what the model is for."),
        mark("Add --task text-generation-with-past to optimum-cli, or use export_openvino()."),
    ),
    _rule(
        r"group.?size",
        mark(
            "The layers of this model are narrower than a group of weights, or do not divide by it."
        ),
        mark("Write a smaller group size: --group-size 32."),
    ),
    _rule(
        r"openvino_model\.xml|export=True",
        mark("The folder holds a PyTorch model, which OpenVINO has to convert first."),
        mark('Write model_kwargs={{"export": True}}, or convert it once with export_openvino().'),
    ),
    _rule(
        r"No module named '?(openvino|optimum|nncf)|optimum\[openvino\]",
        mark("OpenVINO and its tools are not installed."),
        mark('Run install_packages("openvino").'),
    ),
]
