"""One phantom from three numbers: anatomy, air, line integral, exposure. See README.md for what each file adds.

Factors and widths without a source are chosen by eye.
"""

from dataclasses import dataclass

import numpy as np

from phantom import bones, confusers, devices, exposure, pneumothorax, soft_tissue, vessels
from phantom.anatomy import Patient, Pose, sample_patient, sample_pose
from phantom.config import PhantomConfig, default_config
from phantom.geometry import Projection, blur_to_float, stroke_paths, upsample_map
from phantom.lungs import Lung, sample_lungs
from phantom.topics import VESSEL_TREES, Topic, keyed_rng

TISSUE_ATTENUATION = 0.19  # 1/cm at 80 keV: .182 cm2/g (NIST, ICRU-44 soft tissue) at 1.06 g/cm3
AERATED_DENSITY = 0.26  # of inflated lung against water (ICRU-44)


@dataclass(frozen=True)
class Phantom:
    """image uint8 [size, size] (air dark), mask bool likewise, box (xmin, ymin, xmax, ymax) in pixels of the chest."""

    image: np.ndarray
    mask: np.ndarray
    box: tuple[float, float, float, float]
    age: int
    sex: str
    view_position: str
    has_chest_tube: bool
    kind: str  # '', or apical, lateral, basal, tension; two joined by '+'

    @property
    def positive(self) -> bool:
        return bool(self.mask.any())


def render_phantom(
    seed: int,
    patient_number: int,
    image_number: int,
    size: int = 1024,
    positive: bool | None = None,
    config: PhantomConfig | None = None,
) -> Phantom:
    """One image of a patient: size x size pixels; `positive` overrides the drawn label, the rest stays the same."""
    config = config or default_config()
    patient = sample_patient(keyed_rng(Topic.PATIENT, seed, patient_number))
    image_key = (seed, patient_number, image_number + 1)
    pose = sample_pose(keyed_rng(Topic.POSE, *image_key), patient, size, config.ap_share)
    pneumothoraces = choose_pneumothoraces(keyed_rng(Topic.PNEUMOTHORAX, *image_key), positive, config)
    shift, dome_flattening = compute_tension_effects(pneumothoraces)
    lungs = sample_lungs(keyed_rng(Topic.LUNGS, *image_key), patient, pose, shift, dome_flattening)
    image_area = (size / pose.projection.scale) ** 2
    for air in pneumothoraces:
        index = (air.side + 1) // 2
        lungs[index] = pneumothorax.collapse_lung(lungs[index], air, air.share * image_area)
    mask = pneumothorax.draw_air_mask(lungs, pose.projection)
    device_attenuation, drawn_devices = devices.draw_devices(
        keyed_rng(Topic.DEVICES, *image_key), patient, pose, pose.projection
    )
    attenuation = compute_attenuation(
        seed, patient_number, image_key, patient, pose, lungs, shift, float(mask.mean()), device_attenuation, config
    )
    return Phantom(
        expose_image(image_key, attenuation, pose, config), mask, compute_chest_box(lungs, pose),
        patient.age, patient.sex, pose.view_position,
        devices.draw_chest_tube in drawn_devices, "+".join(air.kind for air in pneumothoraces),
    )  # fmt: skip


def choose_pneumothoraces(
    rng: np.random.Generator, positive: bool | None, config: PhantomConfig
) -> list[pneumothorax.Pneumothorax]:
    """The pneumothoraces of one image, none in most."""
    is_positive = rng.random() < config.positive_share
    pneumothoraces = pneumothorax.sample_pneumothoraces(rng, config.least_share, config.most_share, config.both_sides)
    return pneumothoraces if (is_positive if positive is None else positive) else []


def compute_tension_effects(pneumothoraces: list[pneumothorax.Pneumothorax]) -> tuple[float, tuple[float, float]]:
    """How far the mediastinum is pushed (cm, to the image's right) and how flat each dome is pressed."""
    shift, dome_flattening = 0.0, [0.0, 0.0]
    for air in pneumothoraces:
        if air.kind == "tension":
            shift -= air.side * min(0.8 + 30 * air.share, 2.8)
            dome_flattening[(air.side + 1) // 2] = min(8 * air.share, 0.55)
    return shift, (dome_flattening[0], dome_flattening[1])


def compute_attenuation(
    seed, patient_number, image_key, patient: Patient, pose: Pose, lungs: list[Lung], shift: float, air_share: float,
    device_attenuation: np.ndarray, config,
) -> np.ndarray:  # fmt: skip
    """The line integral of attenuation through the patient: float32 [size, size]."""
    projection, half_projection = pose.projection, pose.projection.with_size(pose.projection.size // 2)
    bullae = confusers.sample_bullae(keyed_rng(Topic.BULLAE, *image_key), lungs, config.bullae)
    expanded_coverage = soft_tissue.compute_coverage([lung.surface for lung in lungs], half_projection)
    overlap = min(
        keyed_rng(Topic.LUNG_OVERLAP, *image_key).uniform(*config.overlap)
        + config.overlap_rise * min(air_share / 0.04, 1),
        0.95,
    )
    lung_coverage = expanded_coverage + overlap * (
        soft_tissue.compute_coverage([lung.cavity for lung in lungs], half_projection) - expanded_coverage
    )
    for bulla in bullae:
        bulla_factor = 1 - 0.55 * soft_tissue.compute_coverage([bulla.outline], half_projection)
        lung_coverage, expanded_coverage = lung_coverage * bulla_factor, expanded_coverage * bulla_factor
    attenuation = upsample_map(
        compute_smooth_attenuation(
            image_key, patient, pose, lungs, shift, lung_coverage, expanded_coverage, half_projection, config
        ),
        projection.size,
    )
    trees = [vessels.grow_vessel_tree(keyed_rng(topic, seed, patient_number, 0)) for topic in VESSEL_TREES]
    vessel_thickness = vessels.draw_vessels(
        lungs, trees, projection, keyed_rng(Topic.VESSEL_STRENGTH, *image_key).uniform(0.7, 1.25)
    )
    attenuation += (
        vessel_thickness
        * upsample_map(np.minimum(expanded_coverage + 0.15, 1), projection.size)
        * np.float32(TISSUE_ATTENUATION)
    )
    attenuation += bones.draw_ribs(keyed_rng(Topic.RIBS, seed, patient_number, 0), patient, pose, projection)
    attenuation += bones.draw_shoulders(keyed_rng(Topic.SHOULDERS, *image_key), patient, pose, projection)
    attenuation += bones.draw_spine(keyed_rng(Topic.SPINE, seed, patient_number, 0), patient, pose, projection)
    attenuation += device_attenuation
    return attenuation + draw_thin_lines(lungs, bullae, projection)


def compute_smooth_attenuation(
    image_key,
    patient,
    pose,
    lungs,
    shift,
    lung_coverage: np.ndarray,
    expanded_coverage: np.ndarray,
    projection: Projection,
    config,
) -> np.ndarray:
    """Attenuation of everything without fine detail, at a coarser grid: float32 [view.size, view.size]."""
    rng = keyed_rng(Topic.LUNG_DENSITY, *image_key)
    quarter_projection = projection.with_size(projection.size // 2)
    cavity_thickness = soft_tissue.draw_cavity(lungs, patient, projection)
    density = AERATED_DENSITY * rng.uniform(0.85, 1.2) * (1.12 if pose.view_position == "AP" else 1.0)
    texture = soft_tissue.sample_texture(keyed_rng(Topic.LUNG_TEXTURE, *image_key), projection.size) * np.float32(
        rng.uniform(0.04, 0.09)
    )
    tissue_thickness = upsample_map(
        soft_tissue.draw_torso(keyed_rng(Topic.TORSO, *image_key), patient, pose, quarter_projection)
        - soft_tissue.draw_recesses(lungs, patient, pose, quarter_projection)
        + vessels.draw_hila(keyed_rng(Topic.HILA, *image_key), lungs, quarter_projection),
        projection.size,
    )
    disease_thickness = soft_tissue.draw_disease(
        keyed_rng(Topic.DISEASE, *image_key), lungs, patient, pose, projection, config.disease
    )
    tissue_thickness += (
        cavity_thickness * (density * (lung_coverage + expanded_coverage * texture) - 1)
        + disease_thickness * lung_coverage
    )
    tissue_thickness -= soft_tissue.draw_bowel(keyed_rng(Topic.BOWEL_GAS, *image_key), patient, pose, projection)
    fold_rate = config.skin_folds[pose.view_position == "AP"]
    tissue_thickness += confusers.draw_skin_folds(
        keyed_rng(Topic.SKIN_FOLDS, *image_key),
        projection,
        patient.half_width,
        patient.lung_height * pose.inspiration,
        fold_rate,
    )
    tissue_thickness -= upsample_map(
        soft_tissue.draw_airways(lungs, patient, pose, quarter_projection, shift), projection.size
    )
    return np.maximum(tissue_thickness, 0) * np.float32(TISSUE_ATTENUATION)


def draw_thin_lines(lungs: list[Lung], bullae: list[confusers.Bulla], projection: Projection) -> np.ndarray:
    """Visceral pleura and the walls of bullae: float32 [size, size]."""
    layer = confusers.draw_bulla_walls(bullae, projection)
    for lung in lungs:
        stroke_paths(
            layer, [projection(line) for line in pneumothorax.trace_pleural_line(lung)], 0.07 * projection.scale, 200
        )
    return blur_to_float(layer, 0.025 * projection.scale) * (0.48 / 255)


def expose_image(image_key, attenuation: np.ndarray, pose: Pose, config: PhantomConfig) -> np.ndarray:
    """Exposure, display and borders: uint8 [size, size]."""
    rng, size = keyed_rng(Topic.EXPOSURE, *image_key), len(attenuation)
    signal = exposure.compute_detector_signal(rng, attenuation, pose.view_position == "AP", config.noise)
    margin = int(0.08 * size)
    picture = exposure.apply_display_curve(rng, signal, (slice(margin, size - margin), slice(margin, size - margin)))
    picture = exposure.sharpen_picture(picture, rng.uniform(0.0, 0.5))
    exposure.draw_markers(rng, picture, pose)
    exposure.draw_collimation(rng, picture, config.collimation)
    return np.clip(picture, 0, 255).astype(np.uint8)


def compute_chest_box(lungs: list[Lung], pose: Pose) -> tuple[float, float, float, float]:
    """The box a reader draws: the rib cage from the apices to the costophrenic angles, cut at the image's border."""
    points = np.concatenate([pose.projection(lung.cavity) for lung in lungs])
    margin = 0.8 * pose.projection.scale
    low, high = points.min(0) - margin, np.add(points.max(0), (margin, 0.6 * margin))
    size = pose.projection.size
    return tuple(float(edge) for edge in np.clip([*low, *high], 0, size))
