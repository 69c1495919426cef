"""What shall be exported and where to, and whether the very same lies there already."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from local_pipelines.errors import failure
from local_pipelines.models.contents import check_contents
from local_pipelines.models.download import fetch_model
from local_pipelines.models.names import Model, cached_folder
from local_pipelines.openvino.folder import read_export
from local_pipelines.openvino.manifest import Manifest, is_same_source, read_manifest
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.workshop import cannot_write


@dataclass(frozen=True)
class ExportJob:
    """A model, the folder it shall lie in, and its format there."""

    model: Model
    target: Path
    weight_format: str
    group_size: int | None = None

    @property
    def title(self) -> str:
        """Model and format, as the line of progress has them."""
        form = self.weight_format
        return tr("{name} to {weight_format}").format(name=self.model.title, weight_format=form)

    def fetch(self) -> Path:
        """The folder that the model lies in, downloaded where it must be."""
        folder = fetch_model(self.model)
        check_contents(folder)
        return folder

    def is_done(self) -> bool:
        """Whether the folder holds this very export; ExportError if it holds something else."""
        target = self.target
        try:
            if not target.exists() or (target.is_dir() and not any(target.iterdir())):
                return False
        except OSError as error:
            raise cannot_write(target, error) from error
        manifest = read_manifest(target)
        if manifest is None:
            raise failure("not-our-export", target=target)
        if difference := self._difference(manifest):
            raise failure("another-export", target=target, difference=difference)
        read_export(target)  # whole, and readable by the OpenVINO that is installed
        return True

    def _difference(self, found: Manifest) -> str:
        """How the export that was found is not the one asked for; empty if it is."""
        model, size, wanted = found.model, found.group_size, self.group_size
        if not self._is_source(found):
            another = tr("it was made from {model}, of which this is another version")
            other = tr("it was made from {model}")
            return (another if model == self.model.title else other).format(model=model)
        if (form := found.weight_format) != self.weight_format:
            return tr("{found}, not {wanted}").format(found=form, wanted=self.weight_format)
        if wanted is None and not found.group_size_chosen:
            difference = tr("int4 with group_size={size}, which this call does not ask for")
            return difference.format(size=size)
        if wanted not in {None, size}:
            return tr("int4 with groups of {size}, not {wanted}").format(size=size, wanted=wanted)
        return ""

    def _is_source(self, found: Manifest) -> bool:
        hub_id, place = self.model.hub_id, self.model.place
        if self.model.gguf or (hub_id is None and place is not None):
            return place is not None and is_same_source(found, place)
        if found.model != self.model.title:
            return False
        # Offline, or never downloaded here: then the name is all that can be compared.
        cached = hub_id and cached_folder(hub_id)
        return not cached or commit_of(cached) in {"", found.revision}


def commit_of(snapshot: Path) -> str:
    """The commit on the Hub that a folder of the cache is named after; empty for any other."""
    return snapshot.name if re.fullmatch(r"[0-9a-f]{40}", snapshot.name) else ""
