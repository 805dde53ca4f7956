"""One phantom from three numbers: a scene, its attenuation, the exposure. See README.md for what each file adds."""

from dataclasses import dataclass

import numpy as np

from phantom import devices, exposure
from phantom.anatomy import Pose
from phantom.attenuation import compute_attenuation
from phantom.config import PhantomConfig, default_config
from phantom.lungs import Lung
from phantom.scene import Scene, sample_scene
from phantom.topics import ImageKey, Topic


@dataclass(frozen=True)
class Phantom:
    """One computed radiograph with its truth."""

    image: np.ndarray  # uint8 [size, size], air dark
    mask: np.ndarray  # bool [size, size], the pleural air
    box: tuple[float, float, float, float]  # of the chest: xmin, ymin, xmax, ymax in pixels
    age: int  # years
    sex: str  # F or M
    view_position: str  # PA or AP
    has_chest_tube: bool
    kind: str  # '', or apical, lateral, basal, tension; two joined by '+'

    @property
    def positive(self) -> bool:
        """Whether there is a pneumothorax."""
        return bool(self.mask.any())


def render_phantom(
    seed: int,
    patient_number: int,
    image_number: int,
    size: int = 1024,
    positive: bool | None = None,
    config: PhantomConfig | None = None,
) -> Phantom:
    """One image of a patient; the same arguments give the same phantom.

    seed: of the set of patients, 0 upwards
    patient_number, image_number: which patient, and which of the patient's images, 0 upwards
    size: side of the image in pixels; another size gives the same picture but for the noise
    positive: overrides the drawn label (True: with a pneumothorax), all else stays the same
    config: shares and rates; those of config.yaml by default
    """
    scene = sample_scene(ImageKey(seed, patient_number, image_number), size, positive, config or default_config())
    device_rng, patient, pose = scene.key.create_image_rng(Topic.DEVICES), scene.patient, scene.pose
    device_attenuation, drawn_devices = devices.draw_devices(device_rng, patient, pose)
    return Phantom(
        expose_image(scene, compute_attenuation(scene, device_attenuation)), scene.mask,
        compute_chest_box(scene.lungs, pose), patient.age, patient.sex, pose.view_position,
        devices.draw_chest_tube in drawn_devices, "+".join(air.kind for air in scene.pneumothoraces),
    )  # fmt: skip


def expose_image(scene: Scene, attenuation: np.ndarray) -> np.ndarray:
    """Exposure, display and borders for an attenuation [size, size]: uint8 [size, size]."""
    rng, size, config = scene.key.create_image_rng(Topic.EXPOSURE), len(attenuation), scene.config
    is_bedside = scene.pose.view_position == "AP"
    signal = exposure.compute_detector_signal(rng, attenuation, is_bedside, config.noise)
    margin = int(0.08 * size)  # chosen by eye: what lies there does not set the display curve
    picture = exposure.apply_display_curve(rng, signal, (slice(margin, size - margin), slice(margin, size - margin)))
    picture = exposure.sharpen_picture(picture, rng.uniform(0.0, 0.5))
    exposure.draw_markers(rng, picture, scene.pose)
    exposure.draw_collimation(rng, picture, config.collimation)
    return np.clip(picture, 0, 255).astype(np.uint8)


def compute_chest_box(lungs: list[Lung], pose: Pose) -> tuple[float, float, float, float]:
    """The box a reader draws: the rib cage from the apices to the costophrenic angles, cut at the image's border."""
    points = np.concatenate([pose.projection(lung.cavity) for lung in lungs])
    margin = 0.8 * pose.projection.scale  # cm, chosen by eye
    low, high = points.min(0) - margin, np.add(points.max(0), (margin, 0.6 * margin))
    size = pose.projection.size
    return tuple(float(edge) for edge in np.clip([*low, *high], 0, size))
