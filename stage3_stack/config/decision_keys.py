"""The keys of decision.json that had another name in an earlier version."""

from pathlib import Path

from cxr.errors import UsageError
from stage3_stack.config.files import STAGE3

RENAMED_DECISION_KEYS = {
    "top": "top_score_threshold", "least_area": "min_area", "bottom": "bottom_score_threshold",
    "gate": "probability_threshold", "label_gate": "label_head_threshold", "least_component": "min_component_area",
}  # fmt: skip
"""Keys of an earlier version, and what they are called now."""


def refuse_renamed_keys(path: Path, params: object) -> None:
    """Raise UsageError where a decision.json's 'test', or one of its 'held_out', has keys of an earlier version."""
    old_keys = [key for key in RENAMED_DECISION_KEYS if isinstance(params, dict) and key in params]
    if old_keys:
        renamed_text = ", ".join(f"'{key}' is now called '{RENAMED_DECISION_KEYS[key]}'" for key in old_keys)
        raise UsageError(f"{path} is of an earlier version: {renamed_text}; FORCE=1 makes it anew: {STAGE3}")
