"""How data flows through a model, found without running it on data: what stages and cuts are made from."""
