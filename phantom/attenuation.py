"""The line integral of attenuation through the patient: thickness times coefficient (Beer-Lambert), summed.

Factors without a source are chosen by eye.
"""

from typing import NamedTuple

import numpy as np

from phantom import bones, confusers, pneumothorax, shoulders, soft_tissue, vessels
from phantom.geometry import blur_to_float, stroke_paths, upsample_map
from phantom.scene import Scene
from phantom.topics import Topic

# Soft tissue at 80 keV: .1823 cm2/g (NIST, X-Ray Mass Attenuation Coefficients, soft tissue of ICRU 44) at 1.06 g/cm3
# makes .193 per cm.
TISSUE_ATTENUATION = 0.19
AERATED_DENSITY = 0.26  # g/cm3 of inflated lung (ICRP 23, Reference Man, 1975), taken relative to tissue of 1
LARGE_AIR_SHARE = 0.04  # of the image, from which the overlap rises no further (config.yaml)
AP_DENSITY_FACTOR = 1.12  # lungs are less inflated in bed


class LungCoverage(NamedTuple):
    """Share of each pixel that shows lung, float32 [half size, half size], 0..1."""

    total: np.ndarray  # with the part of the lung that lies in front of or behind the air
    expanded: np.ndarray  # within the visceral pleura alone


def compute_attenuation(scene: Scene, device_attenuation: np.ndarray) -> np.ndarray:
    """Attenuation by all that lies in the beam, devices included: float32 [size, size], 0 upwards."""
    key, patient, pose, coverage = scene.key, scene.patient, scene.pose, compute_lung_coverage(scene)
    attenuation = upsample_map(compute_smooth_attenuation(scene, coverage), pose.projection.size)
    attenuation += compute_vessel_attenuation(scene, coverage)
    attenuation += bones.draw_ribs(key.create_patient_rng(Topic.RIBS), patient, pose)
    attenuation += shoulders.draw_shoulders(key.create_image_rng(Topic.SHOULDERS), patient, pose)
    attenuation += bones.draw_spine(key.create_patient_rng(Topic.SPINE), patient, pose)
    attenuation += device_attenuation
    return attenuation + draw_thin_lines(scene)


def compute_lung_coverage(scene: Scene) -> LungCoverage:
    """Where lung is seen: all of it within the pleura, a share of it over the air, less over bullae."""
    projection, config = scene.half_pose.projection, scene.config
    air_size = min(float(scene.mask.mean()) / LARGE_AIR_SHARE, 1)
    drawn_overlap = scene.key.create_image_rng(Topic.LUNG_OVERLAP).uniform(*config.overlap)
    overlap = min(drawn_overlap + config.overlap_rise * air_size, 0.95)
    expanded = soft_tissue.compute_coverage([lung.surface for lung in scene.lungs], projection)
    cavity = soft_tissue.compute_coverage([lung.cavity for lung in scene.lungs], projection)
    total = expanded + overlap * (cavity - expanded)
    for bulla in scene.bullae:
        bulla_factor = 1 - 0.55 * soft_tissue.compute_coverage([bulla.outline], projection)
        total, expanded = total * bulla_factor, expanded * bulla_factor
    return LungCoverage(total, expanded)


def compute_smooth_attenuation(scene: Scene, coverage: LungCoverage) -> np.ndarray:
    """Attenuation by all that has no fine detail: trunk, lungs, disease, skin folds, and the air of bowel and airways.

    scene: patient, pose and lungs; drawn at half and a quarter of the scene's size
    coverage: where lung is seen
    Returns the attenuation without a unit (thickness in cm times 1/cm), float32 [half size, half size], 0 upwards.
    """
    key, patient, pose = scene.key, scene.patient, scene.half_pose
    size, fold_rate = pose.projection.size, scene.config.skin_folds[pose.view_position == "AP"]
    cavity = soft_tissue.draw_cavity(scene.lungs, patient, pose.projection)
    thickness = upsample_map(compute_trunk_thickness(scene), size)
    disease_rng, fold_rng = key.create_image_rng(Topic.DISEASE), key.create_image_rng(Topic.SKIN_FOLDS)
    disease = soft_tissue.draw_disease(disease_rng, scene.lungs, patient, pose, scene.config.disease)
    thickness += cavity * (compute_lung_density(scene, coverage) - 1) + disease * coverage.total
    thickness -= soft_tissue.draw_bowel(key.create_image_rng(Topic.BOWEL_GAS), patient, pose)
    thickness += confusers.draw_skin_folds(fold_rng, patient, pose, fold_rate)
    airways = soft_tissue.draw_airways(scene.lungs, patient, scene.quarter_pose, scene.mediastinal_shift)
    thickness -= upsample_map(airways, size)
    return np.maximum(thickness, 0) * np.float32(TISSUE_ATTENUATION)


def compute_trunk_thickness(scene: Scene) -> np.ndarray:
    """Trunk and hila without the air of hidden recesses, in cm of tissue: float32 [quarter size, quarter size]."""
    key, patient, pose = scene.key, scene.patient, scene.quarter_pose
    torso = soft_tissue.draw_torso(key.create_image_rng(Topic.TORSO), patient, pose)
    hila = vessels.draw_hila(key.create_image_rng(Topic.HILA), scene.lungs, pose.projection)
    return torso - soft_tissue.draw_recesses(patient, pose) + hila


def compute_lung_density(scene: Scene, coverage: LungCoverage) -> np.ndarray:
    """Density in the pleural cavities relative to tissue, 0 in pure air: float32 [half size, half size]."""
    rng, texture_rng = (scene.key.create_image_rng(topic) for topic in (Topic.LUNG_DENSITY, Topic.LUNG_TEXTURE))
    view_factor = AP_DENSITY_FACTOR if scene.pose.view_position == "AP" else 1.0
    density = AERATED_DENSITY * rng.uniform(0.85, 1.2) * view_factor
    texture = soft_tissue.sample_texture(texture_rng, len(coverage.total)) * np.float32(rng.uniform(0.04, 0.09))
    return density * (coverage.total + coverage.expanded * texture)


def compute_vessel_attenuation(scene: Scene, coverage: LungCoverage) -> np.ndarray:
    """Attenuation by the vessels, which hardly show where the lung has left: float32 [size, size]."""
    key, projection = scene.key, scene.pose.projection
    topics = (Topic.RIGHT_VESSEL_TREE, Topic.LEFT_VESSEL_TREE)
    trees = [vessels.grow_vessel_tree(key.create_patient_rng(topic)) for topic in topics]
    strength = key.create_image_rng(Topic.VESSEL_STRENGTH).uniform(0.7, 1.25)
    thickness = vessels.draw_vessels(scene.lungs, trees, projection, strength)
    visibility = upsample_map(np.minimum(coverage.expanded + 0.15, 1), projection.size)
    return thickness * visibility * np.float32(TISSUE_ATTENUATION)


def draw_thin_lines(scene: Scene) -> np.ndarray:
    """Attenuation by the visceral pleura and the walls of bullae: float32 [size, size]."""
    projection = scene.pose.projection
    layer = confusers.draw_bulla_walls(scene.bullae, projection)
    for lung in scene.lungs:
        lines = [projection(line) for line in pneumothorax.trace_pleural_line(lung)]
        stroke_paths(layer, lines, 0.07 * projection.scale, 200)
    return blur_to_float(layer, 0.025 * projection.scale) * (0.48 / 255)
