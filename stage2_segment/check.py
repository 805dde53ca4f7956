"""Before any work: can every segmenter of the recipe be built, are its start weights here, and do they fit?

python -m stage2_segment.check            settings that contradict each other were refused when the YAML was read
python -m stage2_segment.check --fetch    only fetch the hub's start weights; a file that the hub does not have is named
"""

import argparse
import difflib
import warnings

from cxr.errors import UsageError, run_main
from cxr.paths import Paths
from cxr.recipe import Recipe, load_recipe_and_paths
from cxr.training.start_weights import (
    fetch_weights,
    list_input_conflicts,
    list_missing_weights,
    resolve_or_report,
)
from stage2_segment import config
from stage2_segment.config import SegmenterConfig

MIN_SIDE = 64  # least image that every encoder takes


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage2_segment.check")
    parser.add_argument("--fetch", action="store_true", help="only fetch start weights")
    arguments = parser.parse_args()
    recipe, paths = load_recipe_and_paths(say=False)
    if arguments.fetch:
        _fetch_all_start_weights(recipe)
    else:
        check_members(recipe, paths)


def _fetch_all_start_weights(recipe: Recipe) -> None:
    """Fetch each start file once, whichever members share it; print which ones the hub does not have."""
    members = config.read_members(recipe)
    name_by_start = {config.get_start_weights(member): name for name, member in members.items()}
    for name in name_by_start.values():
        resolve_or_report(ensure_start_weights, name, members[name])


def check_members(recipe: Recipe, paths: Paths) -> None:
    """UsageError that names the YAML, the key and what would fit, where a member of the recipe cannot be built."""
    if all(step.is_up_to_date for step in config.units(recipe, paths)):
        print("stage 2: up to date")
        return
    members = config.read_members(recipe)
    for name, member in members.items():
        check_member(name, member)
        for remark in list_input_conflicts(member, config.get_start_weights(member), "encoder_args"):
            print(f"NOTE: {config.member_path(name)}: {remark}", flush=True)
    print(f"stage 2: {len(members)} members can be built")


def check_member(name: str, member: SegmenterConfig) -> None:
    """UsageError as for `check_members`."""
    path = config.member_path(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensors without memory are filled below, to see whether the weights fit
        if problem := find_build_problem(member):
            raise UsageError(f"{path}: key 'encoder': {problem}; what fits: {_describe_alternatives(member)}")
        ensure_start_weights(name, member)
        try:
            _check_weights(member)
        except UsageError as error:
            raise UsageError(f"{path}: key 'weights': {error}") from None


def ensure_start_weights(name: str, member: SegmenterConfig) -> None:
    """Have a member's start weights on this machine before any step; UsageError as for `check_members`."""
    start_weights = config.get_start_weights(member)
    if not list_missing_weights(start_weights.input_files):  # then no framework is needed
        return
    from cxr.torchkit.weights import download_weights
    from stage2_segment.networks import require_encoder

    try:
        require_encoder(member)
        fetch_weights(start_weights, download_weights)
    except UsageError as error:
        raise type(error)(f"{config.member_path(name)}: key 'weights': {error}") from None


def resolve_members(
    recipe: Recipe, names: list[str], members: dict[str, SegmenterConfig]
) -> dict[str, SegmenterConfig]:
    """Add the members that the named ones start from, fetch their start weights, fill in mean, std and padding."""
    start_names = [start_name for name in names for start_name in config.list_start_members(name, members[name])]
    missing_names = [name for name in start_names if name not in members]
    members = {name: config.read_members(recipe, name)[name] for name in missing_names} | members
    for name in dict.fromkeys([*start_names, *names]):
        ensure_start_weights(name, members[name])
    return config.complete_members(members)


def find_build_problem(member: SegmenterConfig) -> str | None:
    """Why the network cannot be built, or cannot pass an image; None where it can."""
    reason = _try_forward_pass(member, "meta")  # without memory or arithmetic
    if reason and "meta" in reason:  # some networks cannot run on the meta device
        reason = _try_forward_pass(member, "cpu")
    return reason


def _try_forward_pass(member: SegmenterConfig, device: str) -> str | None:
    import torch

    from stage2_segment.networks import Segmenter

    try:
        with torch.device(device), torch.no_grad():
            model = Segmenter(member.model_copy(update={"weights": None}))
            model(torch.zeros(2, 1, MIN_SIDE, MIN_SIDE, dtype=torch.uint8))
    except UsageError as error:
        return str(error)
    except Exception as error:  # shapes that do not meet: libraries raise many kinds
        return f"encoder '{member.encoder}' cannot be paired with {member.architecture}: {str(error).splitlines()[0]}"
    return None


def _describe_alternatives(member: SegmenterConfig) -> str:
    """Changes of one setting after which the network can be built."""
    candidates = _list_similar_members(member)
    alternatives = [description for description, candidate in candidates if not find_build_problem(candidate)]
    return ", ".join(alternatives) or _describe_known_encoders()


def _list_similar_members(member: SegmenterConfig) -> list[tuple[str, SegmenterConfig]]:
    """Similar members, each with a description of the change: encoders of nearest name, the other architecture."""
    changes = [(f"encoder: {name}", {"encoder": name}) for name in find_similar_encoders(member.encoder or "")]
    other_architecture = "unet" if member.architecture == "unetplusplus" else "unetplusplus"
    changes.append((f"architecture: {other_architecture}", {"architecture": other_architecture}))
    return [(description, member.model_copy(update=change)) for description, change in changes]


def find_similar_encoders(encoder: str) -> list[str]:
    """The encoders whose names are nearest, of smp's own and of timm's."""
    import timm
    from segmentation_models_pytorch.encoders import get_encoder_names

    smp_encoders = [name for name in get_encoder_names() if not name.startswith("timm-")]  # those are deprecated
    smp_matches = difflib.get_close_matches(encoder.removeprefix("tu-"), smp_encoders, n=2, cutoff=0.5)
    smp_matches += [name for name in smp_encoders if encoder.endswith(f"_{name}") and name not in smp_matches]
    timm_matches = difflib.get_close_matches(encoder.removeprefix("tu-"), timm.list_models(), n=2, cutoff=0.7)
    return [name for name in (*smp_matches, *(f"tu-{name}" for name in timm_matches)) if name != encoder]


def _describe_known_encoders() -> str:
    return "an encoder of segmentation-models-pytorch, or tu- and a convolutional backbone of timm"


def _check_weights(member: SegmenterConfig) -> None:
    """UsageError where the start weights are missing, or belong to another network."""
    import torch

    from stage2_segment.networks import Segmenter, load_start_weights, require_encoder

    if config.get_start_weights(member).is_random:
        return
    require_encoder(member)
    with torch.device("meta"):
        model = Segmenter(member)
    load_start_weights(model, member)


if __name__ == "__main__":
    run_main(main)
