"""`python -m local_pipelines.practice_hub`: the practice Hub for another program or notebook."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence

from local_pipelines.errors import LocalPipelinesError
from local_pipelines.practice_hub import PracticeHub
from local_pipelines.wording.messages import tr


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted, after telling what to set where the Hub is to be used."""
    parser = argparse.ArgumentParser(
        prog="python -m local_pipelines.practice_hub", description=__doc__
    )
    parser.add_argument("--port", type=int, default=8808, help="the Hub's port (8808); 0: any")
    port = parser.parse_args(arguments).port
    try:
        with PracticeHub(port=port, client="leave") as hub:
            print(_instructions(hub), flush=True)  # noqa: T201 - a command
            threading.Event().wait()
    except KeyboardInterrupt:
        return 0
    except LocalPipelinesError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command
        return 1
    return 0


def _instructions(hub: PracticeHub) -> str:
    settings = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": "./practice-cache",
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DISABLE_SAFETENSORS_CONVERSION": "1",
        "HF_TOKEN": hub.tokens["accepted"],
    }
    return "\n".join(
        [
            repr(hub),
            "",
            tr("Set these where you use it, before Python starts, or write them into .env:"),
            *(f"  {name}={value}" for name, value in settings.items()),
            "",
            tr("Ctrl+C stops it."),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
