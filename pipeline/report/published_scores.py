"""Published results on this task, as points of the ROC curve; each is on other images."""

PUBLISHED_POINTS = {
    "rank 47 (dw_hwang), stack": (0.9475, 0.921),
    "a U-Net EfficientNet-B4": (0.932, 0.802),
    "cleared product, AUC .961": (0.932, 0.843),
    "cleared product, AUC .975": (0.880, 0.947),
}
"""Name -> (specificity, sensitivity), as their authors or makers report them."""
