"""Settings, steps and files of stage 3: all that the pipeline imports of it."""

from stage3_stack.config.decision_keys import RENAMED_DECISION_KEYS, refuse_renamed_keys
from stage3_stack.config.files import STAGE3, chest_tubes_path, map_folder, stacked_map_folder, test_truth_path
from stage3_stack.config.settings import (
    CONFIGS,
    Column,
    Config,
    DenseConfig,
    GridConfig,
    LightgbmConfig,
    MaskStackerConfig,
    OperatingPointConfig,
    ZoneConfig,
    read_stack_settings,
)
from stage3_stack.config.steps import MaskUnitConfig, UnitConfig, build_mask_step, build_stack_step, units

__all__ = [
    "CONFIGS",
    "RENAMED_DECISION_KEYS",
    "STAGE3",
    "Column",
    "Config",
    "DenseConfig",
    "GridConfig",
    "LightgbmConfig",
    "MaskStackerConfig",
    "MaskUnitConfig",
    "OperatingPointConfig",
    "UnitConfig",
    "ZoneConfig",
    "build_mask_step",
    "build_stack_step",
    "chest_tubes_path",
    "map_folder",
    "read_stack_settings",
    "refuse_renamed_keys",
    "stacked_map_folder",
    "test_truth_path",
    "units",
]
