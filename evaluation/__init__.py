"""What results are measured with: metrics, their intervals, subgroups, differences between runs, leakage.

panel.py                 every metric of a run's cases with its interval, for all images and by subgroup
metric_list.py           the list of metrics: each one's kind of interval and the patients that it rests on
  ratios.py              metrics that are a ratio of two sums over images: means, rates, Dice  <- add a mean or a rate
  ranking.py             AUC, average precision, points of the ROC curve      <- add a metric of the ranking
  calibration_error.py   expected calibration error, the one metric with an interval of its own
mask_metrics.py          one predicted mask compared with the true one: the columns that ratios.py takes means of
metrics.py               plain metrics of one sample, without interval, for training, validation and stage 3's choices
intervals.py             the interval of a metric from its resamples
resampling.py            resamples of the patients
subgroups.py             view, sex, age, size of the pneumothorax, chest tube
paired_differences.py    two models on the same images
leakage.py               are held-out patients, or copies of held-out images, in training too?

CONTRIBUTING.md, 'Add a metric', lists the steps.
"""
