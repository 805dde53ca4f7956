"""The dataset doctor: everything about a data folder that would spoil a run, before anything is prepared."""
