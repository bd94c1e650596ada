"""How good a network is: metrics, baselines, tables, the paper's figures, the report."""
