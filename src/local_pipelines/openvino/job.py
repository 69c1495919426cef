"""What shall be exported and where to, and whether the very same lies there already."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from local_pipelines.errors import ExportError
from local_pipelines.models.contents import check_contents
from local_pipelines.models.download import fetch_model
from local_pipelines.models.names import Model, cached_folder
from local_pipelines.openvino.folder import read_export
from local_pipelines.openvino.manifest import Manifest, is_same_source, read_manifest
from local_pipelines.wording.messages import tr
from local_pipelines.workbench.workshop import cannot_write

__all__ = ["ExportJob", "commit_of"]


@dataclass(frozen=True)
class ExportJob:
    """A model, the folder it shall lie in, and its format there."""

    model: Model
    target: Path
    weight_format: str
    group_size: int | None = None

    @property
    def name(self) -> str:
        """The model's name, without the path of a folder."""
        return self.model.title

    @property
    def title(self) -> str:
        """Model and format, as the line of progress has them."""
        return tr("{name} to {weight_format}").format(
            name=self.name, weight_format=self.weight_format
        )

    def fetch(self) -> Path:
        """The folder that the model lies in, downloaded where it must be."""
        folder = fetch_model(self.model)
        check_contents(folder)
        return folder

    def is_done(self) -> bool:
        """Whether the folder holds this very export.

        Raises:
            ExportError: It holds something else, or a damaged export.
        """
        target = self.target
        try:
            if not target.exists() or (target.is_dir() and not any(target.iterdir())):
                return False
        except OSError as error:
            raise cannot_write(target, error) from error
        manifest = read_manifest(target)
        if manifest is None:
            raise ExportError(
                tr("{target} is there already, and not an export of this course.").format(
                    target=target
                ),
                tr("Nothing in it was changed."),
                tr("Write another folder's name."),
            )
        if difference := self._difference(manifest):
            raise ExportError(
                tr("{target} holds another export: {difference}.").format(
                    target=target, difference=difference
                ),
                tr("Nothing in it was changed."),
                tr(
                    "Write another folder's name, such as one for each model and format, or delete"
                    " it."
                ),
            )
        read_export(target)  # whole, and readable by the OpenVINO that is installed
        return True

    def _difference(self, found: Manifest) -> str:
        """How the export that was found is not the one asked for; empty if it is."""
        if not self._is_source(found):
            if found.model == self.name:
                return tr("it was made from {model}, of which this is another version").format(
                    model=found.model
                )
            return tr("it was made from {model}").format(model=found.model)
        if found.weight_format != self.weight_format:
            return tr("{found}, not {wanted}").format(
                found=found.weight_format, wanted=self.weight_format
            )
        if self.group_size is None and not found.group_size_chosen:
            return tr("int4 with group_size={size}, which this call does not ask for").format(
                size=found.group_size
            )
        if self.group_size not in {None, found.group_size}:
            return tr("int4 with groups of {size}, not {wanted}").format(
                size=found.group_size, wanted=self.group_size
            )
        return ""

    def _is_source(self, found: Manifest) -> bool:
        hub_id = self.model.hub_id
        if hub_id is None and self.model.place is not None:
            return is_same_source(found, self.model.place)
        if found.model != self.name:
            return False
        # Offline, or never downloaded here: then the name is all that can be compared.
        cached = hub_id and cached_folder(hub_id)
        return not cached or commit_of(cached) in {"", found.revision}


def commit_of(snapshot: Path) -> str:
    """The commit on the Hub that a folder of the cache is named after; empty for any other."""
    return snapshot.name if re.fullmatch(r"[0-9a-f]{40}", snapshot.name) else ""
