"""Row-wise relations as programs of mmflow's own kernel, where these compute what DataFusion does."""
