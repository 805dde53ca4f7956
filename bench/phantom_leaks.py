"""How well a phantom's label can be guessed without its pleura, and how clearly the pleural air stands out.

    python -m bench.phantom_leaks --count 1600        # CXR_REAL=<folder>: real radiographs, too

Prints the AUC of the label from header fields, from the 64-bin histogram and from the 32 x 32 thumbnail (folds by
patient; the better of logistic regression and gradient boosting): each should be at most .65. Contrast is the mean gray
of the mask minus that of a ring about it, 40/1024 of the image wide, in standard deviations of the whole image and of
the ring; a phantom's should lie within 20 % of the real set's.
"""

import csv
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import tyro
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cxr.imaging import rle
from cxr.imaging.geometry import box_iou
from phantom.config import PhantomConfig, default_config
from phantom.plan import PlannedImage, plan_dataset
from phantom.render import render_phantom

SIDE = 512  # contrast is measured at this size, real and phantom alike
RING = 20  # width of the ring at this size: 40 of 1024 pixels


def describe_phantom(config: PhantomConfig, item: PlannedImage) -> dict:
    """One image of the planned data set, at a size that takes a third of the time."""
    cv2.setNumThreads(0)
    phantom = render_phantom(config.seed, item.patient, item.image_number, 384, item.positive, config)
    header = [phantom.age, phantom.sex == "M", phantom.view_position == "AP"]
    return {"patient": item.patient, "box": phantom.box, **describe_image(phantom.image, phantom.mask, header)}


def describe_image(image: np.ndarray, mask: np.ndarray, header: list) -> dict:
    """Label, header, contrast, histogram, share of the mask, and thumbnail of one image."""
    return {
        "label": bool(mask.any()),
        "header": np.array(header, float),
        "contrast": measure_contrast(image, mask),
        "histogram": np.histogram(image, 64, (0, 256))[0] / image.size,
        "area": mask.mean(),
        "thumbnail": cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).ravel().astype(float),
    }


def measure_contrast(image: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Mask against the ring about it: in deviations of the image, and of the ring; nan without a mask."""
    gray = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    inside = cv2.resize(mask.astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) > 0
    if not inside.any():
        return np.nan, np.nan
    distance = cv2.distanceTransform((~inside).astype(np.uint8), cv2.DIST_L2, 5)
    ring = (distance > 0) & (distance <= RING)
    gray_step = gray[inside].mean() - gray[ring].mean()
    return float(gray_step / gray.std()), float(gray_step / gray[ring].std())


def cross_validate_auc(features: np.ndarray, label: np.ndarray, patient: np.ndarray) -> float:
    """The better of two models' cross-validated AUC; no patient in two folds."""
    n_components = min(24, features.shape[1])
    regression = LogisticRegression(C=0.1, max_iter=500, class_weight="balanced")
    boosting = HistGradientBoostingClassifier(
        max_iter=80, learning_rate=0.06, max_leaf_nodes=8, max_features=0.2, random_state=0
    )
    models = (make_pipeline(StandardScaler(), PCA(n_components), regression), boosting)
    options = {"groups": patient, "cv": GroupKFold(5), "method": "predict_proba"}
    probs = [cross_val_predict(model, features, label, **options)[:, 1] for model in models]
    return max(roc_auc_score(label, prob) for prob in probs)


def describe_radiographs(folder: Path) -> list[dict]:
    """Descriptions of the labelled radiographs of a folder in the Kaggle layout, without any of their names."""
    import pydicom

    codes, patients = defaultdict(list), {}
    for image, code in list(csv.reader((folder / "train-rle.csv").open()))[1:]:
        codes[image.strip()].append(code)
    if (folder / "patients.csv").exists():
        patients = dict(list(csv.reader((folder / "patients.csv").open()))[1:])
    rows = []
    for path in sorted((folder / "dicom-images-train").rglob("*.dcm")):
        if path.stem in codes:
            image = pydicom.dcmread(path)
            header = [float(image.PatientAge.strip("Y") or 50), image.PatientSex == "M", image.ViewPosition == "AP"]
            mask = rle.decode_union(codes[path.stem], image.Rows, image.Columns)
            patient = int(patients.get(path.stem, len(rows)))
            rows.append({"patient": patient, **describe_image(image.pixel_array, mask, header)})
    return rows


def print_figures(name: str, rows: list[dict]) -> None:
    """Print the figures of a set of descriptions."""
    columns = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    label = columns["label"]
    print(f"{name}: {len(rows)} images, {label.mean():.1%} positive")
    for key in ("header", "histogram", "thumbnail"):
        print(f"  label AUC from {key:<9}  {cross_validate_auc(columns[key], label, columns['patient']):.3f}")
    contrasts = columns["contrast"][label]
    standard_errors = contrasts.std(0) / len(contrasts) ** 0.5
    for unit, mean, error in zip(("image", "ring"), contrasts.mean(0), standard_errors, strict=True):
        print(f"  mask against its ring     {mean:+.3f} ± {error:.3f} SD of the {unit}")
    shares = 100 * np.percentile(columns["area"][label], [0, 10, 50, 90, 100])
    print("  mask's share, %           " + " ".join(f"{share:.2f}" for share in shares))
    if "box" in columns:
        print(f"  IoU of the mean box       {box_iou(columns['box'], columns['box'].mean(0)).mean():.3f}")


def main(count: int = 1600, seed: int = 11) -> None:
    """Measure `count` phantoms, and the real set where CXR_REAL names one."""
    config = default_config().model_copy(update={"train": count, "test": 0, "seed": seed})
    with ProcessPoolExecutor() as pool:
        print_figures("phantoms", list(pool.map(partial(describe_phantom, config), plan_dataset(config), chunksize=8)))
    if os.environ.get("CXR_REAL"):
        print_figures("real", describe_radiographs(Path(os.environ["CXR_REAL"])))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
