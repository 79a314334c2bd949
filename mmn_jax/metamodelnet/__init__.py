"""MetaModelNet: banks of k-shot heads, the regressor, its back-to-front training, and the transfer of rows."""
