"""One phantom from three numbers: anatomy, air, line integral, exposure. See README.md for what each file adds."""

from dataclasses import dataclass

import numpy as np

from phantom import bones, confusers, devices, exposure, pneumothorax, soft_tissue, vessels
from phantom.anatomy import Patient, Pose, draw_patient, draw_pose
from phantom.config import PhantomConfig, default_config
from phantom.geometry import Projection, enlarge, spread, stroke
from phantom.lungs import Lung, draw_lungs

TISSUE = 0.19  # attenuation of soft tissue at about 80 keV, 1/cm
AERATED = 0.26  # density of aerated lung against tissue


@dataclass(frozen=True)
class Phantom:
    """image uint8 [size, size] (air dark), mask bool likewise, box (xmin, ymin, xmax, ymax) in pixels of the chest."""

    image: np.ndarray
    mask: np.ndarray
    box: tuple[float, float, float, float]
    age: int
    sex: str
    view: str
    chest_tube: bool
    kind: str  # '', or apical, lateral, basal, tension; two joined by '+'

    @property
    def positive(self) -> bool:
        return bool(self.mask.any())


def stream(topic: int, *key: int) -> np.random.Generator:
    """Randomness of its own for each topic, so that a change in one leaves the others as they were."""
    return np.random.default_rng([*key, topic])


def render(
    seed: int,
    patient: int,
    view: int,
    size: int = 1024,
    positive: bool | None = None,
    config: PhantomConfig | None = None,
) -> Phantom:
    """One image of a patient: size x size pixels; `positive` overrides the drawn label, the rest stays the same."""
    config = config or default_config()
    person = draw_patient(stream(0, seed, patient))
    key = (seed, patient, view + 1)
    pose = draw_pose(stream(1, *key), person, size, config.ap_share)
    airs = draw_airs(stream(2, *key), positive, config)
    shift, flatten = tension(airs)
    lungs = draw_lungs(stream(3, *key), person, pose, shift, flatten)
    cm2 = (size / pose.projection.scale) ** 2
    for air in airs:
        index = (air.side + 1) // 2
        lungs[index] = pneumothorax.collapse(lungs[index], air, air.share * cm2)
    mask = pneumothorax.mask_of(lungs, pose.projection)
    foreign, drawn = devices.draw_devices(stream(11, *key), person, pose, pose.projection)
    attenuation = attenuate(seed, patient, key, person, pose, lungs, shift, float(mask.mean()), foreign, config)
    return Phantom(
        photograph(key, attenuation, pose, config), mask, chest_box(lungs, pose), person.age, person.sex, pose.view,
        devices.chest_tube in drawn, "+".join(a.kind for a in airs),
    )  # fmt: skip


def draw_airs(
    rng: np.random.Generator, positive: bool | None, config: PhantomConfig
) -> list[pneumothorax.Pneumothorax]:
    """The pneumothoraces of one image, none in most."""
    drawn = rng.random() < config.positive_share
    airs = pneumothorax.draw_pneumothoraces(rng, config.least_share, config.most_share, config.both_sides)
    return airs if (drawn if positive is None else positive) else []


def tension(airs: list[pneumothorax.Pneumothorax]) -> tuple[float, tuple[float, float]]:
    """How far the mediastinum is pushed (cm, to the image's right) and how flat each dome is pressed."""
    shift, flatten = 0.0, [0.0, 0.0]
    for air in airs:
        if air.kind == "tension":
            shift -= air.side * min(0.8 + 30 * air.share, 2.8)
            flatten[(air.side + 1) // 2] = min(8 * air.share, 0.55)
    return shift, (flatten[0], flatten[1])


def attenuate(
    seed, patient, key, person: Patient, pose: Pose, lungs: list[Lung], shift: float, aired: float,
    foreign: np.ndarray, config,
) -> np.ndarray:  # fmt: skip
    """The line integral of attenuation through the patient: float32 [size, size]."""
    full, half = pose.projection, pose.projection.at(pose.projection.size // 2)
    bullae = confusers.draw_bullae(stream(4, *key), lungs, config.bullae)
    expanded = soft_tissue.inside([one.surface for one in lungs], half)
    hidden = min(stream(20, *key).uniform(*config.overlap) + config.overlap_rise * min(aired / 0.04, 1), 0.95)
    lung = expanded + hidden * (soft_tissue.inside([one.cavity for one in lungs], half) - expanded)
    for bulla in bullae:
        within = 1 - 0.55 * soft_tissue.inside([bulla.outline], half)
        lung, expanded = lung * within, expanded * within
    total = enlarge(smooth_part(key, person, pose, lungs, shift, lung, expanded, half, config), full.size)
    trees = [vessels.grow(stream(5 + k, seed, patient, 0)) for k in range(2)]
    fine = vessels.draw_vessels(lungs, trees, full, stream(7, *key).uniform(0.7, 1.25))
    total += fine * enlarge(np.minimum(expanded + 0.15, 1), full.size) * np.float32(TISSUE)
    total += bones.draw_ribs(stream(8, seed, patient, 0), person, pose, full)
    total += bones.draw_shoulders(stream(9, *key), person, pose, full)
    total += bones.draw_spine(stream(10, seed, patient, 0), person, pose, full)
    total += foreign
    return total + thin_lines(lungs, bullae, full)


def smooth_part(
    key, person, pose, lungs, shift, lung: np.ndarray, expanded: np.ndarray, view: Projection, config
) -> np.ndarray:
    """Attenuation of everything without fine detail, at a coarser grid: float32 [view.size, view.size]."""
    rng = stream(12, *key)
    quarter = view.at(view.size // 2)
    cavity = soft_tissue.draw_cavity(lungs, person, view)
    density = AERATED * rng.uniform(0.85, 1.2) * (1.12 if pose.view == "AP" else 1.0)
    texture = soft_tissue.draw_texture(stream(13, *key), view.size) * np.float32(rng.uniform(0.04, 0.09))
    tissue = enlarge(
        soft_tissue.draw_torso(stream(14, *key), person, pose, quarter)
        - soft_tissue.draw_recesses(lungs, person, pose, quarter)
        + vessels.draw_hila(stream(15, *key), lungs, quarter),
        view.size,
    )
    extra = soft_tissue.draw_disease(stream(16, *key), lungs, person, pose, view, config.disease)
    tissue += cavity * (density * (lung + expanded * texture) - 1) + extra * lung
    tissue -= soft_tissue.draw_bowel(stream(17, *key), person, pose, view)
    rate = config.skin_folds[pose.view == "AP"]
    tissue += confusers.draw_skin_folds(
        stream(18, *key), view, person.half_width, person.lung_height * pose.inspiration, rate
    )
    tissue -= enlarge(soft_tissue.draw_airways(lungs, person, pose, quarter, shift), view.size)
    return np.maximum(tissue, 0) * np.float32(TISSUE)


def thin_lines(lungs: list[Lung], bullae: list[confusers.Bulla], view: Projection) -> np.ndarray:
    """Visceral pleura and the walls of bullae: float32 [size, size]."""
    layer = confusers.draw_walls(bullae, view)
    for lung in lungs:
        stroke(layer, [view(line) for line in pneumothorax.pleural_line(lung)], 0.07 * view.scale, 200)
    return spread(layer, 0.025 * view.scale) * (0.48 / 255)


def photograph(key, attenuation: np.ndarray, pose: Pose, config: PhantomConfig) -> np.ndarray:
    """Exposure, display and borders: uint8 [size, size]."""
    rng, size = stream(19, *key), len(attenuation)
    signal = exposure.expose(rng, attenuation, pose.view == "AP", config.noise)
    edge = int(0.08 * size)
    picture = exposure.display(rng, signal, (slice(edge, size - edge), slice(edge, size - edge)))
    picture = exposure.sharpen(picture, rng.uniform(0.0, 0.5))
    exposure.mark(rng, picture, pose)
    exposure.collimate(rng, picture, config.collimation)
    return np.clip(picture, 0, 255).astype(np.uint8)


def chest_box(lungs: list[Lung], pose: Pose) -> tuple[float, float, float, float]:
    """The box a reader draws: the rib cage from the apices to the costophrenic angles, cut at the image's border."""
    points = np.concatenate([pose.projection(one.cavity) for one in lungs])
    margin = 0.8 * pose.projection.scale
    low, high = points.min(0) - margin, np.add(points.max(0), (margin, 0.6 * margin))
    size = pose.projection.size
    return tuple(float(v) for v in np.clip([*low, *high], 0, size))
