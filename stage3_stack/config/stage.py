"""What all parts of stage 3 share: the folders of a run, its settings, and the prepared data."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cxr.datasets.prepared import Prepared
from cxr.paths import Paths
from stage3_stack.config.settings import Config
from stage3_stack.config.steps import UnitConfig

MAPS = "maps"
"""The one member of a recipe without classifiers: the segmenters' maps."""


@dataclass(frozen=True)
class Stage:
    """Stage 3 of one recipe on one dataset; the prepared data is opened when it is first needed."""

    paths: Paths
    unit: UnitConfig

    @cached_property
    def prepared(self) -> Prepared:
        """The prepared images, masks and tables, with the run's folds."""
        return Prepared(self.paths.prepared_folder, self.paths.folds_csv)

    @property
    def settings(self) -> Config:
        """The settings of configs/<name>.yaml."""
        return self.unit.settings

    @property
    def folder(self) -> Path:
        """The folder that stage 3 writes to."""
        return self.paths.stage3_folder

    @property
    def member_names(self) -> list[str]:
        """The classifiers or, in a recipe without any, the segmenters' maps."""
        return self.unit.members or [MAPS]
