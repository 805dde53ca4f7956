"""What results are measured with: metrics, their intervals, subgroups, differences between runs, leakage."""
