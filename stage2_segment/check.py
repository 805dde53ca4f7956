"""Before any work: can every segmenter of the recipe be built, are its start weights here, and do they fit?

python -m stage2_segment.check            of the chosen recipe; what settings alone can tell, reading them has told
python -m stage2_segment.check --fetch    only have the hub's start weights fetched; what it does not give is said
"""

import argparse
import difflib
import warnings

from cxr import weights
from cxr.errors import UsageError, run_main
from cxr.paths import Paths
from cxr.recipe import Recipe, chosen
from stage2_segment import config
from stage2_segment.config import SegmenterConfig

SIDE = 64  # least image that every encoder takes


def main() -> None:
    parser = argparse.ArgumentParser(prog="stage2_segment.check")
    parser.add_argument("--fetch", action="store_true", help="only fetch start weights")
    asked = parser.parse_args()
    recipe, paths = chosen(say=False)
    if asked.fetch:
        for name, member in {config.start(m): (name, m) for name, m in config.members(recipe).items()}.values():
            weights.tell(resolve, name, member)
        return
    check(recipe, paths)


def check(recipe: Recipe, paths: Paths) -> None:
    """UsageError that names the YAML, the key and what would fit, where a member of the recipe cannot be built."""
    if all(unit.current for unit in config.units(recipe, paths)):
        print("stage 2: up to date")
        return
    members = config.members(recipe)
    for name, member in members.items():
        check_member(name, member)
        for remark in weights.remarks(member, config.start(member), "encoder_args"):
            print(f"NOTE: {config.path_of(name)}: {remark}", flush=True)
    print(f"stage 2: {len(members)} members can be built")


def check_member(name: str, member: SegmenterConfig) -> None:
    """UsageError as for `check`."""
    path = config.path_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tensors without memory are filled below, to see whether the weights fit
        if problem := trouble(member):
            fitting = [words for words, other in _others(member) if not trouble(other)]
            raise UsageError(f"{path}: key 'encoder': {problem}; what fits: {', '.join(fitting) or _known()}")
        resolve(name, member)
        try:
            _check_weights(member)
        except UsageError as error:
            raise UsageError(f"{path}: key 'weights': {error}") from None


def resolve(name: str, member: SegmenterConfig) -> None:
    """Have a member's start weights on this machine before any unit; UsageError as for `check`."""
    start = config.start(member)
    if not weights.lacking(start.inputs):  # then no framework is needed
        return
    from cxr.torchkit.weights import download
    from stage2_segment.models import no_encoder

    try:
        no_encoder(member)
        weights.fetch(start, download)
    except UsageError as error:
        raise type(error)(f"{config.path_of(name)}: key 'weights': {error}") from None


def ready(recipe: Recipe, names: list[str], found: dict[str, SegmenterConfig]) -> dict[str, SegmenterConfig]:
    """Members, those named with all that they start from: the start weights are here, their settings complete."""
    chain = [former for name in names for former in config.formers(name, found[name])]
    found = {former: config.members(recipe, former)[former] for former in chain if former not in found} | found
    for name in dict.fromkeys([*chain, *names]):
        resolve(name, found[name])
    return config.settled(found)


def trouble(member: SegmenterConfig) -> str | None:
    """Why the network cannot be built, or cannot pass an image, in words; None where it can."""
    reason = _tried(member, "meta")  # without memory or arithmetic
    if reason and "meta" in reason:  # which some networks cannot be tried by
        reason = _tried(member, "cpu")
    return reason


def _tried(member: SegmenterConfig, device: str) -> str | None:
    import torch

    from stage2_segment.models import Segmenter

    try:
        with torch.device(device), torch.no_grad():
            Segmenter(member.model_copy(update={"weights": None}))(torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8))
    except UsageError as error:
        return str(error)
    except Exception as error:  # shapes that do not meet: libraries raise many kinds
        return f"encoder '{member.encoder}' cannot be paired with {member.architecture}: {str(error).splitlines()[0]}"
    return None


def _others(member: SegmenterConfig) -> list[tuple[str, SegmenterConfig]]:
    """Members near this one that may fit, in words: the encoders of nearest name, the other architecture."""
    near = [(f"encoder: {name}", {"encoder": name}) for name in nearest(member.encoder or "")]
    other = "unet" if member.architecture == "unetplusplus" else "unetplusplus"
    near.append((f"architecture: {other}", {"architecture": other}))
    return [(words, member.model_copy(update=change)) for words, change in near]


def nearest(encoder: str) -> list[str]:
    """The encoders whose names are nearest, of smp's own and of timm's."""
    import timm
    from segmentation_models_pytorch.encoders import get_encoder_names

    own = [name for name in get_encoder_names() if not name.startswith("timm-")]  # those are deprecated
    found = difflib.get_close_matches(encoder.removeprefix("tu-"), own, n=2, cutoff=0.5)
    found += [name for name in own if encoder.endswith(f"_{name}") and name not in found]
    timms = difflib.get_close_matches(encoder.removeprefix("tu-"), timm.list_models(), n=2, cutoff=0.7)
    return [name for name in (*found, *(f"tu-{name}" for name in timms)) if name != encoder]


def _known() -> str:
    return "an encoder of segmentation-models-pytorch, or tu- and a convolutional backbone of timm"


def _check_weights(member: SegmenterConfig) -> None:
    """UsageError where the start weights are not there, or are another network's."""
    import torch

    from stage2_segment.models import Segmenter, fill, no_encoder

    if config.start(member).random:
        return
    no_encoder(member)
    with torch.device("meta"):
        model = Segmenter(member)
    fill(model, member)


if __name__ == "__main__":
    run_main(main)
