"""Words that the closing table, decision.json and the pipeline's report share."""

STACKER_TITLES = {
    "mean": "mean of the members' logits", "logistic": "logistic stack of the logits", "lightgbm": "LightGBM",
    "dense": "dense head on their features",
}  # fmt: skip
"""The stackers as tables call them, in their order."""
NESTING_NOTES = {
    "fold": "the other folds' networks, by which it was chosen, saw the images that it judges",
    "subfold": "the heads that scored the other subfolds, by which it was chosen, were trained with the labels of the "
    "images that it judges; no other network was used",
}
"""Why the scores under a decision that is nested by fold or subfold are not those of entirely unseen images."""
SHORT_NESTING_NOTES = {
    "fold": "the networks of the other folds saw",
    "subfold": "the heads of the other subfolds saw",
}
"""The same for the closing table, before 'the images by which they are judged'."""
