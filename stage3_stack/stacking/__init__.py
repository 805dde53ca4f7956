"""Stackers on the members' out-of-fold features, cross-fitted and calibrated."""
