"""What every training shares, without a framework: settings, schedule, state, crops, augmentation, start weights."""
